"""DPO: log-probabilities, the loss, training; preference files; the `prefer` command."""

import copy
import json
import math
import re
import shutil
import time
from contextlib import contextmanager
from dataclasses import fields, replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ch07.commands.cli import main
from ch07.config import COUNTED_PARTS, PreferOptions
from ch07.data.byte_pair_vocabulary import add_marks
from ch07.data.prompt_styles import BARE_STYLE, CHATGLM_STYLE, GMASK, SOP, STYLES
from ch07.data.reference_formats.chatglm_labels import chat_prompt
from ch07.models.architectures import make_model
from ch07.models.prefix_tuning import PrefixEncoder, PrefixTuned
from ch07.models.saved_run import load_run, save_model
from ch07.runs import run_folder
from ch07.systems.preference_tuning.dpo import (
    DPOSettings,
    dpo_loss,
    evaluate_pairs,
    pair_logprobs,
    rewards,
    sequence_logprobs,
    train_on_pairs,
)
from ch07.systems.preference_tuning.preference_data import (
    PairDataset,
    collate_pairs,
    fitting_pairs,
    pair_loader,
    read_preferences,
)
from ch07.systems.preference_tuning.toy_preferences import FORMS, toy_preferences
from ch07.utils.atomic_files import read_json
from ch07.utils.errors import DataError, InputError
from collate import custom_collate_fn, custom_collate_response_fn
from gpt_model import GPTModel
from instruction_dataset import RESPONSE_HEADER, PromptStyle, encode_prompt
from train_loop import TrainSettings, calc_loss_batch, learning_rate, make_optimizer

PAIR = {"instruction": "Say yes.", "input": "", "chosen": "Yes, gladly.", "rejected": "No"}
PAD = 96


class Pairs(list):
    """Pairs of token ids with the interface of a `PairDataset`."""

    lengths = property(lambda self: [max(len(a[1]), len(b[1])) for a, b, _ in self])


def some_pairs(n, seed=0):
    """Prompts of random ids; chosen answers end with 7, rejected ones with 8."""
    stream = torch.Generator().manual_seed(seed)
    pairs = Pairs()
    for number in range(n):
        length = int(torch.randint(2, 9, (), generator=stream))
        prompt = torch.randint(10, 90, (length,), generator=stream).tolist()
        pairs.append(((length, [*prompt, 5, 7]), (length, [*prompt, 5, 8]), number))
    return pairs


def make_pair_loader(pairs, batch_size=8, seed=None):
    loader = pair_loader(pairs, batch_size, seed)
    loader.collate_fn = lambda batch: collate_pairs(batch, pad_token_id=PAD)
    return loader


# --- log-probabilities --------------------------------------------------------------------------


def test_summed_logprobs_equal_minus_the_loss_times_the_counted_targets(small_model):
    rows = [(3, [1, 2, 3, 4, 5]), (2, [6, 7, 8]), (1, [9])]
    inputs, targets = custom_collate_response_fn(rows, pad_token_id=PAD)
    for i in range(len(rows)):
        row = inputs[i : i + 1], targets[i : i + 1]
        n = int((row[1] != -100).sum())
        loss = calc_loss_batch(*row, small_model, "cpu").item()
        assert sequence_logprobs(small_model, *row).item() == pytest.approx(-loss * n, abs=1e-4)
        mean = sequence_logprobs(small_model, *row, "mean").item()
        assert mean == pytest.approx(-loss, abs=1e-4)


def test_logprobs_do_not_depend_on_the_other_rows_of_the_batch(small_model):
    rows = [(2, [1, 2, 3]), (1, list(range(1, 20))), (4, [5, 6, 7, 8, 9, 10])]
    together = sequence_logprobs(small_model, *custom_collate_response_fn(rows, pad_token_id=PAD))
    for row, value in zip(rows, together, strict=True):
        alone = sequence_logprobs(small_model, *custom_collate_response_fn([row], PAD))
        assert alone.item() == pytest.approx(value.item(), abs=1e-5)


@pytest.mark.parametrize("reduction", ["sum", "mean"])
@pytest.mark.parametrize("n_prompt", [1, 6, 8])
def test_a_beginning_is_read_once_with_the_same_logprobs_and_gradients(
    small_model, reduction, n_prompt
):
    """Six columns are alike; where an answer begins earlier, only the columns before it."""
    small_model = small_model.double()
    tails = ([11, 12, 13], [14, 15], [16, 17, 18, 19])
    rows = [(n_prompt, [1, 2, 3, 4, 5, 6, tail[0], 9, *tail]) for tail in tails]
    inputs, targets = custom_collate_response_fn(rows, pad_token_id=PAD)
    n_read = []
    hook = small_model.tok_emb.register_forward_hook(
        lambda m, ids, y: n_read.append(ids[0].numel())
    )
    together = sequence_logprobs(small_model, inputs, targets, reduction)
    hook.remove()
    (n_tokens,) = n_read
    assert (n_tokens < inputs.numel()) == (n_prompt > 1)
    alone = [sequence_logprobs(small_model, inputs[[i]], targets[[i]], reduction) for i in range(3)]
    torch.testing.assert_close(together, torch.cat(alone), rtol=1e-5, atol=1e-5)
    weights = torch.tensor([0.5, -2.0, 1.0])
    gradients = [
        torch.autograd.grad((weights * logps).sum(), list(small_model.parameters()))
        for logps in (together, torch.cat(alone))
    ]
    once, per_row = (torch.cat([part.flatten() for part in parts]) for parts in gradients)
    assert (once - per_row).norm() <= 1e-6 * per_row.norm()


