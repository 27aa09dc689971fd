"""ChatGLM's rows: the layout, the cut on the right, the current question that must stay."""

import pytest
import torch

from ch07.models.resize_embeddings import smart_embedding_resize
from ch07.systems.reference_formats.chatglm_labels import (
    Specials,
    chat_prompt,
    chatglm_row,
    chatglm_rows,
)
from ch07.systems.reference_formats.label_collate import collate_label_rows
from collate import END_OF_TEXT
from gpt_model import GPTModel

G, B, E, N = END_OF_TEXT + 1, END_OF_TEXT + 2, END_OF_TEXT, -100
ASKED = {"instruction": "What is its capital?", "output": "Paris"}
CHAT = [["Tell me of France. " * 4, "A country. " * 6], ["And the food?", "Cheese."]]


def test_the_fixture():
    row = chatglm_row([1, 2, 3], [4, 5], Specials(gmask=7, bos=8, eos=9))
    assert row.ids == [1, 2, 3, 7, 8, 4, 5, 9]
    assert row.labels == [N, N, N, N, 8, 4, 5, 9]
    assert row.counted == 4 and row.cut == ()


def test_the_first_round_differs_between_training_and_evaluation():
    assert chat_prompt("Why?") == chat_prompt("Why?", training=False) == "Why?"
    assert chat_prompt("Why?", []) == "[Round 0]\n问：Why?\n答："  # noqa: RUF001
    assert chat_prompt("Why?", [], training=False) == "Why?"
    both = [chat_prompt("Why?", [("a", "b"), ("c", "d")], training=way) for way in (True, False)]
    rounds = "[Round 0]\n问：a\n答：b\n[Round 1]\n问：c\n答：d\n[Round 2]\n问：Why?\n答："  # noqa: RUF001
    assert both == [rounds, rounds]


def by_hand(prompt, answer, sizes=(64, 64)):
    """preprocess_function_train in another way: a rectangle that is filled, -100 where unknown."""
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
def test_legacy_is_the_original(tokenizer, history, times, answer_times):
    question, answer = ASKED["instruction"] * times, "word" + " word" * (answer_times - 1)
    entry = {"instruction": question, "output": answer, "history": history}
    ((row,), dropped) = chatglm_rows([entry], tokenizer, legacy=True)
    batch = collate_label_rows([row], pad_token_id=3, length=128)
    encode = tokenizer.encode_ordinary
    ids, labels = by_hand(encode(chat_prompt(question, history)), encode(answer))
    assert torch.equal(batch["input_ids"][0], ids) and torch.equal(batch["labels"][0], labels)
    assert not dropped and ("answer" in row.cut) == (answer_times > 62)


def test_the_current_question_is_lost_by_the_original_and_kept_when_mended(tokenizer):
    entry = {**ASKED, "history": CHAT}
    texts, rows = {}, {}
    for legacy in (True, False):
        ((row,), _) = chatglm_rows([entry], tokenizer, legacy=legacy)
        prompt = row.ids[: row.ids.index(G)]
        assert row.cut == ("prompt",) and len(prompt) <= 63
        texts[legacy], rows[legacy] = tokenizer.decode(prompt), row
    assert "capital" not in texts[True] and texts[True].startswith("[Round 0]\n")
    assert texts[False] == chat_prompt(ASKED["instruction"], CHAT[1:])
    assert rows[True].labels[-3:] == rows[False].labels[-3:], "the answer is the same"


def test_a_question_too_long_by_itself_keeps_the_words_that_ask(tokenizer):
    long = {**ASKED, "instruction": "x " * 100 + "What is its capital?", "history": CHAT}
    ((row,), _) = chatglm_rows([long], tokenizer)
    kept = tokenizer.decode(row.ids[: row.ids.index(G)])
    assert kept.endswith("What is its capital?\n答：")  # noqa: RUF001
    assert row.ids.index(G) == 63 and row.cut == ("prompt",)
    single = {**long, "history": None}
    ours, theirs = (chatglm_rows([single], tokenizer, legacy=way).rows for way in (False, True))
    assert ours == theirs, "outside of a chat nothing is mended"


def test_short_rows_are_the_same_either_way(tokenizer):
    entries = [ASKED, {**ASKED, "history": CHAT[1:]}, {**ASKED, "input": "France", "history": []}]
    ours, theirs = (chatglm_rows(entries, tokenizer, legacy=way) for way in (False, True))
    assert ours == theirs and not any(row.cut for row in ours.rows)
    asked = tokenizer.decode(ours.rows[2].ids[:-4])
    assert "What is its capital?\nFrance\n" in asked


def test_bos_inside_a_question_begins_the_originals_labels_too_early():
    specials = Specials(gmask=7, bos=8, eos=9)
    assert chatglm_row([1, 8, 2], [4], specials, legacy=True).labels == [N, 8, 2, 7, 8, 4, 9]
    assert chatglm_row([1, 8, 2], [4], specials).labels == [N, N, N, N, 8, 4, 9]


def test_rows_without_question_or_answer_are_told(tokenizer):
    entries = [{"instruction": "", "output": "x"}, ASKED, {"instruction": "x", "output": ""}]
    rows, dropped = chatglm_rows(entries, tokenizer)
    assert dropped == [(0, "the question is empty"), (2, "the answer is empty")]
    assert rows == chatglm_rows([ASKED], tokenizer).rows


@pytest.mark.parametrize("history", ["x", [["a"]], [["a", 5]], ["ab"], {"a": "b"}, 5, [("a",) * 3]])
def test_a_history_that_is_none_is_refused(tokenizer, history):
    with pytest.raises(ValueError, match=r"entry 1: 'history' is .*must be a list of"):
        chatglm_rows([ASKED, {**ASKED, "history": history}], tokenizer)


def test_limits_that_leave_no_text_are_refused(tokenizer):
    for sizes in ((1, 64), (64, 2), (0, 0), (-5, 64), ("64", 64), (64, 6.5)):
        with pytest.raises(ValueError, match="leave no text: they must be ints, at least 2"):
            chatglm_rows([ASKED], tokenizer, Specials(), *sizes)
    ((row,), _) = chatglm_rows([ASKED], tokenizer, Specials(), 2, 3)
    assert len(row.ids) == 5 and row.cut == ("prompt",)


def test_gpt2_makes_room_for_the_special_tokens(tokenizer):
    size = {"emb_dim": 8, "n_heads": 2, "n_layers": 1, "context_length": 128}
    model = smart_embedding_resize(GPTModel(size), END_OF_TEXT + 3)
    batch = collate_label_rows(chatglm_rows([ASKED], tokenizer).rows)
    assert model(batch["input_ids"]).shape[-1] == 50259
