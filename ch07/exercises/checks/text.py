"""Exercises 1 and 2, the text of a prompt and the token ids of a row."""

from collections.abc import Callable, Sequence
from typing import Any

import tiktoken

from ch07.data.tokenizer import load_tokenizer
from ch07.exercises.checks.common import call_without_mutation, describe
from ch07.exercises.learner_code import KnownError, call_function
from ch07.exercises.mistake import Mistake, expect
from collate import END_OF_TEXT
from instruction_dataset import PREAMBLE, RESPONSE_HEADER, InstructionDataset, format_input

Entry = dict[str, Any]
FIRST_LINE = PREAMBLE.split("\n")[0]
WITHOUT_INPUT: Entry = {"instruction": "Name a colour.", "input": "", "output": "Red"}
WITH_INPUT: Entry = {"instruction": "Add the numbers.", "input": "2 and 3", "output": "It is 5."}
UNUSUAL: list[tuple[str, Entry]] = [  # what is special about an entry, and the entry
    ('an entry without the key "input"', {"instruction": "Name a colour.", "output": "Red"}),
    ("an input of white space only", {**WITHOUT_INPUT, "input": " \n"}),
    ("an input of None", {**WITHOUT_INPUT, "input": None}),
    ("another input for the same instruction", {**WITH_INPUT, "input": "4 and 5"}),
    ("an entry without an output", {"instruction": "Sing.", "input": "la"}),
    (
        "text of several lines",
        {"instruction": " one:\n\n  two %s", "input": "a \n b ", "output": ""},
    ),
]
WITH_BRACES: Entry = {
    **WITH_INPUT,
    "instruction": "Fill {this} and {0} in.",
    "input": "{} {input}",
}
BRACES = Mistake(
    "format-braces",
    "Curly braces in the user's text are treated as placeholders, because the text is formatted a "
    "second time. Insert the user's text once, and last.",
)
SPECIAL_TOKEN = "<|endoftext|>"
SPECIAL_TOKEN_TYPED = Mistake(
    "dataset-special-token-in-text",
    f"A user who types {SPECIAL_TOKEN} must get ordinary tokens, but here the row contains the "
    "special token 50256, loses the words, or raises an error. Use encode_ordinary.",
)


def check_format(function: Callable[..., Any]) -> None:
    """Exercise 1."""
    for entry in (WITHOUT_INPUT, WITH_INPUT):
        _name_wrong_prompt(_prompt(function, entry), entry)
    for case, entry in UNUSUAL:
        text = _prompt(function, entry, case)
        _name_wrong_prompt(text, entry, case)
    any_format_error = KnownError((KeyError, IndexError, ValueError), ("",), BRACES)
    text = _prompt(function, WITH_BRACES, known=[any_format_error])
    expect(text == format_input(WITH_BRACES), BRACES.diagnosis, BRACES.sentence)


def _prompt(
    function: Callable[..., Any], entry: Entry, case: str = "", known: Sequence[KnownError] = ()
) -> str:
    """The text for an entry, which must stay as it is."""
    text = call_without_mutation(
        function, entry, consequence="the caller's entry.", case=case, known=known
    )
    expect(isinstance(text, str), "no-text", f"Expected a string, but got {describe(text)}.")
    return text


def prompt_table(text: str, expected: str) -> str:
    """Two texts, one below the other."""
    return f"returned {text!r}\nexpected {expected!r}"


def _name_wrong_prompt(text: str, entry: Entry, case: str = "") -> None:
    """Name the way in which a prompt is wrong, if it is."""
    expected = format_input(entry)
    if text == expected:
        return
    table = prompt_table(text, expected)
    _name_wrong_parts(text, entry, table)
    _name_wrong_white_space(text, expected, table)
    if case:
        raise Mistake("format-unusual", f"With {case} the text is wrong.", table)
    raise Mistake("format-wrong", "The text is not as described.", table)


def _name_wrong_parts(text: str, entry: Entry, table: str) -> None:
    answer = entry.get("output")
    user_input = (entry.get("input") or "").strip()
    expect(
        not answer or answer not in text,
        "format-answer-in-prompt",
        "The prompt contains the answer: the model would be shown what it is meant to write.",
        table,
    )
    expect(
        "### Input" not in text or bool(user_input),
        "format-empty-input-section",
        "The input's header is written although the input is empty: the model sees a section with "
        "nothing in it, and such prompts differ from those that it will be asked.",
        table,
    )
    expect(
        "Response:" not in text,
        "format-response-header",
        "The response header is not part of this text: the dataset adds it.",
        table,
    )
    expect(FIRST_LINE in text, "format-preamble", "The preamble's words are not as given.", table)
    expect(
        user_input in text,
        "format-no-input",
        "The input is missing from the text: the model can't know what to work on.",
        table,
    )