def test_with_dropout_each_row_drops_its_own_activations(small_model):
    rows = [(6, [1, 2, 3, 4, 5, 6, tail, 8]) for tail in (11, 12, 13)]
    inputs, targets = custom_collate_response_fn(rows, pad_token_id=PAD)
    dropping = make_model(replace(small_model.config, drop_rate=0.5)).train()
    n_read = []
    dropping.tok_emb.register_forward_hook(lambda m, ids, y: n_read.append(ids[0].numel()))
    sequence_logprobs(dropping, inputs, targets)
    sequence_logprobs(dropping.eval(), inputs, targets)
    assert n_read[0] == inputs.numel() > n_read[1]


def test_logprobs_do_not_depend_on_the_padding_ids(small_model):
    rows = [(2, [1, 2, 3]), (1, [4, 5, 6, 7, 8])]
    values = [
        sequence_logprobs(small_model, *custom_collate_response_fn(rows, pad_token_id=pad))
        for pad in (PAD, 0)
    ]
    # the end-of-text target is the padding's id too, so only the row without it can be compared
    inputs, targets = custom_collate_response_fn(rows, pad_token_id=PAD)
    other = inputs.clone()
    other[0, 3:] = 11
    assert torch.equal(
        sequence_logprobs(small_model, inputs, targets),
        sequence_logprobs(small_model, other, targets),
    )
    assert not torch.equal(*values), "the end-of-text token is counted"


def test_a_row_without_a_counted_target_is_a_value_error(small_model):
    inputs, targets = custom_collate_fn([[1, 2], [3, 4]], pad_token_id=PAD)
    targets[1] = -100
    with pytest.raises(ValueError, match="row 1 of the batch has no counted target"):
        sequence_logprobs(small_model, inputs, targets)
    with pytest.raises(ValueError, match="reduction is 'max'"):
        sequence_logprobs(small_model, inputs, targets, "max")


@pytest.mark.parametrize("style", STYLES.values(), ids=STYLES)
def test_only_the_answer_and_its_end_of_text_are_counted(style, tokenizer):
    pairs = [PAIR, {**PAIR, "input": "Quick!", "chosen": "Yes.", "rejected": "Never in my life"}]
    dataset = PairDataset(pairs, tokenizer, style)
    chosen, rejected, numbers = collate_pairs([dataset[0], dataset[1]])
    assert numbers.tolist() == [0, 1]
    for side, (inputs, targets) in (("chosen", chosen), ("rejected", rejected)):
        for pair, row, wanted in zip(pairs, inputs, targets, strict=True):
            counted = wanted[wanted != -100].tolist()
            assert tokenizer.decode(counted) == pair[side] + "<|endoftext|>"
            prompt = encode_prompt(pair, tokenizer, style)
            assert row[: len(prompt)].tolist() == prompt
    if style.name == "book":
        assert style.prompt(PAIR).endswith(RESPONSE_HEADER)


HEADERS = {
    "book": "### Response:\n",
    "alpaca": "### Response:",
    "chinese-alpaca": "### Response: ",
    "question-answer": "### Answer:\n",
    "phi3": "<|assistant|>:\n",
    "chatml": "<|im_start|>assistant\n",
    # GPT-2's token ".<" begins before the header
    "llama-3": "|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n",
}
CONVERSATION = {**PAIR, "system": "Be short.", "history": [{"instruction": "Hi", "output": "Ho"}]}


@pytest.mark.parametrize("pair", [PAIR, CONVERSATION], ids=["a question", "a conversation"])
@pytest.mark.parametrize("style", STYLES.values(), ids=STYLES)
def test_the_header_and_the_end_are_counted_where_that_is_wanted(style, pair, tokenizer):
    header, end = HEADERS[style.name], "<|endoftext|>"
    for counted, before, after in (
        ("answer-and-end", "", end),
        ("answer", "", ""),
        ("header-and-answer", header, ""),
        ("header-answer-and-end", header, end),
    ):
        sides = collate_pairs([PairDataset([pair], tokenizer, style, counted)[0]])[:2]
        for side, (_, targets) in zip(("chosen", "rejected"), sides, strict=True):
            text = tokenizer.decode(targets[targets != -100].tolist())
            assert text == before + pair[side] + after, counted


def test_a_conversation_of_chatglm_is_one_question(tokenizer, tmp_path):
    """The prompt is that of its training rows, with all rounds before one [gMASK]."""
    path = tmp_path / "pairs.json"
    chat = {**PAIR, "history": [["Hi", "Ho"]]}
    path.write_text(json.dumps([chat]), encoding="utf-8")
    tokenizer = add_marks(tokenizer, (GMASK, SOP))
    options = {"tokenizer": tokenizer, "style": CHATGLM_STYLE, "context_length": 100}
    dataset, _ = fitting_pairs(read_preferences(path), [0], **options)
    (n_prompt, ids), _, _ = dataset[0]
    asked = chat_prompt(BARE_STYLE.prompt(PAIR), [("Hi", "Ho")])
    assert tokenizer.decode(ids[:n_prompt]) == asked + GMASK + SOP


