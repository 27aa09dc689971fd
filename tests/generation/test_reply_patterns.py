"""What is done with a model's reply takes time in proportion to its length, whatever is in it."""

import re
import time
import unicodedata
from contextlib import suppress

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ch07.evaluation.judge_scores import parse_score
from ch07.evaluation.metrics import words
from ch07.generation.completion import Completion, CompletionError, finished_completion
from ch07.generation.http_backend import _seconds_to_wait
from ch07.generation.key_mask import key_mask
from ch07.generation.server_protocols import TransientError, read_openai
from ch07.generation.thoughts import ANY_OPENING, CLOSING, OPENING, drop_thoughts
from ch07.systems.synthetic_data.reflection import bracketed_block
from ch07.systems.synthetic_data.self_instruct import post_process_response, split_at_headers
from ch07.systems.synthetic_data.self_instruct_stages import (
    OUTPUT_HEADER,
    parse_instances,
    parse_instructions,
    parse_labelled_instances,
)
from ch07.utils.unicode_text import compose

KEY = "sk-AbCdEf0123456789"


def bare(text, finish_reason="stop"):
    """A completion whose text was not looked at yet, so that only one parser is measured."""
    completion = object.__new__(Completion)
    object.__setattr__(completion, "text", text)
    object.__setattr__(completion, "finish_reason", finish_reason)
    return completion


def read(text):
    with suppress(CompletionError, TransientError):
        read_openai(text)


PARSERS = {
    "score": parse_score,
    "thoughts": drop_thoughts,
    "completion": lambda text: finished_completion(text, "stop", ["\n\n", "21."]),
    "block": lambda text: bracketed_block(text, "New Answer"),
    "tasks": lambda text: post_process_response(3, bare(text)),
    "tasks as in the original": lambda text: post_process_response(3, bare(text), strict=False),
    "instructions": lambda text: parse_instructions(bare(text)),
    "instances": lambda text: parse_instances(bare(text)),
    "labelled instances": lambda text: parse_labelled_instances(bare(text)),
    "words": words,
    "answer": read,
    "wait": _seconds_to_wait,
    "key": key_mask(KEY),
}
REPEATED = {
    "score": [
        "score",
        "score ",
        "score it is the answer to ",
        "score (out of ",
        "score: ",
        "final ",
        "overall_",
        "grade it is ",
        "grade a",
        "1\n",
        "\n(",
        "\n1 of 1",
        " 1 to",
        "out of ",
        "rating: ",
        "1",
        "1.",
        "1/1 ",
        "1 - ",
        "1 out of ",
        "*",
        ":",
        "85 ",
        "= ",
        "say ",
        "verdict: ",
        "a about ",
        '"feedback": ',
        "\\",
        '"',
        '{"a":',
    ],
    "thoughts": ["<think></think>", "<think>", "</think>", "[THINK]\n[/THINK]", "</think><think>"],
    "completion": ["<think></think>", "\n", "21", "\ud800"],
    "block": ["[New Answer]", "[", "\nNew Answer", "[End", "\n1"],
    "tasks": ["4. Instruction:", "\n4. ", "\n## ", "#", " #", "\n4. Output:", "4", "\n 4"],
    "tasks as in the original": ["###", "###a", "4.", "4. ", "4. Input:"],
    "instructions": ["\n1", "\n1. ", "1"],
    "instances": ["Output", "Output ", "Example", "Example 1", "Input 1", "Output: Input"],
    "labelled instances": ["Class label:", "Class label:\n", "\n"],
    "words": ["a", "a-", "-1", "+", "\u0301\u0327", "\u0327\u0301", "e\u0301"],
    "answer": ['{"a":', "[", '"', "\\", '\\"', '"\\', "{}"],
    "wait": ["1", "Mon, ", "1 ", ":"],
    "key": [KEY, KEY[:-1], "s", "\\", "\\u0073", "%25", "%", "&amp;", "&#0", "73", "c2s"],
}
COMMON = ["a", " ", "\n", "1", "<", "[", "("]
BEGINNINGS = {
    "score": ["score", "score is", "1.", "I would say ", '{"feedback": "', '{"score": '],
    "thoughts": ["<think>"],
    "block": ["[New Answer]"],
    "tasks": ["4. Instruction: a b c d\n4. Input:x\n4. Output:y\n"],
    "instances": ["Example 1\nOutput", "Input", "Example 1\nInput"],
    "answer": ['{"choices": "', '{"error": {"message": "'],
    "key": ["s", KEY[:-1]],
}
SHORT = 5_000  # characters
# Where a quadratic time is that of copying, which only shows for long texts.
SHORT_OF = {"thoughts": 50_000, "completion": 50_000}
LONGER = 8  # times as long: a linear pattern takes 8 times as long, a quadratic one 64 times
UNMEASURABLE = 0.02  # seconds: whatever takes less for the longer text is fast enough


