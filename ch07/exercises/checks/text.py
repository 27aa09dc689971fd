"""Exercises 1 and 2, the text of a prompt and the ids of a row: what is checked and said."""

import copy

from ch07.data.tokenizer import load_tokenizer
from ch07.exercises.checks.collate_common import kind
from ch07.exercises.report import Mistake, call_function, expect
from collate import END_OF_TEXT as END
from instruction_dataset import PREAMBLE, RESPONSE_HEADER, InstructionDataset, format_input

FIRST_LINE = PREAMBLE.split("\n")[0]
ASKED = {"instruction": "Name a colour.", "input": "", "output": "Red"}
WITH_INPUT = {"instruction": "Add the numbers.", "input": "2 and 3", "output": "It is 5."}
UNUSUAL = [  # what is special, and an entry
    ('an entry without the key "input"', {"instruction": "Name a colour.", "output": "Red"}),
    ("an input of white space alone", {**ASKED, "input": " \n"}),
    ("an input of None", {**ASKED, "input": None}),
    ("another input for the same instruction", {**WITH_INPUT, "input": "4 and 5"}),
    ("an entry without an output", {"instruction": "Sing.", "input": "la"}),
    (
        "text of several lines",
        {"instruction": " one:\n\n  two %s", "input": "a \n b ", "output": ""},
    ),
]


def check_format(function):
    """Exercise 1."""
    for entry in (ASKED, WITH_INPUT):
        _compare(_text(function, entry), format_input(entry), entry)
    for case, entry in UNUSUAL:
        text, expected = _text(function, entry, case), format_input(entry)
        if text != expected:
            _compare(text, expected, entry)
            raise Mistake("format-unusual", f"On {case} the text is wrong.", _table(text, expected))
    entry = {**WITH_INPUT, "instruction": "Fill {this} and {0} in.", "input": "{} {input}"}
    sentence = "User text with curly braces is formatted a second time: put it in once, last."
    broken = Mistake("format-braces", sentence)
    known = [((KeyError, IndexError, ValueError), ("",), broken)]
    expect(_text(function, entry, known=known) == format_input(entry), "format-braces", sentence)


def _text(function, entry, case="", known=()):
    """The text for an entry that must come back unchanged."""
    mine = copy.deepcopy(entry)
    text = call_function(function, mine, case=case, known=known)
    expect(isinstance(text, str), "no-text", f"Expected a string, got {kind(text)}.")
    expect(mine == entry, "batch-mutated", "Your function changed the caller's entry.")
    return text


def _table(text, expected):
    return f"returned {text!r}\nexpected {expected!r}"


def _compare(text, expected, entry):
    """Name the way in which a prompt is different."""
    if text == expected:
        return
    table, answer, given = _table(text, expected), entry.get("output"), entry.get("input") or ""
    words, wanted = "".join(text.split()), "".join(expected.split())
    expect(
        not answer or answer not in text,
        "format-answer-in-prompt",
        "The answer stands in the prompt: the model would be shown what it has to say.",
        table,
    )
    expect(
        "### Input" not in text or given.strip(),
        "format-empty-input-section",
        "The input's header is written although the input is empty: the model sees a section "
        "with nothing in it, and half of all prompts look different from what they should.",
        table,
    )
    expect(
        "Response:" not in text,
        "format-response-header",
        "The response header belongs to the dataset, behind this text.",
        table,
    )
    expect(FIRST_LINE in text, "format-preamble", "The preamble's words are not as given.", table)
    expect(
        given.strip() in text,
        "format-no-input",
        "The input is not part of the text: the model can't know what to work on.",
        table,
    )
    indented = [line for line in text.splitlines() if line.startswith((" ", "\t"))]
    expect(
        words != wanted or not indented or any(line in expected for line in indented),
        "format-indented-template",
        "Lines of the prompt are indented: a triple-quoted string keeps its own indentation, so "
        "the model is asked in another form than it was taught.",
        table,
    )
    expect(
        words != wanted,
        "format-missing-newline",
        "The words are right, but not the white space between them: blank lines and line ends "
        "are tokens, too, and the model is taught one form only.",
        table,
    )
    raise Mistake("format-wrong", "The text is not as described.", table)


