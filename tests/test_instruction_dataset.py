"""Entries to ids: the book's text, one prompt for training and inference, text that stays text."""

import sys
from dataclasses import FrozenInstanceError

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ch07.data.prompt_styles import STYLES
from ch07.data.token_boundaries import boundary_merge_rows
from instruction_dataset import (
    BOOK_STYLE,
    InstructionDataset,
    PromptStyle,
    encode_prompt,
    format_input,
)

WITH_INPUT = {"instruction": "Give the opposite.", "input": "hot", "output": "cold"}


def test_the_books_form():
    text = (
        "Below is an instruction that describes a task. Write a response that appropriately "
        "completes the request.\n\n### Instruction:\nGive the opposite.\n\n### Input:\nhot"
    )
    assert format_input(WITH_INPUT) == text
    assert BOOK_STYLE.prompt(WITH_INPUT) == text + "\n\n### Response:\n"


@pytest.mark.parametrize("empty", ["", "   ", None, "missing"])
def test_no_input_no_input_block(empty):
    entry = {"instruction": "Name a colour.", "output": "Red", "input": empty}
    if empty == "missing":
        del entry["input"]
    assert "Input" not in format_input(entry)
    assert "None" not in format_input(entry)


def test_braces_in_user_text_are_text():
    entry = {"instruction": "Fill {input} and {0}", "input": "{instruction}", "output": "x"}
    assert "Fill {input} and {0}" in format_input(entry)
    assert format_input(entry).endswith("### Input:\n{instruction}")


def test_rows_are_the_books_ids(tokenizer, entries):
    dataset = InstructionDataset(entries, tokenizer)
    for entry, ids in zip(entries, dataset, strict=True):
        text = format_input(entry) + f"\n\n### Response:\n{entry['output']}"
        assert ids == tokenizer.encode(text)
    assert dataset.lengths == [len(ids) for ids in dataset]


@pytest.mark.parametrize("style", STYLES.values(), ids=STYLES)
def test_the_training_prompt_is_the_inference_prompt(tokenizer, entries, style):
    dataset = InstructionDataset(entries, tokenizer, style, with_prompt_length=True)
    for entry, (prompt_length, ids) in zip(entries, dataset, strict=True):
        assert ids[:prompt_length] == encode_prompt(entry, tokenizer, style)
        assert tokenizer.decode(ids[prompt_length:]) == entry["output"]


def test_end_of_text_typed_by_a_user_is_seven_ordinary_tokens(tokenizer):
    assert len(tokenizer.encode_ordinary("<|endoftext|>")) == 7
    entry = {
        "instruction": "Say <|endoftext|>",
        "input": "<|endoftext|>",
        "output": "<|endoftext|>",
    }
    (ids,) = InstructionDataset([entry], tokenizer)
    assert 50256 not in ids
    assert tokenizer.decode(ids).count("<|endoftext|>") == 3


def test_prompt_and_answer_are_joined_by_ids_and_merges_reported(tokenizer):
    safe = {"instruction": "Count.", "input": "", "output": "1"}
    newline = {"instruction": "Count.", "input": "", "output": "\n\n1"}
    dataset = InstructionDataset([safe, newline], tokenizer)
    assert boundary_merge_rows([safe, newline], tokenizer, BOOK_STYLE) == [1]
    prompt = encode_prompt(newline, tokenizer)
    assert dataset[1] == prompt + tokenizer.encode_ordinary("\n\n1")
    spaced = InstructionDataset([safe], tokenizer, STYLES["chinese-alpaca"])
    assert spaced[0][spaced.prompt_lengths[0] - 1] == 220, (
        "the trailing space is a token of its own"
    )


CHARACTERS = "ab '.:#1²\n\n  \t\r\u00a0\u3000\u2028中é🙂\u200d\x1c\x85"


@settings(max_examples=400, deadline=None)
@given(instruction=st.text(CHARACTERS), output=st.text(CHARACTERS), end=st.text(CHARACTERS))
@example("x", "\u3000\u3000a", "\u3000")
@example("", "b", "a")
def test_a_merge_is_what_the_whole_text_shows(tokenizer, instruction, output, end):
    """Looking at a word on either side finds exactly what tokenizing the whole text finds."""
    style = PromptStyle("any", "{instruction}{input}" + end, "{instruction}" + end)
    entry = {"instruction": instruction, "input": "", "output": output}
    whole = tokenizer.encode_ordinary(style.prompt(entry) + output)
    if whole:
        dataset = InstructionDataset([entry], tokenizer, style)
        differs = dataset[0] != whole
        assert boundary_merge_rows([entry], tokenizer, style) == ([0] if differs else [])