def _name_wrong_white_space(text: str, expected: str, table: str) -> None:
    if "".join(text.split()) != "".join(expected.split()):
        return  # the words differ, too
    indented = [line for line in text.splitlines() if line.startswith((" ", "\t"))]
    expect(
        not indented or any(line in expected for line in indented),
        "format-indented-template",
        "Lines of the prompt are indented: a triple-quoted string keeps its own indentation, so "
        "the model would be asked in another format than it was trained on.",
        table,
    )
    raise Mistake(
        "format-missing-newline",
        "The words are right, but the white space between them is not: blank lines and line breaks "
        "are tokens, too, and the model is trained on one format only.",
        table,
    )


def check_dataset(function: Callable[..., Any]) -> None:
    """Exercise 2."""
    tokenizer = load_tokenizer()
    data = [WITHOUT_INPUT, WITH_INPUT, {**WITHOUT_INPUT, "output": "Blue, or green."}]
    counting = _CountingTokenizer(tokenizer)
    dataset = _make_dataset(function, data, counting)
    calls = counting.calls
    for _ in range(2):  # epochs
        _check_rows(dataset, data, tokenizer)
    expect(
        calls > 0 and counting.calls == calls,
        "dataset-tokenizes-late",
        "Rows are tokenized each time that they are read. Do it once, in __init__: then no epoch "
        "pays for it, and a faulty row shows at once.",
    )
    long_rows = [{**WITHOUT_INPUT, "output": "many words " * 900}, {**WITH_INPUT, "output": "5  "}]
    other_data = [*long_rows, *long_rows, WITHOUT_INPUT]
    other = _make_dataset(function, other_data, tokenizer)
    _check_rows(other, other_data, tokenizer)
    _check_rows(dataset, data, tokenizer)  # the second dataset must not change the first
    _check_typed_special_token(function, tokenizer)


def _make_dataset(function: Callable[..., Any], data: list[Entry], tokenizer: Any) -> Any:
    return call_without_mutation(function, data, tokenizer, consequence="the caller's entries.")


def _check_rows(dataset: Any, data: list[Entry], tokenizer: tiktoken.Encoding) -> None:
    length = call_function(len, dataset)
    expect(
        length == len(data),
        "dataset-length",
        f"len(dataset) is {length}, but there are {len(data)} entries.",
    )
    reference = InstructionDataset(data, tokenizer)
    for i, entry in enumerate(data):
        ids = call_function(lambda i=i: dataset[i])
        expect(
            isinstance(ids, list) and all(isinstance(token_id, int) for token_id in ids),
            "dataset-no-list",
            f"dataset[{i}] should be a list of ints, but is {describe(ids)}.",
        )
        if ids != reference[i]:
            _name_wrong_row(ids, entry, tokenizer)


def _name_wrong_row(ids: list[int], entry: Entry, tokenizer: tiktoken.Encoding) -> None:
    """Name the way in which a row is wrong."""
    text = tokenizer.decode(ids)
    table = prompt_table(text, format_input(entry) + RESPONSE_HEADER + entry["output"])
    expect(
        END_OF_TEXT not in ids,
        "dataset-end-twice",
        "The row already ends in an end-of-text token: collate adds one, so the model would learn "
        "to write it twice.",
        table,
    )
    expect(
        entry["output"].strip() in text,
        "dataset-no-answer",
        "The answer, or a part of it, is missing from the row: it can't be learned.",
        table,
    )
    expect(
        "### Response:" in text,
        "dataset-no-response-header",
        "The response header is missing: at inference, nothing tells the model to answer.",
        table,
    )
    raise Mistake("dataset-wrong-ids", "The row is not as described.", table)


def _check_typed_special_token(function: Callable[..., Any], tokenizer: tiktoken.Encoding) -> None:
    """A user may type the special token's name, in a question or in an answer."""
    refused = KnownError((ValueError,), ("disallowed special token",), SPECIAL_TOKEN_TYPED)
    for entry in (
        {**WITHOUT_INPUT, "instruction": f"What is {SPECIAL_TOKEN}?"},
        {**WITHOUT_INPUT, "output": SPECIAL_TOKEN},
    ):
        dataset = call_function(function, [entry], tokenizer, known=[refused])
        ids = call_function(lambda dataset=dataset: dataset[0], known=[refused])
        expect(
            ids == InstructionDataset([entry], tokenizer)[0],
            SPECIAL_TOKEN_TYPED.diagnosis,
            SPECIAL_TOKEN_TYPED.sentence,
        )


class _CountingTokenizer:
    """A tokenizer that counts how often its encode methods are used."""

    def __init__(self, tokenizer: tiktoken.Encoding) -> None:
        self.wrapped = tokenizer
        self.calls = 0

    def __getattr__(self, name: str) -> Any:
        if name.startswith("encode"):
            self.calls += 1
        return getattr(self.wrapped, name)
