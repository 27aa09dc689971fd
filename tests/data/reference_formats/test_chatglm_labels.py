"""ChatGLM's rows: their layout, their truncation, and the current question, which must stay."""

import pytest
import torch

from ch07.data.reference_formats.chatglm_labels import (
    SpecialTokens,
    chat_prompt,
    chatglm_row,
    chatglm_rows,
)
from ch07.data.reference_formats.label_collate import collate_label_rows
from ch07.models.resize_embeddings import smart_embedding_resize
from collate import END_OF_TEXT
from gpt_model import GPTModel

G, B, E, N = END_OF_TEXT + 1, END_OF_TEXT + 2, END_OF_TEXT, -100
ENTRY = {"instruction": "What is its capital?", "output": "Paris"}
CHAT = [["Tell me of France. " * 4, "A country. " * 6], ["And the food?", "Cheese."]]


def test_a_small_row_by_hand():
    row = chatglm_row([1, 2, 3], [4, 5], SpecialTokens(gmask=7, bos=8, eos=9))
    assert row.ids == [1, 2, 3, 7, 8, 4, 5, 9]
    assert row.labels == [N, N, N, N, 8, 4, 5, 9]
    assert row.n_counted == 4 and row.cut == ()


def test_a_chats_first_round_differs_between_training_and_evaluation():
    assert chat_prompt("Why?") == chat_prompt("Why?", training=False) == "Why?"
    assert chat_prompt("Why?", []) == "[Round 0]\n问：Why?\n答："  # noqa: RUF001
    assert chat_prompt("Why?", [], training=False) == "Why?"
    both = [chat_prompt("Why?", [("a", "b"), ("c", "d")], training=way) for way in (True, False)]
    rounds = "[Round 0]\n问：a\n答：b\n[Round 1]\n问：c\n答：d\n[Round 2]\n问：Why?\n答："  # noqa: RUF001
    assert both == [rounds, rounds]


def by_hand(prompt, answer, sizes=(64, 64)):
    """`preprocess_function_train` written differently: rows of fixed length that are filled in."""
    source, target = prompt[: sizes[0] - 1], answer[: sizes[1] - 2]
    ids, labels = torch.full((sum(sizes),), 3), torch.full((sum(sizes),), N)
    ids[: len(source)] = torch.tensor(source)
    special = len(source), len(source) + 1, len(source) + 2 + len(target)
    for place, token in zip(special, (G, B, E), strict=True):
        ids[place] = token
    ids[special[1] + 1 : special[2]] = torch.tensor(target)
    labels[special[1] : special[2] + 1] = ids[special[1] : special[2] + 1]
    return ids, labels


@pytest.mark.parametrize("history", [None, [], CHAT[1:], CHAT])
@pytest.mark.parametrize("times", [1, 30])
@pytest.mark.parametrize("answer_times", [1, 62, 63, 90])
def test_original_rows_equal_the_original_code(tokenizer, history, times, answer_times):
    question, answer = ENTRY["instruction"] * times, "word" + " word" * (answer_times - 1)
    entry = {"instruction": question, "output": answer, "history": history}
    ((row,), dropped) = chatglm_rows([entry], tokenizer, original=True)
    batch = collate_label_rows([row], pad_token_id=3, length=128)
    encode = tokenizer.encode_ordinary
    ids, labels = by_hand(encode(chat_prompt(question, history)), encode(answer))
    assert torch.equal(batch["input_ids"][0], ids) and torch.equal(batch["labels"][0], labels)
    assert not dropped and ("answer" in row.cut) == (answer_times > 62)


def test_a_long_chat_loses_its_question_in_the_original_only(tokenizer):
    entry = {**ENTRY, "history": CHAT}
    texts, rows = {}, {}
    for original in (True, False):
        ((row,), _) = chatglm_rows([entry], tokenizer, original=original)
        prompt = row.ids[: row.ids.index(G)]
        assert row.cut == ("prompt",) and len(prompt) <= 63
        texts[original], rows[original] = tokenizer.decode(prompt), row
    assert "capital" not in texts[True] and texts[True].startswith("[Round 0]\n")
    assert texts[False] == chat_prompt(ENTRY["instruction"], CHAT[1:])
    assert rows[True].labels[-3:] == rows[False].labels[-3:], "the answer is the same"


