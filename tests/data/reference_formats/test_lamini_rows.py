"""The Lamini course's rows: one text, all of it learned, cut at its beginning, without an end."""

import pytest

from ch07.data.reference_formats.alpaca_labels import LabelRow
from ch07.data.reference_formats.label_collate import collate_label_rows
from ch07.data.reference_formats.lamini_rows import lamini_rows

ENTRY = {"instruction": "She said", "input": "", "output": "n't know"}


def test_question_and_answer_are_one_text_without_an_end(tokenizer):
    ((row,), dropped) = lamini_rows([ENTRY], tokenizer)
    ids = tokenizer.encode_ordinary("She saidn't know")
    assert row == LabelRow(ids, ids, n_prompt=2) and dropped == []
    assert not row.has_end() and row.n_counted == len(ids) - 1
    assert row.ids is not row.labels, "a change of one must not change the other"


def test_an_input_follows_its_instruction_on_a_new_line(tokenizer):
    with_input = {**ENTRY, "input": "in tears"}
    rows = lamini_rows([with_input, {"instruction": "", "output": "web text"}], tokenizer).rows
    assert [tokenizer.decode(row.ids) for row in rows] == ["She said\nin tearsn't know", "web text"]


@pytest.mark.parametrize("limit", range(1, 9))
def test_the_beginning_is_lost_first(tokenizer, limit):
    entry = {"instruction": "one two three", "output": " four five six"}
    whole = tokenizer.encode_ordinary("one two three four five six")
    ((row,), _) = lamini_rows([entry], tokenizer, limit)
    assert row.ids == row.labels == whole[-limit:]
    assert row.cut == (("prompt",) if limit < 6 else ()) + (("answer",) if limit < 3 else ())


def test_no_limit_keeps_all_and_the_default_is_the_courses(tokenizer):
    entry = {"instruction": "word " * 3000, "output": "end"}
    lengths = [
        len(lamini_rows([entry], tokenizer, *limit).rows[0].ids) for limit in ([], [None], [2048])
    ]
    assert lengths == [2048, 3001, 2048]


def test_a_batch_of_rows_hides_only_its_padding(tokenizer):
    entries = [ENTRY, {"instruction": "x", "output": "y z"}]
    rows = lamini_rows(entries, tokenizer).rows
    batch = collate_label_rows(rows)
    assert ((batch["labels"] == -100) == (batch["attention_mask"] == 0)).all()
    learned = batch["labels"] != -100
    assert (batch["labels"][learned] == batch["input_ids"][learned]).all()


@pytest.mark.parametrize("limit", [0, -1, 2.5, "9", True])
def test_an_impossible_limit_is_a_value_error(tokenizer, limit):
    with pytest.raises(ValueError, match=r"max_length is .* but must be an int of at least 1"):
        lamini_rows([ENTRY], tokenizer, limit)


def test_a_bad_entry_is_named(tokenizer):
    with pytest.raises(ValueError, match="entry 1: 'output' is missing"):
        lamini_rows([ENTRY, {"instruction": "x"}], tokenizer)
    with pytest.raises(ValueError, match="entry 1 has no token"):
        lamini_rows([ENTRY, {"instruction": "", "output": ""}], tokenizer)
