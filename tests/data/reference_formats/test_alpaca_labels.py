"""Label rows: equality with our targets, limits, joint tokenization, masks, larger vocabularies."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from ch07.data.prompt_styles import ALPACA_STYLE, CHINESE_ALPACA_STYLE, STYLES
from ch07.data.reference_formats.alpaca_labels import (
    LabelRow,
    corrected_row,
    label_row,
    label_rows,
    original_row,
    side_by_side,
)
from ch07.data.reference_formats.label_collate import collate_label_rows
from ch07.data.token_boundaries import boundary_merges
from ch07.models.resize_embeddings import smart_embedding_resize
from collate import END_OF_TEXT, custom_collate_fn, custom_collate_response_fn
from gpt_model import GPTModel
from instruction_dataset import BOOK_STYLE, InstructionDataset, PromptStyle

E, N = END_OF_TEXT, -100
S, T = [1, 2, 3], [4, 5]  # a prompt and an answer
SMILE = {"instruction": "What does she do?", "input": "", "output": "(She smiles.)"}
LONG_PROMPT = {"instruction": "word " * 5000, "input": "", "output": "Yes"}


# --- labels[1:] are our targets ---------------------------------------------------


def test_a_small_row_by_hand():
    row = original_row(S, T)
    assert (
        row == corrected_row(S, T) == LabelRow([1, 2, 3, 4, 5, E], [N, N, N, 4, 5, E], n_prompt=3)
    )
    inputs, targets = custom_collate_response_fn([(3, S + T)])
    assert row.ids[:-1] == inputs[0].tolist() and row.labels[1:] == targets[0].tolist()
    everything = original_row(S, T, n_masked=0)
    inputs, targets = custom_collate_fn([S + T])
    assert everything.ids[:-1] == inputs[0].tolist()
    assert everything.labels[1:] == targets[0].tolist() == [2, 3, 4, 5, E]


@pytest.mark.parametrize("limit", [None, 60, 45])
@pytest.mark.parametrize("style", STYLES.values(), ids=STYLES)
def test_labels_shifted_are_our_targets(tokenizer, entries, style, limit):
    """Rows have `limit` + 1 labels, since a row's last id is only ever a target."""
    dataset = InstructionDataset(entries, tokenizer, style, with_prompt_length=True)
    inputs, targets = custom_collate_response_fn(list(dataset), allowed_max_length=limit)
    longest = None if limit is None else limit + 1
    rows = label_rows(entries, tokenizer, style, original=True, max_length=longest).rows
    batch = collate_label_rows(rows)
    assert torch.equal(batch["labels"][:, 1:], targets)
    assert torch.equal(batch["input_ids"][:, :-1], inputs)
    if limit is None:
        assert rows == label_rows(entries, tokenizer, style).rows


@settings(deadline=None)
@given(st.lists(st.tuples(st.lists(st.integers(0, 99)), st.lists(st.integers(0, 99))), min_size=1))
def test_labels_shifted_are_our_targets_for_random_rows(pairs):
    pairs = [(prompt or [7], answer) for prompt, answer in pairs]
    batch = collate_label_rows([corrected_row(*pair) for pair in pairs])
    inputs, targets = custom_collate_response_fn([(len(p), p + a) for p, a in pairs])
    assert torch.equal(batch["labels"][:, 1:], targets)
    assert torch.equal(batch["input_ids"][:, :-1], inputs)


# --- limits -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("limit", "labels", "cut"),
    [
        (7, [N, N, N, 4, 5, E], ()),
        (6, [N, N, N, 4, 5, E], ()),
        (5, [N, N, N, 4, 5], ("answer",)),
        (4, [N, N, N, 4], ("answer",)),
        (3, [N, N, N], ("answer",)),
        (2, [N, N], ("prompt", "answer")),
    ],
)
def test_original_rows_are_truncated_on_the_right(limit, labels, cut):
    row = original_row(S, T, max_length=limit)
    assert (row.labels, row.ids, row.cut) == (labels, [*S, *T, E][:limit], cut)
    assert row.has_end() == (limit >= 6)
    assert row.n_counted == max(0, min(limit, 6) - 3)