def test_a_token_that_begins_before_the_header_is_not_counted(tokenizer):
    """The two newlines before this header are one token, which isn't in it."""
    style = PromptStyle("blank", "{instruction}{input}!\n\n:\n", "{instruction}!\n\n:\n")
    _, targets = collate_pairs([PairDataset([PAIR], tokenizer, style, "header-and-answer")[0]])[0]
    assert tokenizer.decode(targets[targets != -100].tolist()) == ":\n" + PAIR["chosen"]
    bare = PromptStyle("bare", "{instruction} {input}", "{instruction}")
    _, targets = collate_pairs([PairDataset([PAIR], tokenizer, bare, "header-and-answer")[0]])[0]
    assert tokenizer.decode(targets[targets != -100].tolist()) == PAIR["chosen"]


def test_other_parts_to_count_are_refused(tokenizer):
    with pytest.raises(InputError, match="counted is 'all': choose one of answer-and-end, answer"):
        PairDataset([PAIR], tokenizer, counted="all")


# --- the loss -----------------------------------------------------------------------------------

numbers = st.lists(st.floats(-200, 0), min_size=4, max_size=4)


def loss_at(h, **options):
    zero = torch.zeros(1, dtype=torch.float64)
    return dpo_loss(zero + h, zero, zero, zero, **options).item()


@pytest.mark.parametrize(
    ("h", "loss"), [(0, math.log(2)), (1, 0.64440), (-1, 0.74440), (2.5, 0.57594)]
)
def test_loss_equals_its_closed_form(h, loss):
    assert loss_at(h) == pytest.approx(loss, abs=5e-6)
    assert loss_at(h) == pytest.approx(math.log1p(math.exp(-0.1 * h)), abs=1e-12)


@settings(deadline=None)
@given(numbers, st.floats(0.01, 1), st.floats(0, 0.49))
def test_label_smoothing_mixes_the_losses_of_both_labels(logprobs, beta, smoothing):
    a, b, ra, rb = (torch.tensor([x], dtype=torch.float64) for x in logprobs)
    right, wrong = dpo_loss(a, b, ra, rb, beta=beta), dpo_loss(b, a, rb, ra, beta=beta)
    mixed = (1 - smoothing) * right + smoothing * wrong
    smoothed = dpo_loss(a, b, ra, rb, beta=beta, label_smoothing=smoothing)
    torch.testing.assert_close(smoothed, mixed)
    margin = rewards(a, ra, beta) - rewards(b, rb, beta)
    torch.testing.assert_close(right, torch.log1p(torch.exp(-margin)), atol=1e-9, rtol=1e-9)


def test_gradient_raises_the_chosen_and_lowers_the_rejected_answer():
    chosen, rejected = torch.tensor([-3.0], requires_grad=True), torch.tensor([-4.0])
    rejected.requires_grad_()
    dpo_loss(chosen, rejected, torch.tensor([-3.5]), torch.tensor([-3.0])).sum().backward()
    slope = -0.1 * torch.sigmoid(torch.tensor(-0.1 * 1.5)).item()  # -beta sigmoid(-beta h)
    assert chosen.grad.item() == pytest.approx(slope) and rejected.grad.item() == -chosen.grad


@pytest.mark.parametrize("bad", [{"beta": 0}, {"beta": math.nan}, {"beta": math.inf},
                                 {"label_smoothing": 0.5}, {"label_smoothing": -0.1}])  # fmt: skip
def test_invalid_loss_settings_are_value_errors(bad):
    with pytest.raises(ValueError, match=next(iter(bad))):
        loss_at(1, **bad)


# --- training -----------------------------------------------------------------------------------


@pytest.mark.parametrize("tied", [True, False])
def test_equal_answers_give_a_zero_gradient(tied):
    shape = {"vocab_size": 97, "context_length": 32, "emb_dim": 24, "n_heads": 3, "n_layers": 2}
    model = GPTModel({**shape, "tied_head": tied}, torch.Generator().manual_seed(0))
    rows = [(2, [1, 2, 3, 4]), (1, [5, 6, 7])]
    batch = custom_collate_response_fn(rows, pad_token_id=PAD)
    now = sequence_logprobs(model, *batch)
    dpo_loss(now, now, now.detach(), now.detach()).mean().backward()
    assert all(not weight.grad.any() for weight in model.parameters())
    model.zero_grad()
    twice = [sequence_logprobs(model, *batch) for _ in range(2)]
    dpo_loss(*twice, now.detach(), now.detach()).mean().backward()
    for name, weight in model.named_parameters():
        if not (tied and name == "tok_emb.weight"):  # its two gradients are summed in another order
            assert not weight.grad.any(), name
        assert weight.grad.abs().max() < 1e-7


