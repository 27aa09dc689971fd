"""Exercises 1 and 2, the text of a prompt and the ids of a row: what is checked and said."""

import copy

from ch07.exercises.batch_checks import kind
from ch07.exercises.findings import Mistake, call, expect
from ch07.tokenizer import load_tokenizer
from instruction_dataset import PREAMBLE, RESPONSE_HEADER, InstructionDataset, format_input

PREAMBLE = PREAMBLE.split("\n")[0]
ASKED = {"instruction": "Name a colour.", "input": "", "output": "Red"}
WITH_INPUT = {"instruction": "Add the numbers.", "input": "2 and 3", "output": "It is 5."}
END = 50256


def check_format(function):
    """Exercise 1."""
    for entry in (ASKED, WITH_INPUT):
        mine = copy.deepcopy(entry)
        text = call(function, mine)
        expect(isinstance(text, str), "no-text", f"Expected a string, got {kind(text)}.")
        expect(mine == entry, "batch-mutated", "Your function changed the caller's entry.")
        _compare(text, format_input(entry), entry)
    entry = {key: value for key, value in ASKED.items() if key != "input"}
    text = call(function, entry, case='an entry without the key "input"')
    _compare(text, format_input(entry), entry)
    entry = {**ASKED, "input": " \n"}
    text = call(function, entry, case="an input of white space alone")
    _compare(text, format_input(entry), entry)
    entry = {**WITH_INPUT, "instruction": "Fill {this} and {0} in.", "input": "{} {input}"}
    braces = "User text with curly braces is formatted a second time"
    known = (("",), Mistake("format-braces", f"{braces}, and fails: put it in once, last."))
    text = call(function, entry, known=[known])
    expect(text == format_input(entry), "format-braces", f"{braces}: {text[-80:]!r}.")


def _compare(text, expected, entry):
    """Name the way in which a prompt is different."""
    table = lambda: f"returned {text!r}\nexpected {expected!r}"  # noqa: E731
    if text == expected:
        return
    answer = entry["output"]
    expect(
        answer not in text,
        "format-answer-in-prompt",
        "The answer stands in the prompt: the model would be shown what it has to say.",
        table,
    )
    expect(
        "Input" not in text or entry.get("input", "").strip(),
        "format-empty-input-section",
        "The input's header is written although the input is empty: the model sees a section "
        "with nothing in it, and half of all prompts look different from what they should.",
        table,
    )
    expect(
        "Response" not in text,
        "format-response-header",
        "The response header belongs to the dataset, behind this text.",
        table,
    )
    expect(
        PREAMBLE in text,
        "format-preamble",
        "The preamble's words are not as given.",
        table,
    )
    indented = any(line != line.lstrip() for line in text.splitlines())
    expect(
        not indented,
        "format-indented-template",
        "Lines of the prompt are indented: a triple-quoted string keeps its own indentation, so "
        "the model is asked in another form than it was taught.",
        table,
    )
    expect(
        "".join(text.split()) != "".join(expected.split()),
        "format-missing-newline",
        "The words are right, but not the white space between them: blank lines and line ends "
        "are tokens, too, and the model is taught one form only.",
        table,
    )
    raise Mistake("format-wrong", "The text is not as described.", table())


def check_dataset(function):
    """Exercise 2."""
    tokenizer = load_tokenizer()
    data = [dict(ASKED), dict(WITH_INPUT), {**ASKED, "output": "Blue, or green."}]
    counting = _Counting(tokenizer)
    dataset = call(function, data, counting)
    calls = counting.calls
    length = call(len, dataset)
    expect(length == 3, "dataset-length", f"len(dataset) is {length}, but there are 3 entries.")
    for i, expected in enumerate(InstructionDataset(data, tokenizer).token_ids):
        ids = call(dataset.__getitem__, i)
        expect(
            isinstance(ids, list) and all(isinstance(token_id, int) for token_id in ids),
            "dataset-no-list",
            f"dataset[{i}] should be a list of token ids, but is {str(ids)[:80]}.",
        )
        _compare_ids(ids, expected, data[i], tokenizer)
    expect(
        calls > 0 and counting.calls == calls,
        "dataset-tokenizes-late",
        "Rows are tokenized each time that they are asked for: every epoch does it again. Do it "
        "once, in __init__.",
    )
    typed = {**ASKED, "instruction": "What does <|endoftext|> mean?"}
    special = (
        "A user who types <|endoftext|> gets the special token 50256 into the row (or an error): "
        "it would tell the model that the text is over. Use encode_ordinary."
    )
    known = (("disallowed special token", "endoftext"), Mistake(_SPECIAL, special))
    ids = call(call(function, [typed], tokenizer, known=[known]).__getitem__, 0, known=[known])
    expect(END not in ids, _SPECIAL, special)


_SPECIAL = "dataset-special-token-in-text"


def _compare_ids(ids, expected, entry, tokenizer):
    """Name the way in which a row is different."""
    text = tokenizer.decode(ids)
    right = format_input(entry) + RESPONSE_HEADER + entry["output"]
    table = lambda: f"returned {text!r}\nexpected {right!r}"  # noqa: E731
    expect(
        END not in ids,
        "dataset-end-twice",
        "The row holds an end-of-text token already: collate adds one, so the model would be "
        "taught to say it twice.",
        table,
    )
    expect(
        "### Response:" in text or text == right,
        "dataset-no-answer" if entry["output"] not in text else "dataset-no-response-header",
        "The answer is not part of the row: there is nothing to learn."
        if entry["output"] not in text
        else "The response header is missing: at inference, nothing tells the model to answer.",
        table,
    )
    expect(
        entry["output"] in text,
        "dataset-no-answer",
        "The answer is not part of the row: there is nothing to learn.",
        table,
    )
    expect(ids == expected, "dataset-wrong-ids", "The row's text is not as described.", table)


class _Counting:
    """A tokenizer that counts how often it is called."""

    def __init__(self, tokenizer):
        self.tokenizer, self.calls = tokenizer, 0

    def __getattr__(self, name):
        self.calls += name.startswith("encode")
        return getattr(self.tokenizer, name)