@pytest.mark.parametrize(
    ("limits", "ids", "cut"),
    [
        ({"max_length": 6}, [1, 2, 3, 4, 5, E], ()),
        ({"max_length": 5}, [1, 2, 3, 4, 5], ("answer",)),
        ({"max_length": 4}, [1, 2, 3, 4], ("answer",)),
        ({"max_length": 3}, None, ()),
        ({"max_length": 2}, None, ()),
        ({"max_length": 4, "max_prompt_length": 2}, [1, 2, 4, 5], ("prompt", "answer")),
        ({"max_length": 3, "max_prompt_length": 1}, [1, 4, 5], ("prompt", "answer")),
        ({"max_length": 1, "max_prompt_length": 1}, None, ()),
        ({"max_prompt_length": 2}, [1, 2, 4, 5, E], ("prompt",)),
        ({"max_answer_length": 2}, [1, 2, 3, 4, 5], ("answer",)),
        ({"max_answer_length": 1}, [1, 2, 3, 4], ("answer",)),
    ],
)
def test_corrected_rows_learn_something_or_are_refused(limits, ids, cut):
    """Only an uncut answer ends in an end-of-text token."""
    if ids is None:
        with pytest.raises(ValueError, match="leaves no token for the answer"):
            corrected_row(S, T, **limits)
        return
    row = corrected_row(S, T, **limits)
    n = len([token for token in ids if token in S])
    assert row == LabelRow(ids, [N] * n + ids[n:], cut, n)
    assert row.has_end() == ("answer" not in cut) and row.n_counted >= 1


LIMIT = st.none() | st.integers(1, 12)


@settings(deadline=None)
@given(st.integers(1, 9), st.integers(0, 9), st.integers(0, 3), LIMIT, LIMIT, LIMIT)
def test_random_limits_always_leave_something_to_learn(
    n_prompt, n_answer, header, whole, prompt, answer
):
    given_ids = list(range(100, 100 + n_prompt)), list(range(200, 200 + n_answer))
    try:
        row = corrected_row(
            *given_ids,
            max_length=whole,
            max_prompt_length=prompt,
            max_answer_length=answer,
            header_length=min(header, n_prompt),
        )
    except ValueError:
        assert whole or prompt or answer
        return
    kept = [token for token in row.ids if token < 200]
    learned = row.ids[len(kept) :]
    assert row.labels == [N] * len(kept) + learned
    assert learned == [*given_ids[1], E][: len(learned)] and row.n_counted >= 1
    assert len(row.ids) <= (whole or 99) and len(learned) <= (answer or 99)
    assert len(kept) <= (prompt or 99)
    cut = {"prompt": len(kept) < n_prompt, "answer": len(learned) <= n_answer}
    assert row.cut == tuple(name for name in cut if cut[name])


def test_a_short_answer_after_a_very_long_prompt_is_learned(tokenizer):
    original = label_row(LONG_PROMPT, tokenizer, joint=True, original=True, max_length=512)
    assert original.n_counted == 0 and len(original.ids) == 512
    logits = torch.zeros(511, 50257)
    loss = F.cross_entropy(logits, torch.tensor(original.labels[1:]))
    assert loss.isnan(), "a mean over no targets"
    for style in STYLES.values():
        limits = {"max_length": 512, "max_prompt_length": 256}
        row = label_row(LONG_PROMPT, tokenizer, style, **limits)
        assert row.n_counted == 2 and row.has_end() and row.cut == ("prompt",)
        assert tokenizer.decode(row.ids[-2:-1]) == "Yes" and len(row.ids) == 258
        shown = tokenizer.decode(row.ids[:256])
        prompt = style.prompt(LONG_PROMPT)
        assert prompt.startswith(shown[:100]) and prompt.endswith(shown[-14:])


def test_entries_whose_answer_is_lost_raise_or_are_reported(tokenizer, entries):
    rows = [*entries, LONG_PROMPT]
    with pytest.raises(ValueError, match="entry 3: the prompt leaves no token"):
        label_rows(rows, tokenizer, max_length=512)
    kept, dropped = label_rows(rows, tokenizer, max_length=512, skip_bad_rows=True)
    assert kept == label_rows(entries, tokenizer).rows
    assert [i for i, _ in dropped] == [3] and "max_prompt_length" in dropped[0][1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_length": 0}, "entry 0: max_length is 0, but must be an int of at least 1 token"),
        ({"max_length": "512"}, "max_length is '512', but must be an int"),
        ({"max_prompt_length": 2.5}, "max_prompt_length is 2.5, but must be an int"),
        ({"max_answer_length": -1}, "max_answer_length is -1"),
        ({"original": True, "max_length": 0}, "max_length is 0"),
        ({"original": True, "max_prompt_length": 5}, "the originals have max_length only"),
        ({"max_prompt_length": 3}, "3, but the response header alone has 5 tokens"),
    ],
)
def test_invalid_limits_are_value_errors(tokenizer, entries, options, message):
    with pytest.raises(ValueError, match=message):
        label_rows(entries, tokenizer, **options)
    with pytest.raises(ValueError, match="n_masked is -1"):
        original_row(S, T, n_masked=-1)
    with pytest.raises(ValueError, match="entry 0: 'output' is missing"):
        label_row({"instruction": "x"}, tokenizer)