def train_on_toy_pairs(model, steps=40, **options):
    train, held_out = some_pairs(64), some_pairs(16, seed=1)
    optimizer = make_optimizer(model.parameters(), 3e-3, 0.01)
    settings = TrainSettings(num_epochs=9, max_steps=steps, peak_lr=3e-3, eval_freq=steps // 2)
    return train_on_pairs(
        model, make_pair_loader(train, 8, seed=1), make_pair_loader(held_out), optimizer, settings,
        progress=False, **options,
    ).history  # fmt: skip


@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_forty_steps_learn_a_toy_preference(small_model, reduction):
    before = copy.deepcopy(small_model)
    first, middle, last = train_on_toy_pairs(small_model, dpo=DPOSettings(reduction=reduction))
    for kind in ("train", "val"):
        assert first[f"{kind}_loss"] == pytest.approx(math.log(2), abs=1e-7)
        assert first[f"{kind}_margin"] == first[f"{kind}_accuracy"] == 0.0
        assert last[f"{kind}_accuracy"] > 0.9 and last[f"{kind}_loss"] < first[f"{kind}_loss"]
        assert last[f"{kind}_margin"] > max(0, middle[f"{kind}_margin"] - 0.5)
    assert [record["step"] for record in (first, middle, last)] == [0, 20, 40]
    for old, new in zip(before.parameters(), small_model.parameters(), strict=True):
        assert not torch.equal(old, new)


def test_the_stored_reference_equals_a_frozen_copy_of_the_model(small_model):
    """Computed once, it equals a frozen copy's log-probabilities; computing it changes nothing."""
    frozen, loader = copy.deepcopy(small_model), make_pair_loader(some_pairs(20), 8, seed=1)
    small_model.train()
    reference = pair_logprobs(small_model, loader)
    assert small_model.training and not reference.requires_grad
    for old, new in zip(frozen.parameters(), small_model.parameters(), strict=True):
        assert torch.equal(old, new) and new.grad is None
    train_on_toy_pairs(small_model, steps=10)
    frozen_logprobs = pair_logprobs(frozen, make_pair_loader(some_pairs(20), 3))
    torch.testing.assert_close(frozen_logprobs, reference, atol=1e-4, rtol=1e-5)
    assert not torch.allclose(pair_logprobs(small_model, loader), reference, atol=0.1)


def test_training_equals_training_with_a_frozen_second_model(small_model):
    """The authors' way: the reference model computes its log-probabilities for every batch."""
    settings = TrainSettings(num_epochs=2, max_steps=6, peak_lr=0.1, eval_freq=2)
    frozen, twin = copy.deepcopy(small_model), copy.deepcopy(small_model)
    loader = make_pair_loader(some_pairs(32), 8, seed=1)
    optimizer = torch.optim.SGD(small_model.parameters())  # Adam would amplify rounding errors
    train_on_pairs(
        small_model, loader, make_pair_loader(Pairs()), optimizer, settings, progress=False
    )
    optimizer = torch.optim.SGD(twin.parameters())
    for step in range(6):
        loader.batch_sampler.set_epoch(step // 4)
        *sides, _ = list(loader)[step % 4]
        now = [sequence_logprobs(twin, *side) for side in sides]
        with torch.no_grad():
            then = [sequence_logprobs(frozen, *side) for side in sides]
        (-torch.log(torch.sigmoid(0.1 * (now[0] - then[0] - now[1] + then[1])))).mean().backward()
        torch.nn.utils.clip_grad_norm_(twin.parameters(), 1.0)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, 6, settings)
        optimizer.step()
        optimizer.zero_grad()
    for a, b in zip(small_model.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)
    moved = (twin.tok_emb.weight - frozen.tok_emb.weight).abs().max()
    assert moved > 1e-3, "far beyond the tolerance"


@pytest.mark.parametrize("accumulation_steps", [2, 3])
def test_batches_of_one_step_count_as_one_large_batch(small_model, accumulation_steps):
    """Every pair of every epoch is used, also those of a last, shorter step."""
    twin = copy.deepcopy(small_model)
    pairs = some_pairs(40)

    def train(model, batch_size, accumulation_steps):
        settings = TrainSettings(
            num_epochs=3, peak_lr=0.1, eval_freq=1000, accumulation_steps=accumulation_steps
        )
        loader = make_pair_loader(pairs, batch_size)  # in the order of the pairs
        optimizer = torch.optim.SGD(model.parameters())
        empty = make_pair_loader(Pairs())
        return train_on_pairs(model, loader, empty, optimizer, settings, progress=False)

    several = train(small_model, 4, accumulation_steps)
    one = train(twin, 4 * accumulation_steps, 1)
    assert several.step == one.step == 3 * math.ceil(10 / accumulation_steps)
    assert several.history[-1]["epoch"] == one.history[-1]["epoch"] == 3
    for a, b in zip(small_model.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)


def test_a_run_of_accumulated_steps_is_resumed_within_an_epoch(small_model):
    twin = copy.deepcopy(small_model)
    settings = TrainSettings(num_epochs=2, peak_lr=0.1, eval_freq=1000, accumulation_steps=2)

    def train(model, **options):
        loader = make_pair_loader(some_pairs(40), 4, seed=1)
        optimizer = torch.optim.SGD(model.parameters())
        empty = make_pair_loader(Pairs())
        return train_on_pairs(model, loader, empty, optimizer, settings, progress=False, **options)

    train(small_model)
    reached = copy.deepcopy(twin)
    stopped = train(reached, on_step=lambda state: state.step == 3)
    assert (stopped.epoch, stopped.batch) == (0, 6)

    def restore():
        twin.load_state_dict(reached.state_dict())
        return stopped

    train(twin, restore_state=restore)
    for a, b in zip(small_model.parameters(), twin.parameters(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize(
    "unused", [{"dtype": "bfloat16"}, {"ignore_index": -1}, {"reduce": lambda number: number}]
)
def test_settings_that_would_do_nothing_are_refused(small_model, unused):
    (name,) = unused
    empty = make_pair_loader(Pairs())
    with pytest.raises(InputError, match=f"{name} is .* training on pairs doesn't use it"):
        train_on_pairs(small_model, empty, empty, None, TrainSettings(**unused), progress=False)


def test_dropout_is_off_and_evaluation_changes_nothing(small_model):
    twin = copy.deepcopy(small_model)
    for model in (small_model, twin):
        model.drop_emb.p = 0.5
        model.train()
    often = train_on_toy_pairs(small_model, steps=10)
    seldom = train_on_pairs(
        twin, make_pair_loader(some_pairs(64), 8, seed=1), make_pair_loader(Pairs()),
        make_optimizer(twin.parameters(), 3e-3, 0.01),
        TrainSettings(num_epochs=9, max_steps=10, peak_lr=3e-3, eval_freq=1000), progress=False,
    ).history  # fmt: skip
    assert often[0]["val_loss"] == pytest.approx(math.log(2)) and small_model.training
    assert len(seldom) == 2 and seldom[-1]["val_loss"] is None
    for a, b in zip(small_model.parameters(), twin.parameters(), strict=True):
        assert torch.equal(a, b)


def test_time_is_counted_at_every_step(small_model):
    """So that a checkpoint between two evaluations holds it."""
    seconds = []

    def on_step(state):
        time.sleep(0.02)
        seconds.append(state.seconds)

    train_on_toy_pairs(small_model, on_step=on_step)
    assert len(seconds) > 2 and seconds == sorted(set(seconds))


def test_empty_loaders_and_nan_weights_are_handled(small_model):
    empty = make_pair_loader(Pairs())
    scores = evaluate_pairs(small_model, empty, torch.empty(0, 2))
    assert scores == {"loss": None, "margin": None, "accuracy": None}
    with pytest.raises(ValueError, match="training split is empty"):
        train_on_pairs(small_model, make_pair_loader(Pairs()), empty, None, progress=False)
    with torch.no_grad():
        small_model.final_norm.weight.fill_(math.nan)
    with pytest.raises(FloatingPointError, match="not finite"):
        train_on_toy_pairs(small_model)


# --- preference files ---------------------------------------------------------------------------


def write(path, rows):
    path.write_text(json.dumps(rows), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"instruction": "a", "chosen": "b"}, "missing: 'rejected'; keys found: 'instruction'"),
        ({"title": "a", "chosen": "b", "rejected": "c"}, "missing: 'instruction'; keys"),
        ({**PAIR, "chosen": 3}, "'chosen' is a number, but must be text"),
        ({**PAIR, "rejected": None}, "missing: 'rejected'; keys found"),
        ({**PAIR, "instruction": " "}, "'instruction' is empty"),
        ({**PAIR, "input": []}, "'input' is a list"),
        ({**PAIR, "split": "first"}, "'split' is 'first'"),
        (["a"], "expected an object, found a list"),
    ],
)
def test_faulty_rows_are_listed_or_skipped(row, message, tmp_path):
    path = write(tmp_path / "pairs.json", [PAIR, row])
    with pytest.raises(DataError) as caught:
        read_preferences(path)
    assert "1 faulty row" in str(caught.value) and f"row 2: {message}" in str(caught.value)
    file = read_preferences(path, skip_bad_rows=True)
    assert file.entries == [{**PAIR}] and file.places == ["row 1"]