def check_dataset(function):
    """Exercise 2."""
    tokenizer = load_tokenizer()
    data = [dict(ASKED), dict(WITH_INPUT), {**ASKED, "output": "Blue, or green."}]
    counting = _Counting(tokenizer)
    dataset = _made(function, data, counting)
    calls = counting.calls
    for _ in range(2):  # epochs
        _check_rows(dataset, data, tokenizer)
    expect(
        calls > 0 and counting.calls == calls,
        "dataset-tokenizes-late",
        "Rows are tokenized when they are asked for. Do it once, in __init__: then no epoch pays "
        "for it, and a faulty row shows at once.",
    )
    long = [{**ASKED, "output": "many words " * 900}, {**WITH_INPUT, "output": "5  "}] * 2
    other = _made(function, [*long, dict(ASKED)], tokenizer)
    _check_rows(other, [*long, dict(ASKED)], tokenizer)
    _check_rows(dataset, data, tokenizer)  # the first one knows nothing of the second
    _check_typed(function, tokenizer)


def _made(function, data, tokenizer):
    mine = copy.deepcopy(data)
    dataset = call_function(function, mine, tokenizer)
    expect(mine == data, "batch-mutated", "Your dataset changed the caller's entries.")
    return dataset


def _check_rows(dataset, data, tokenizer):
    length = call_function(len, dataset)
    expect(
        length == len(data),
        "dataset-length",
        f"len(dataset) is {length}, but there are {len(data)} entries.",
    )
    for i, expected in enumerate(InstructionDataset(data, tokenizer)):
        ids = call_function(lambda i=i: dataset[i])
        expect(
            isinstance(ids, list) and all(isinstance(token_id, int) for token_id in ids),
            "dataset-no-list",
            f"dataset[{i}] should be a list of whole numbers, but is {kind(ids)}.",
        )
        if ids != expected:
            _compare_ids(ids, data[i], tokenizer)


def _compare_ids(ids, entry, tokenizer):
    """Name the way in which a row is different."""
    text = tokenizer.decode(ids)
    table = _table(text, format_input(entry) + RESPONSE_HEADER + entry["output"])
    expect(
        END not in ids,
        "dataset-end-twice",
        "The row holds an end-of-text token already: collate adds one, so the model would be "
        "taught to say it twice.",
        table,
    )
    expect(
        entry["output"].strip() in text,
        "dataset-no-answer",
        "The answer, or a part of it, is missing in the row: it can't be learned.",
        table,
    )
    expect(
        "### Response:" in text,
        "dataset-no-response-header",
        "The response header is missing: at inference, nothing tells the model to answer.",
        table,
    )
    raise Mistake("dataset-wrong-ids", "The row is not as described.", table)


def _check_typed(function, tokenizer):
    """A user may type the special token's name, in a question or in an answer."""
    typed = "<|endoftext|>"
    name = "dataset-special-token-in-text"
    sentence = (
        f"A user who types {typed} must get ordinary tokens, but here the row held the special "
        "token 50256, lost the words, or raised an error. Use encode_ordinary."
    )
    known = [(ValueError, ("disallowed special token",), Mistake(name, sentence))]
    for entry in ({**ASKED, "instruction": f"What is {typed}?"}, {**ASKED, "output": typed}):
        dataset = call_function(function, [entry], tokenizer, known=known)
        ids = call_function(lambda dataset=dataset: dataset[0], known=known)
        expect(ids == InstructionDataset([entry], tokenizer)[0], name, sentence)


class _Counting:
    """A tokenizer that counts how often it is called."""

    def __init__(self, tokenizer):
        self.wrapped, self.calls = tokenizer, 0

    def __getattr__(self, name):
        self.calls += name.startswith("encode")
        return getattr(self.wrapped, name)