def test_a_typed_end_of_text_token_is_ordinary_text(tokenizer):
    row = label_row({"instruction": "Say it.", "output": "<|endoftext|>"}, tokenizer, joint=True)
    assert row.ids.count(E) == 1 and row.n_counted == 8


# --- joint tokenization -------------------------------------------------------------------------


@pytest.mark.parametrize("answer", ["(x)", '"Hi" he said', "-5", "{a}", "://", "绿", "Red", ""])
@pytest.mark.parametrize("style", STYLES.values(), ids=STYLES)
def test_joint_and_separate_ids_differ_exactly_where_tokens_merge(tokenizer, style, answer):
    entry = {"instruction": "Go on.", "output": answer}
    joint = label_row(entry, tokenizer, style, joint=True)
    separate = label_row(entry, tokenizer, style, joint=False)
    text = style.prompt(entry) + answer
    assert joint.ids == [*tokenizer.encode_ordinary(text), E]
    merges = boundary_merges([entry], tokenizer, style)
    assert (joint.ids != separate.ids) == bool(merges)
    merging = {ALPACA_STYLE: '("-{', CHINESE_ALPACA_STYLE: '("-{:R'}.get(style, "")
    assert merges or not answer or answer[0] not in merging
    for row, before, after, joined in merges:
        assert row == 0 and joined and before
        # The two line breaks that end a Llama 3 prompt are one token alone, two before an answer.
        assert after or style.name == "llama-3"


def test_merges_are_printed_as_tokens(tokenizer):
    rows = [{"instruction": "x", "output": "Red"}, SMILE]
    (merge,) = boundary_merges(rows, tokenizer, ALPACA_STYLE)
    assert merge == (1, (":",), ("(",), (":(",)) and str(merge) == "':' | '(' -> ':('"
    spaced = boundary_merges(rows, tokenizer, CHINESE_ALPACA_STYLE)
    assert [str(merge) for merge in spaced] == ["'␣' | 'Red' -> '␣Red'", "'␣' | '(' -> '␣('"]
    (newline,) = boundary_merges([{"instruction": "x", "output": "\n\n1"}], tokenizer, BOOK_STYLE)
    assert str(newline) == "'↵' | '↵' -> '↵↵'"
    assert boundary_merges([], tokenizer, BOOK_STYLE) == []


def test_a_merged_token_is_masked_in_the_original_and_learned_in_the_corrected_row(tokenizer):
    original = label_row(SMILE, tokenizer, joint=True, original=True)
    corrected = label_row(SMILE, tokenizer, joint=True)
    (merged,) = tokenizer.encode_ordinary(":(")
    place = original.ids.index(merged)
    assert original.ids == corrected.ids and corrected.n_counted == original.n_counted + 1
    assert (original.labels[place], corrected.labels[place]) == (N, merged)
    lines = side_by_side(SMILE, tokenizer, joint=True, n_last=5).split("\n")
    assert lines[0].split() == (
        "original: 4 of 38 tokens learned, end-of-text learned "
        "corrected: 5 of 38 tokens learned, end-of-text learned".split()
    )
    assert lines[1].split() == [":(", ">", ":("] and lines[-1].split() == [">", "<END>"] * 2
    narrow = side_by_side(SMILE, tokenizer, joint=True, max_length=36)
    assert "original: 2 of 36 tokens learned, no end-of-text" in narrow
    assert "corrected: 3 of 36 tokens learned, no end-of-text" in narrow