def test_equal_and_empty_answers_are_dropped_and_reported(tmp_path):
    rows = [
        {**PAIR, "output": "of the file it was made from"},
        {**PAIR, "chosen": " No", "rejected": "No\n"},
        {**PAIR, "rejected": " "},
    ]
    file = read_preferences(write(tmp_path / "pairs.json", rows))
    assert file.entries == [PAIR]
    findings = {(finding.place, finding.level, finding.text) for finding in file.findings}
    assert ("row 2", "dropped", "'chosen' and 'rejected' are the same") in findings
    assert ("row 3", "dropped", "'rejected' is empty") in findings
    with pytest.raises(DataError, match="no usable row"):
        read_preferences(write(tmp_path / "none.json", rows[1:]))


def test_a_pair_longer_than_the_context_is_listed(tokenizer, tmp_path):
    file = read_preferences(write(tmp_path / "p.json", [PAIR, {**PAIR, "rejected": "no " * 50}]))
    style = STYLES["question-answer"]
    with pytest.raises(DataError, match="row 2: more tokens than the model's context of 40"):
        fitting_pairs(file, range(2), tokenizer=tokenizer, style=style, context_length=40)
    dataset, found = fitting_pairs(
        file, range(2), tokenizer=tokenizer, style=style, context_length=40, skip_bad_rows=True
    )
    assert dataset.pairs == [PAIR] and [finding.place for finding in found] == ["row 2"]


