"""ChatGLM's evaluation rows: corrected, they ask what training rows ask; padded on the left."""

import pytest
import torch

from ch07.data.reference_formats.chatglm_evaluation import (
    EvaluationRow,
    chatglm_evaluation_rows,
    collate_evaluation_rows,
)
from ch07.data.reference_formats.chatglm_labels import SpecialTokens, chat_prompt, chatglm_rows
from ch07.generation.decoding import generate
from ch07.models.resize_embeddings import smart_embedding_resize
from collate import END_OF_TEXT
from gpt_model import GPTModel

G, B, E = END_OF_TEXT + 1, END_OF_TEXT + 2, END_OF_TEXT
ENTRY = {"instruction": "What is its capital?", "output": "Paris"}
CHAT = [["Tell me of France. " * 4, "A country. " * 6], ["And the food?", "Cheese."]]
LONG = {"instruction": "🙂 " * 90, "output": "绿色 " * 90}


@pytest.mark.parametrize("history", [None, [], CHAT[1:], CHAT])
@pytest.mark.parametrize("sizes", [(64, 64), (12, 5), (2, 3)])
def test_corrected_rows_are_training_rows_in_two_parts(tokenizer, history, sizes):
    entries = [{**entry, "history": history} for entry in (ENTRY, LONG)]
    options = {"max_source_length": sizes[0], "max_target_length": sizes[1]}
    trained = chatglm_rows(entries, tokenizer, **options).rows
    asked = chatglm_evaluation_rows(entries, tokenizer, **options).rows
    for train, row in zip(trained, asked, strict=True):
        end = [] if "answer" in row.cut else [E]
        assert [*row.ids, *row.labels, *end] == train.ids
        assert row.ids[-2:] == [G, B] and row.cut == train.cut
        assert train.labels[: len(row.ids) - 1] == [-100] * (len(row.ids) - 1)


def test_a_chats_first_round_is_the_bare_question_in_the_original_only(tokenizer):
    chats = [{**ENTRY, "history": history} for history in ([], CHAT[1:], None)]
    texts = {}
    for original in (True, False):
        rows = chatglm_evaluation_rows(
            chats, tokenizer, max_source_length=128, original=original
        ).rows
        texts[original] = [tokenizer.decode(row.ids[:-2]) for row in rows]
    question = ENTRY["instruction"]
    round_0, round_1 = chat_prompt(question, []), chat_prompt(question, CHAT[1:])
    assert texts[True] == [question, round_1, question]
    assert texts[False] == [round_0, round_1, question]


def test_the_originals_marks_take_two_places_and_follow_the_answer_too(tokenizer):
    special = SpecialTokens(gmask=7, bos=8, eos=9)
    ((theirs,), _) = chatglm_evaluation_rows([LONG], tokenizer, special, original=True)
    ((ours,), _) = chatglm_evaluation_rows([LONG], tokenizer, special)
    asked, answer = (tokenizer.encode_ordinary(LONG[key]) for key in ("instruction", "output"))
    assert theirs == EvaluationRow(
        [*asked[:62], 7, 8], [*answer[:62], 7, 8], cut=("prompt", "answer")
    )
    assert ours == EvaluationRow([*asked[:63], 7, 8], answer[:62], cut=("prompt", "answer"))


def test_a_mark_among_the_answers_ids_changes_nothing(tokenizer):
    """bos is found by its place: here it is an id that the answer has as well."""
    (bos,) = tokenizer.encode_ordinary("Paris")
    special = SpecialTokens(gmask=7, bos=bos, eos=9)
    entry = {"instruction": "Paris?", "output": "Paris"}
    ((row,), _) = chatglm_evaluation_rows([entry], tokenizer, special)
    assert tokenizer.decode(row.ids[:-2]) == "Paris?" and row.labels == [bos]


def test_what_is_dropped_and_refused_is_so_in_training_too(tokenizer):
    entries = [{"instruction": "", "output": "x"}, ENTRY, {"instruction": "x", "output": ""}]
    for original in (True, False):
        rows, dropped = chatglm_evaluation_rows(entries, tokenizer, original=original)
        assert dropped == [(0, "the question is empty"), (2, "the answer is empty")]
        assert rows == chatglm_evaluation_rows([ENTRY], tokenizer, original=original).rows
        with pytest.raises(ValueError, match=r"must be (an int of )?at least"):
            chatglm_evaluation_rows([ENTRY], tokenizer, max_target_length=2, original=original)
        with pytest.raises(ValueError, match="entry 0: 'history' is 'x'"):
            chatglm_evaluation_rows([{**ENTRY, "history": "x"}], tokenizer, original=original)
    with pytest.raises(ValueError, match="max_source_length is 2, but must be at least 3"):
        chatglm_evaluation_rows([ENTRY], tokenizer, max_source_length=2, original=True)


def test_a_batch_is_padded_on_the_left():
    rows = [
        EvaluationRow([1, 2, G, B], [5, 6]),
        EvaluationRow([3, G, B], [7]),
        EvaluationRow([B], []),
    ]
    batch = collate_evaluation_rows(rows, pad_token_id=0)
    assert batch["input_ids"].tolist() == [[1, 2, G, B], [0, 3, G, B], [0, 0, 0, B]]
    assert batch["labels"].tolist() == [[5, 6], [-100, 7], [-100, -100]]
    assert batch["attention_mask"].tolist() == [[1] * 4, [0, 1, 1, 1], [0, 0, 0, 1]]
    assert {tensor.dtype for tensor in batch.values()} == {torch.int64}
    with pytest.raises(ValueError, match="empty batch"):
        collate_evaluation_rows([])


def test_a_model_continues_the_rows(tokenizer):
    """They go into `generate` as they are, which pads them itself."""
    size = {"emb_dim": 8, "n_heads": 2, "n_layers": 1, "context_length": 128}
    model = smart_embedding_resize(GPTModel(size), END_OF_TEXT + 3)
    rows = chatglm_evaluation_rows([ENTRY, LONG], tokenizer).rows
    answers = generate(model, [row.ids for row in rows], 4)
    assert [len(answer) <= 4 for answer in answers] == [True, True]