def test_an_overlong_question_keeps_the_words_that_prompt_for_an_answer(tokenizer):
    long = {**ENTRY, "instruction": "x " * 100 + "What is its capital?", "history": CHAT}
    ((row,), _) = chatglm_rows([long], tokenizer)
    kept = tokenizer.decode(row.ids[: row.ids.index(G)])
    assert kept.endswith("What is its capital?\n答：")  # noqa: RUF001
    assert row.ids.index(G) == 63 and row.cut == ("prompt",)
    single = {**long, "history": None}
    ours, theirs = (
        chatglm_rows([single], tokenizer, original=original).rows for original in (False, True)
    )
    assert ours == theirs, "outside a chat nothing is corrected"


def test_short_rows_equal_the_originals(tokenizer):
    entries = [ENTRY, {**ENTRY, "history": CHAT[1:]}, {**ENTRY, "input": "France", "history": []}]
    ours, theirs = (
        chatglm_rows(entries, tokenizer, original=original) for original in (False, True)
    )
    assert ours == theirs and not any(row.cut for row in ours.rows)
    asked = tokenizer.decode(ours.rows[2].ids[:-4])
    assert "What is its capital?\nFrance\n" in asked


def test_bos_within_a_question_starts_the_originals_labels_too_early():
    specials = SpecialTokens(gmask=7, bos=8, eos=9)
    assert chatglm_row([1, 8, 2], [4], specials, original=True).labels == [N, 8, 2, 7, 8, 4, 9]
    assert chatglm_row([1, 8, 2], [4], specials).labels == [N, N, N, N, 8, 4, 9]


def test_entries_without_question_or_answer_are_reported(tokenizer):
    entries = [
        {"instruction": "", "output": "x"},
        ENTRY,
        {"instruction": "x", "output": ""},
        {"instruction": "", "output": ""},
    ]
    rows, dropped = chatglm_rows(entries, tokenizer)
    reasons = ["the question is empty", "the answer is empty", "the question is empty"]
    assert dropped == list(zip([0, 2, 3], reasons, strict=True))
    assert rows == chatglm_rows([ENTRY], tokenizer).rows


@pytest.mark.parametrize("bad", [{"output": "x"}, {"instruction": 5, "output": "x"}, "x"])
def test_a_field_that_is_not_text_is_a_value_error(tokenizer, bad):
    with pytest.raises(ValueError, match="entry 1"):
        chatglm_rows([ENTRY, bad], tokenizer)


@pytest.mark.parametrize("history", ["x", [["a"]], [["a", 5]], ["ab"], {"a": "b"}, 5, [("a",) * 3]])
def test_a_malformed_history_is_a_value_error(tokenizer, history):
    with pytest.raises(ValueError, match=r"entry 1: 'history' is .*must be a list of"):
        chatglm_rows([ENTRY, {**ENTRY, "history": history}], tokenizer)


def test_limits_that_leave_no_text_are_value_errors(tokenizer):
    for sizes in ((1, 64), (64, 2), (0, 0), (-5, 64), ("64", 64), (64, 6.5)):
        with pytest.raises(ValueError, match="must be an int of at least"):
            chatglm_rows([ENTRY], tokenizer, max_source_length=sizes[0], max_target_length=sizes[1])
    ((row,), _) = chatglm_rows([ENTRY], tokenizer, max_source_length=2, max_target_length=3)
    assert len(row.ids) == 5 and row.cut == ("prompt",)


def test_gpt2_can_be_resized_for_the_special_tokens(tokenizer):
    size = {"emb_dim": 8, "n_heads": 2, "n_layers": 1, "context_length": 128}
    model = smart_embedding_resize(GPTModel(size), END_OF_TEXT + 3)
    batch = collate_label_rows(chatglm_rows([ENTRY], tokenizer).rows)
    assert model(batch["input_ids"]).shape[-1] == 50259