@pytest.mark.parametrize("form", FORMS)
def test_toy_pairs_differ_only_in_form(form, entries):
    pairs = toy_preferences(entries, 2, form, seed=3)
    assert pairs == toy_preferences(entries, 2, form, seed=3)
    answers = {entry["instruction"]: entry["output"] for entry in entries}
    for pair in pairs:
        assert pair["rejected"] == answers[pair["instruction"]] and "output" not in pair
        assert pair["chosen"] == FORMS[form](pair["rejected"]) and pair["chosen"].endswith(".")
    with pytest.raises(ValueError, match="9 pairs requested, but only 3"):
        toy_preferences(entries, 9, form)
    with pytest.raises(ValueError, match="no form 'rude'"):
        toy_preferences(entries, 1, "rude")


# --- the command --------------------------------------------------------------------------------


@pytest.fixture
def small_run(tmp_path):
    """A run folder of a very small, untrained model."""
    model = GPTModel({"context_length": 64, "emb_dim": 16, "n_heads": 2, "n_layers": 1},
                     torch.Generator().manual_seed(0))  # fmt: skip
    folder = tmp_path / "start"
    folder.mkdir()
    config = {"options": {}, "settings": {}, "facts": {}, "model": vars(model.config)}
    run_folder.save_config(folder, {**config, "prompt_style": vars(STYLES["question-answer"])})
    save_model(folder, model)
    return folder


def test_prefer_writes_a_new_run_and_leaves_the_first_unchanged(small_run, tmp_path, capsys):
    before = (small_run / run_folder.MODEL).read_bytes()
    rows = [{**PAIR, "instruction": f"Say {i}."} for i in range(40)]
    data, out = write(tmp_path / "pairs.json", [*rows, {**PAIR, "chosen": "No"}]), tmp_path / "new"
    arguments = [str(small_run), str(data), "--out", str(out), "--lr", "1e-2", "--eval-freq", "2"]
    assert main(["prefer", *arguments]) == 0
    captured = capsys.readouterr()
    assert "left out: 'chosen' and 'rejected' are the same (1: row 41)" in captured.err
    assert (
        "0   held out   0.6931   0.0000   0.0000" in captured.out and "asked   Say" in captured.out
    )
    assert (small_run / run_folder.MODEL).read_bytes() == before
    run, records = load_run(out), run_folder.read_metrics(out)
    assert run.style == STYLES["question-answer"] and run.config["preference"]["beta"] == 0.1
    assert run.config["facts"]["rows"] == {"train": 34, "test": 4, "validation": 2}
    assert records[-1]["val_accuracy"] == 1 and records[-1]["step"] == 5 == len(records) + 1
    assert not torch.equal(run.model.tok_emb.weight, load_run(small_run).model.tok_emb.weight)
    assert main(["prefer", *arguments]) == 1 and "holds another run" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["nowhere"], 1, "nowhere is not a run folder"),
        ([__file__], 1, "is not a run folder"),
        (["RUN", "none.json"], 1, "none.json: No such file"),
        (["RUN", "--device", "quantum"], 1, "device 'quantum' can't be used here"),
        (["RUN", "--beta", "0"], 2, "beta is 0.0, but must be between 1e-12 and"),
        (
            ["RUN", "--label-smoothing", "0.5"],
            2,
            "label_smoothing is 0.5, but must be between 0 and",
        ),
    ],
)
def test_prefer_reports_bad_arguments(arguments, code, message, small_run, tmp_path, capsys):
    out = tmp_path / "new"
    arguments = [str(small_run) if a == "RUN" else a for a in arguments]
    try:
        assert main(["prefer", *arguments, "--out", str(out)]) == code
    except SystemExit as caught:
        assert caught.code == code
    assert message in capsys.readouterr().err and not out.exists()


def stopping_at(step):
    """Replaces `stop_on_signal`: as if Ctrl-C were pressed during this step."""

    @contextmanager
    def stop(note):
        requests = iter([False] * (step - 1))
        yield lambda: next(requests, True)

    return stop


@pytest.fixture
def pairs_file(tmp_path):
    rows = [{**PAIR, "instruction": f"Say {i}."} for i in range(40)]
    return str(write(tmp_path / "pairs.json", rows))


def test_a_resumed_run_ends_with_the_same_bits(
    small_run, pairs_file, tmp_path, monkeypatch, capsys
):
    """Resumed with the printed command; the second stop is in the second epoch."""
    whole, part = tmp_path / "whole", tmp_path / "part"
    options = ["--lr", "1e-2", "--eval-freq", "2", "--epochs", "2"]
    assert main(["prefer", str(small_run), pairs_file, *options, "--out", str(whole)]) == 0
    command = ["prefer", str(small_run), pairs_file, *options, "--out", str(part)]
    for step in (3, 4):
        with monkeypatch.context() as patch:
            patch.setattr("ch07.commands.prefer.stop_on_signal", stopping_at(step))
            assert main(command) == 130
        assert not (part / run_folder.MODEL).exists()
        (line,) = re.findall(r"python -m ch07 (.*--resume .*)", capsys.readouterr().err)
        command = line.split()
    assert main(command) == 0
    assert (part / run_folder.MODEL).read_bytes() == (whole / run_folder.MODEL).read_bytes()
    one, two = (
        [record | {"seconds": 0} for record in run_folder.read_metrics(place)]
        for place in (whole, part)
    )
    assert one == two and [record["step"] for record in one] == [0, 2, 4, 6, 8, 10]