def test_rows_are_lists_from_both_ends(tokenizer, entries):
    dataset = InstructionDataset(entries, tokenizer)
    assert [dataset[i] for i in range(-len(dataset), 0)] == list(dataset)
    assert all(type(ids) is list for ids in dataset)
    with pytest.raises(IndexError):
        dataset[len(dataset)]


def test_ids_take_two_bytes_a_token_or_four(tokenizer):
    """GPT-2's fit into 16 bits; those of a larger vocabulary must not be cut down to them."""

    class Larger:
        n_vocab = 100_256

        def encode_ordinary(self, text):
            return [100_000 + ord(c) for c in text]

    entry = {"instruction": "", "input": "", "output": "zz"}
    style = PromptStyle("bare", "{instruction}{input}", "{instruction}")
    assert InstructionDataset([entry], Larger(), style)[0] == [100_122, 100_122]
    many = InstructionDataset([WITH_INPUT] * 1000, tokenizer)
    assert sys.getsizeof(many._ids) < 2.3 * sum(many.lengths)


@pytest.mark.parametrize("bad", [None, 5, ["x"]])
def test_what_is_not_text_is_refused(tokenizer, bad):
    with pytest.raises(ValueError, match="entry 0: 'instruction' is not text"):
        InstructionDataset([{"instruction": bad, "output": "x"}], tokenizer)


@pytest.mark.parametrize("key", ["instruction", "input", "output"])
@pytest.mark.parametrize("bad", [0, 5, True, False, [], {}, ["x"], float("nan"), b"x"])
def test_a_field_that_is_not_text_names_its_entry(tokenizer, key, bad):
    with pytest.raises(ValueError, match=f"entry 1: '{key}' is not text"):
        InstructionDataset([WITH_INPUT, WITH_INPUT | {key: bad}], tokenizer)


@pytest.mark.parametrize("key", ["instruction", "output"])
def test_a_missing_field_names_its_entry(tokenizer, key):
    entry = {name: text for name, text in WITH_INPUT.items() if name != key}
    left = ", ".join(map(repr, entry))
    with pytest.raises(ValueError, match=f"entry 1: '{key}' is missing; keys found: {left}$"):
        InstructionDataset([WITH_INPUT, entry], tokenizer)
    with pytest.raises(ValueError, match="entry 0: 'instruction' is missing; keys found: none"):
        InstructionDataset([{}], tokenizer)


def test_an_entry_that_is_no_dict_is_named(tokenizer):
    with pytest.raises(ValueError, match="entry 1 is not a dict: 'text'"):
        InstructionDataset([WITH_INPUT, "text"], tokenizer)


@pytest.mark.parametrize("key", ["instruction", "input", "output"])
def test_half_a_character_names_its_entry(tokenizer, key):
    """The tokenizer would make U+FFFD of it without a word."""
    with pytest.raises(ValueError, match=f"entry 1: '{key}' contains half a character"):
        InstructionDataset([WITH_INPUT, WITH_INPUT | {key: "a\udcff"}], tokenizer)


def test_no_input_needs_no_key(tokenizer):
    entry = {"instruction": "Name a colour.", "output": "Red"}
    ways = [entry, *({**entry, "input": none} for none in (None, ""))]
    dataset = InstructionDataset(ways, tokenizer)
    assert dataset.data == ways and dataset[0] == dataset[1] == dataset[2]


def test_a_row_without_tokens_is_refused(tokenizer):
    nothing = type(BOOK_STYLE)("empty", with_input="", no_input="")
    with pytest.raises(ValueError, match="entry 0 has no token"):
        InstructionDataset([{"instruction": "", "output": ""}], tokenizer, nothing)


def test_a_style_stays_what_it_is():
    """Training, inference and scoring share it."""
    with pytest.raises(FrozenInstanceError):
        BOOK_STYLE.name = "mine"