@pytest.mark.parametrize(
    ("prompt", "answer", "original_text", "corrected_text"),
    [
        # two tokens of the prompt merge with the answer into one: " left", too, is masked
        ("They hav", "e left us", " us", " have left us"),
        # one token of the prompt becomes two before a letter: the second newline is learned
        ("Wait\n\n", "go on", "\ngo on", "go on"),
    ],
)
def test_the_prompt_may_have_another_length_when_tokenized_jointly(
    tokenizer, prompt, answer, original_text, corrected_text
):
    style = PromptStyle("bare", "{instruction}{input}", "{instruction}")
    entry = {"instruction": prompt, "output": answer}
    for original, text in ((True, original_text), (False, corrected_text)):
        row = label_row(entry, tokenizer, style, joint=True, original=original)
        assert tokenizer.decode([label for label in row.labels if label not in (N, E)]) == text


# --- batches ------------------------------------------------------------------------------------


def test_alpacas_mask_hides_the_end_of_text_token_if_it_also_pads():
    rows = [original_row(S, T), original_row([6], [7])]
    counted = collate_label_rows(rows)["attention_mask"]
    by_value = collate_label_rows(rows, mask_by_value=True)["attention_mask"]
    assert counted.tolist() == [[1, 1, 1, 1, 1, 1], [1, 1, 1, 0, 0, 0]]
    assert by_value.tolist() == [[True] * 5 + [False], [True, True] + [False] * 4]
    distinct = collate_label_rows(rows, pad_token_id=E + 1, mask_by_value=True)["attention_mask"]
    assert torch.equal(distinct, counted.bool())


def test_a_batch_can_have_a_given_length():
    batch = collate_label_rows([original_row(S, T)], pad_token_id=0, length=8)
    assert batch["input_ids"].tolist() == [[1, 2, 3, 4, 5, E, 0, 0]]
    assert batch["labels"].tolist() == [[N, N, N, 4, 5, E, N, N]]
    assert batch["attention_mask"].tolist() == [[1] * 6 + [0] * 2]
    with pytest.raises(ValueError, match="row 0 of the batch: 6 tokens, but length is 5"):
        collate_label_rows([original_row(S, T)], length=5)
    with pytest.raises(ValueError, match="row 1 of the batch: 2 ids, but 1 labels"):
        collate_label_rows([original_row(S, T), LabelRow([1, 2], [1])])
    with pytest.raises(ValueError, match="empty batch"):
        collate_label_rows([])


# --- a larger vocabulary ------------------------------------------------------------------------


@pytest.mark.parametrize("tied", [True, False])
def test_new_tokens_start_as_the_mean_and_old_logits_are_unchanged(tied):
    config = {"vocab_size": 97, "context_length": 16, "emb_dim": 24, "n_heads": 3, "n_layers": 2}
    model = GPTModel({**config, "tied_head": tied}).eval()
    ids = torch.randint(0, 97, (3, 16))
    before = model(ids)
    old = {"emb": model.tok_emb.weight.clone(), "head": model.out_head.weight.clone()}
    assert smart_embedding_resize(model, 100) is model
    new = {"emb": model.tok_emb.weight, "head": model.out_head.weight}
    for name, weight in new.items():
        assert weight.shape == (100, 24) and torch.equal(weight[:97], old[name])
        mean = old[name].double().mean(dim=0).float().expand(3, -1)
        torch.testing.assert_close(weight[97:], mean, atol=1e-6, rtol=0)
    assert (model.out_head.weight is model.tok_emb.weight) == tied
    logits = model(ids)
    torch.testing.assert_close(logits[..., :97], before, atol=1e-6, rtol=0)
    mean = before.mean(dim=-1, keepdim=True).expand(-1, -1, 3)
    torch.testing.assert_close(logits[..., 97:], mean, atol=1e-5, rtol=0)
    assert model.config.vocab_size == 100 == model.tok_emb.num_embeddings
    model(torch.tensor([[99, 98]])).sum().backward()
    assert model.tok_emb.weight.grad[97:].any() and "out_features=100" in str(model)
    reloaded = GPTModel(model.config)
    reloaded.load_state_dict(model.state_dict())
    frozen = GPTModel({**config, "tied_head": tied}).requires_grad_(False).bfloat16()
    smart_embedding_resize(frozen, 98)
    assert not any(w.requires_grad or w.dtype != torch.bfloat16 for w in frozen.parameters())


def test_a_vocabulary_cannot_shrink(small_model):
    weight = small_model.tok_emb.weight
    assert smart_embedding_resize(small_model, 97).tok_emb.weight is weight
    for bad in (96, 0, -1, 98.0, "98", True):
        with pytest.raises(ValueError, match="must be an int of at least 97, the number of tokens"):
            smart_embedding_resize(small_model, bad)