def test_what_is_counted_is_recorded_and_changes_the_run(
    small_run, pairs_file, tmp_path, monkeypatch
):
    """The last one is interrupted and resumed as well: bit for bit the whole run."""
    losses = {}
    command = ["prefer", str(small_run), pairs_file, "--lr", "1e-2", "--reduction", "mean"]
    for counted in COUNTED_PARTS:
        out = tmp_path / counted
        assert main([*command, "--counted", counted, "--out", str(out)]) == 0
        preference = read_json(out / run_folder.CONFIG)["preference"]
        assert (preference["reduction"], preference["counted"]) == ("mean", counted)
        losses[counted] = run_folder.read_metrics(out)[-1]["train_loss"]
    assert len(set(losses.values())) == len(COUNTED_PARTS)
    part = tmp_path / "part"
    with monkeypatch.context() as patch:
        patch.setattr("ch07.commands.prefer.stop_on_signal", stopping_at(3))
        assert main([*command, "--counted", counted, "--out", str(part)]) == 130
    assert not (part / run_folder.MODEL).exists()
    assert main(["prefer", "--resume", "--out", str(part)]) == 0
    assert (part / run_folder.MODEL).read_bytes() == (out / run_folder.MODEL).read_bytes()


def failing_at(step, error):
    """Replaces `stop_on_signal`: raises `error` during this step."""

    @contextmanager
    def stop(note):
        steps = iter(range(1, step))

        def asked_to_stop():
            if next(steps, None) is None:
                raise error
            return False

        yield asked_to_stop

    return stop


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(28, "No space left on device")])
def test_a_failed_run_names_its_last_complete_checkpoint(
    error, small_run, pairs_file, tmp_path, monkeypatch, capsys
):
    """The checkpoint was due at that step; the failure did not request it."""
    whole, part = tmp_path / "whole", tmp_path / "part"
    options = ["--lr", "1e-2", "--checkpoint-minutes", "0"]
    assert main(["prefer", str(small_run), pairs_file, *options, "--out", str(whole)]) == 0
    with monkeypatch.context() as patch:
        patch.setattr("ch07.commands.prefer.stop_on_signal", failing_at(4, error))
        code = main(["prefer", str(small_run), pairs_file, *options, "--out", str(part)])
    error_text = capsys.readouterr().err
    assert code == (130 if isinstance(error, KeyboardInterrupt) else 1)
    assert "step-00000003 is complete; resume with:" in error_text
    (line,) = re.findall(r"python -m ch07 (prefer --resume .*)", error_text)
    assert main(line.split()) == 0
    assert "resuming from step 3" in capsys.readouterr().err
    assert (part / run_folder.MODEL).read_bytes() == (whole / run_folder.MODEL).read_bytes()


def test_a_run_resumes_after_its_sources_have_moved(
    small_run, pairs_file, tmp_path, monkeypatch, capsys
):
    out, moved, pairs = tmp_path / "out", tmp_path / "moved", tmp_path / "pairs2.json"
    with monkeypatch.context() as patch:
        patch.setattr("ch07.commands.prefer.stop_on_signal", stopping_at(2))
        assert main(["prefer", str(small_run), pairs_file, "--out", str(out)]) == 130
    small_run.rename(moved)
    Path(pairs_file).rename(pairs)
    assert main(["prefer", "--resume", "--out", str(out)]) == 1
    error = capsys.readouterr().err
    assert f"the model {small_run}: if it moved, say where with prefer RUN --resume" in error
    assert f"the data {pairs_file}: if it moved, say where with prefer RUN DATA --res" in error
    assert main(["prefer", str(moved), "--resume", "--out", str(out)]) == 1
    assert "pairs.json" in capsys.readouterr().err
    assert main(["prefer", str(moved), str(pairs), "--resume", "--out", str(out)]) == 0