def seconds(function, text):
    """The shortest of three times, each of this process alone: others may be busy."""
    times = []
    for _ in range(3):
        start = time.process_time()
        function(text)
        times.append(time.process_time() - start)
    return min(times)


@pytest.mark.parametrize("name", PARSERS)
def test_the_time_grows_in_proportion(name):
    parse = PARSERS[name]
    length = SHORT_OF.get(name, SHORT)
    for beginning in ["", *BEGINNINGS.get(name, [])]:
        for piece in REPEATED[name] + COMMON:
            short = beginning + piece * (length // len(piece)) + "!"
            long = beginning + piece * (LONGER * length // len(piece)) + "!"
            longer = seconds(parse, long)
            if longer > UNMEASURABLE:
                assert longer < 3 * LONGER * seconds(parse, short), (beginning, piece)


# --- the same result as the plainer patterns, which are slow ------------------------------------

PLAIN_OUTPUT_HEADER = r"Output\s*\d*\s*:"


@settings(max_examples=200)
@given(st.lists(st.sampled_from(["Output", " ", "1", "\n", ":", "a"]), max_size=12).map("".join))
def test_the_header_of_an_output_is_the_plain_patterns(text):
    assert re.split(OUTPUT_HEADER, text) == re.split(PLAIN_OUTPUT_HEADER, text)


TASK_PIECES = ["4", ".", " ", "Input:", "Output:", "4. Input:", "14. Output:", "a", "\n"]


@settings(max_examples=200)
@given(st.lists(st.sampled_from(TASK_PIECES), max_size=12).map("".join))
def test_headers_with_a_number_are_the_plain_patterns(text):
    plain = re.split(r"4\.\s+(?:Instruction|Input|Output):", text)
    assert split_at_headers(text, "4") == plain


@given(st.text(alphabet="e\u0301\u0327a ", max_size=30))
def test_at_most_30_marks_on_a_letter_are_composed_as_ever(text):
    assert compose(text) == unicodedata.normalize("NFC", text)


def thoughts_dropped_one_by_one(text):
    """`drop_thoughts`, with a copy of the rest of the text after each thought."""
    while opening := OPENING.match(text):
        name = opening[1] or opening[2]
        closing = re.search(rf"[<\[]/{name}[>\]]", text[opening.end() :], re.IGNORECASE)
        if closing is None:
            return ""
        text = text[opening.end() + closing.end() :].lstrip()
    closing = CLOSING.search(text)
    if closing is not None and not ANY_OPENING.search(text[: closing.start()]):
        text = text[closing.end() :].lstrip()
    return text


THOUGHT_PIECES = ["<think>", "</think>", "<Thoughts>", "</thoughts>", "[THINK]", "[/THINK]"]


@settings(max_examples=300)
@given(st.lists(st.sampled_from([*THOUGHT_PIECES, "a", " ", "\n", "\x1f"]), max_size=10))
@example([" ", "a"])
def test_thoughts_are_dropped_as_one_by_one(pieces):
    text = "".join(pieces)
    assert drop_thoughts(text) == thoughts_dropped_one_by_one(text)