def test_an_occupied_folder_names_the_command_that_resumes_its_run(
    small_run, pairs_file, tmp_path, capsys
):
    command = ["prefer", str(small_run), pairs_file, "--out", str(tmp_path / "out")]
    assert main(command) == 0
    for second_command in (command, ["finetune", "--out", str(tmp_path / "out")]):
        assert main(second_command) == 1
        assert "resume it with: python -m ch07 prefer --resume" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "arguments", "code", "message"),
    [
        (None, ["--beta", "0.2"], 2, "can't be resumed with other settings: beta was 0.1"),
        (None, ["--counted", "answer"], 2, "other settings: counted was 'answer-and-end', now"),
        ("older", ["--counted", "answer-and-end"], 0, ""),
        ("older", ["--counted", "answer"], 2, "counted was 'answer-and-end', now 'answer'"),
        (None, [], 0, ""),
        ("pairs", [], 1, "its data_sha256 was"),
        ("start", [], 1, "its start_sha256 was"),
        ("beta", [], 1, "was altered since the run started"),
        ("kind", [], 1, "wasn't trained on pairs"),
        ("list", [], 1, "was altered: "),
        ("text", [], 1, "was altered: the option beta is "),
    ],
)
def test_a_run_resumes_only_with_unchanged_inputs(
    small_run, pairs_file, tmp_path, monkeypatch, capsys, change, arguments, code, message
):
    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        patch.setattr("ch07.commands.prefer.stop_on_signal", stopping_at(2))
        assert main(["prefer", str(small_run), pairs_file, "--out", str(out)]) == 130
    if change == "pairs":
        write(Path(pairs_file), [PAIR] * 40)
    if change == "start":
        save_model(small_run, GPTModel(load_run(small_run).model.config))
    if change == "beta":
        config = read_json(out / run_folder.CONFIG)
        config["preference"]["beta"] = 0.2
        (out / run_folder.CONFIG).write_text(json.dumps(config), encoding="utf-8")
    if change == "older":  # a version that didn't mention it
        config = read_json(out / run_folder.CONFIG)
        del config["preference"]["counted"]
        (out / run_folder.CONFIG).write_text(json.dumps(config), encoding="utf-8")
        shutil.rmtree(out / run_folder.CHECKPOINT)
    if change in ("list", "text"):
        config = read_json(out / run_folder.CONFIG)
        config["preference"] = [] if change == "list" else {**config["preference"], "beta": "x"}
        (out / run_folder.CONFIG).write_text(json.dumps(config), encoding="utf-8")
        shutil.rmtree(out / run_folder.CHECKPOINT)  # which has a copy
    out = small_run if change == "kind" else out
    assert main(["prefer", "--resume", "--out", str(out), *arguments]) == code
    assert message in capsys.readouterr().err


def test_a_finished_run_may_be_resumed_twice(small_run, pairs_file, tmp_path, capsys):
    """With its last checkpoint damaged, it resumes from the one before and writes another."""
    out = tmp_path / "out"
    options = ["--checkpoint-minutes", "0", "--out", str(out)]
    assert main(["prefer", str(small_run), pairs_file, *options]) == 0
    model = (out / run_folder.MODEL).read_bytes()
    newest = max((out / run_folder.CHECKPOINT).glob("step-*"))
    (newest / "model.safetensors").write_bytes(b"damaged")
    for _ in range(2):
        assert main(["prefer", "--resume", "--out", str(out)]) == 0, capsys.readouterr().err
        assert (out / run_folder.MODEL).read_bytes() == model


def test_the_help_states_every_default(capsys):
    with pytest.raises(SystemExit):
        main(["prefer", "--help"])
    help_text = " ".join(capsys.readouterr().out.split()).replace("- ", "-")  # a word in two lines
    for field in fields(PreferOptions):
        if field.type in (int, float, str) and field.name not in ("model", "optimizer"):
            value = field.default if isinstance(field.default, str) else f"{field.default:g}"
            flag = "--" + field.name.replace("_", "-")
            assert f"default: {value}" in help_text.split(f" {flag} ")[-1].split(" --")[0], flag


def test_resuming_needs_a_run(tmp_path, capsys):
    for arguments, code, message in (
        (["--resume"], 2, "--resume needs --out NEW"),
        (["--resume", "--out", str(tmp_path)], 1, "is not a run folder"),
        (["--out", str(tmp_path / "new")], 2, "prefer needs RUN"),
    ):
        assert main(["prefer", *arguments]) == code
        assert message in capsys.readouterr().err


def test_a_prefix_run_cannot_be_trained_on_pairs(small_run, tmp_path, capsys):
    model, config = load_run(small_run).model, read_json(small_run / run_folder.CONFIG)
    config["options"] |= {"method": "prefix", "model": "gpt2-tiny"}
    (small_run / run_folder.CONFIG).write_text(json.dumps(config), encoding="utf-8")
    save_model(small_run, PrefixTuned(model, PrefixEncoder(model.config, 3)))
    assert main(["prefer", str(small_run), "--out", str(tmp_path / "new")]) == 2
    assert "learned only a prefix" in capsys.readouterr().err


def test_finetune_like_a_preference_run_names_the_prefer_command(small_run, tmp_path, capsys):
    config = read_json(small_run / run_folder.CONFIG) | {"preference": {}}
    (small_run / run_folder.CONFIG).write_text(json.dumps(config), encoding="utf-8")
    assert main(["finetune", "--like", str(small_run), "--out", str(tmp_path / "new")]) == 1
    assert "python -m ch07 prefer" in capsys.readouterr().err


def test_a_duplicate_pair_is_reported(tmp_path):
    pair = {"instruction": "Say it.", "input": "", "chosen": "Yes.", "rejected": "Yes"}
    (tmp_path / "pairs.json").write_text(json.dumps([pair, pair]), encoding="utf-8")
    file = read_preferences(tmp_path / "pairs.json")
    assert len(file.entries) == 2
    assert [f.text for f in file.findings] == ["the same as an earlier row; first as row 1"]
