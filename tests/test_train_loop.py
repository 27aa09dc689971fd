"""The loop's invariants: grouping, evaluation and interruption change no number."""

import itertools
import math
import re
from contextlib import contextmanager, nullcontext
from dataclasses import asdict

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import BatchSampler, DataLoader, RandomSampler, Sampler
from torch.utils.data.distributed import DistributedSampler

from ch07.training.cross_entropy import summed_cross_entropy_in_place
from collate import custom_collate_fn
from gpt_model import GPTModel
from train_loop import (
    TrainSettings,
    TrainState,
    calc_loss_batch,
    calc_loss_loader,
    calc_loss_loader_simple,
    count_tokens,
    evaluate_model,
    is_flat_after_a_third,
    learning_rate,
    make_optimizer,
    plot_losses,
    remaining_batches,
    seeded_step,
    sum_loss,
    summed_cross_entropy,
    takes_wanted,
    total_steps,
    train_model,
    train_model_simple,
    train_step,
)

CONFIG = {"vocab_size": 60, "context_length": 16, "emb_dim": 16, "n_heads": 2, "n_layers": 2}


def rows(n=24, seed=0):
    """Rows of very different lengths, as lists of ids."""
    random = np.random.default_rng(seed)
    return [random.integers(0, 59, random.integers(1, 12)).tolist() for _ in range(n)]


def collate(batch):
    return custom_collate_fn(batch, pad_token_id=59)


def loader(data, batch_size=4, **options):
    return DataLoader(data, batch_size=batch_size, collate_fn=collate, **options)


def model(drop_rate=0.0):
    return GPTModel(CONFIG | {"drop_rate": drop_rate}, torch.Generator().manual_seed(3))


def trained(settings, data=None, drop_rate=0.0, **options):
    gpt = model(drop_rate)
    data = rows() if data is None else data
    loaders = loader(data), loader(rows(6, seed=1))
    optimizer = make_optimizer(gpt.parameters())
    state = train_model(gpt, *loaders, optimizer, settings=settings, progress=False, **options)
    return gpt, state


def assert_same_bits(one, two):
    for (name, a), b in zip(one.named_parameters(), two.parameters(), strict=True):
        assert torch.equal(a, b), name


def test_learning_happens_and_every_tensor_moves():
    before = model()
    gpt, state = trained(TrainSettings(num_epochs=8, peak_lr=1e-2, eval_freq=10))
    losses = [record["train_loss"] for record in state.history]
    assert losses[-1] < losses[0] - 0.5
    for (name, a), b in zip(before.named_parameters(), gpt.named_parameters(), strict=True):
        assert not torch.equal(a, b[1]), f"{name} did not move"


def test_a_frozen_tensor_stays():
    gpt = model()
    gpt.pos_emb.weight.requires_grad_(False)
    before = gpt.pos_emb.weight.clone()
    train_model(
        gpt,
        loader(rows()),
        None,
        make_optimizer(gpt.parameters()),
        settings=TrainSettings(num_epochs=1),
        progress=False,
    )
    assert torch.equal(gpt.pos_emb.weight, before)


@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_an_evaluation_does_not_depend_on_the_batch_size(batch_size):
    data, gpt = rows(), model()
    by_rows = [calc_loss_batch(*collate([row]), gpt, "cpu").item() * len(row) for row in data]
    exact = sum(by_rows) / sum(map(len, data))
    assert calc_loss_loader(loader(data, batch_size), gpt, "cpu") == pytest.approx(exact, abs=1e-6)


def test_the_mean_of_batch_means_would_differ():
    data, gpt = rows(), model()
    means = [calc_loss_batch(*batch, gpt, "cpu").item() for batch in loader(data, 4)]
    assert abs(sum(means) / len(means) - calc_loss_loader(loader(data, 4), gpt, "cpu")) > 1e-5


@pytest.mark.parametrize("size", [1, 2, 4])
def test_accumulated_equals_one_big_batch(size):
    """8 rows at once, as 4 x 2, 2 x 4 or 8 x 1: the same gradient, so the same update."""
    data, settings = rows(8), TrainSettings(grad_clip=math.inf)
    wanted, ours = model(), model()
    loss = train_step(
        [collate(data)], wanted, torch.optim.SGD(wanted.parameters()), "cpu", 0.1, settings
    )
    window = [collate(data[i : i + size]) for i in range(0, 8, size)]
    small = train_step(window, ours, torch.optim.SGD(ours.parameters()), "cpu", 0.1, settings)
    assert small.item() == pytest.approx(loss.item(), abs=1e-6)
    for a, b in zip(wanted.parameters(), ours.parameters(), strict=True):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=0)


def test_a_step_returns_the_loss_before_it_and_leaves_no_gradient():
    data, gpt = rows(6), model()
    before = calc_loss_batch(*collate(data), gpt, "cpu").item()
    window = [collate(data[:1]), collate(data[1:])]
    optimizer = torch.optim.SGD(gpt.parameters())
    loss = train_step(window, gpt, optimizer, "cpu", 0.1, TrainSettings())
    assert loss.item() == pytest.approx(before, abs=1e-6)
    assert all(weight.grad is None for weight in gpt.parameters())


@pytest.mark.parametrize("function", [summed_cross_entropy, summed_cross_entropy_in_place])
def test_no_number_is_read_from_the_device_until_the_gradients_are_there(function, monkeypatch):
    """On "meta" tensors have a shape and no numbers: what would wait for a GPU fails there."""
    monkeypatch.setattr("torch.autocast", lambda *given, **options: nullcontext())  # not on meta
    gpt, (ids, targets) = model().to("meta"), collate(rows())
    loss, n = sum_loss(ids, targets, gpt, "meta", cross_entropy=function)
    assert n == (targets != -100).sum()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(gpt.parameters(), 1.0)
    with pytest.raises(NotImplementedError):  # so this test can fail: the mask on the device
        gpt(ids.to("meta"), wanted=(targets != -100).to("meta"))


def test_one_validation_batch_is_enough():
    gpt, few = model(), loader(rows(3))
    assert evaluate_model(gpt, few, few, "cpu")[1] == calc_loss_loader(few, gpt, "cpu")


def test_a_short_last_window_is_trained_on():
    settings = TrainSettings(num_epochs=1, accumulation_steps=4)
    _, state = trained(settings, rows(20))  # 5 batches: a window of 4 and one of 1
    assert (state.step, state.tokens_seen) == (2, sum(map(len, rows(20))))


def test_fewer_rows_than_a_batch_are_trained_on():
    _, state = trained(TrainSettings(num_epochs=1), rows(1))
    assert state.step == 1


@pytest.mark.parametrize("drop_rate", [0.0, 0.5])
def test_evaluation_changes_no_bit(drop_rate):
    """Not even with a shuffled loader that draws from the global stream, as the book's does."""

    def run(eval_freq):
        torch.manual_seed(7)
        gpt = model(drop_rate)
        shuffled = loader(rows(), shuffle=True)
        settings = TrainSettings(num_epochs=2, eval_freq=eval_freq)
        train_model(
            gpt,
            shuffled,
            loader(rows(5)),
            make_optimizer(gpt.parameters()),
            settings=settings,
            progress=False,
        )
        return gpt

    assert_same_bits(run(1), run(1000))


def generators_own_order(generator):
    return loader(rows(), sampler=RandomSampler(rows(), generator=generator))


def generators_own_batches(generator):
    sampler = BatchSampler(RandomSampler(rows(), generator=generator), 4, drop_last=False)
    return DataLoader(rows(), batch_sampler=sampler, collate_fn=collate)


@pytest.mark.parametrize("make_loader", [generators_own_order, generators_own_batches])
def test_evaluation_draws_nothing_from_a_samplers_own_generator(make_loader):
    def run(eval_freq):
        gpt = model()
        data = make_loader(torch.Generator().manual_seed(1))
        settings = TrainSettings(num_epochs=2, eval_freq=eval_freq)
        optimizer = make_optimizer(gpt.parameters())
        train_model(gpt, data, None, optimizer, settings=settings, progress=False)
        return gpt

    assert_same_bits(run(1), run(1000))


class Recorded(Sampler):
    """Any sampler whose order depends on the epoch, as DistributedSampler's does."""

    def __init__(self):
        self.epochs = []

    def set_epoch(self, epoch):
        self.epochs.append(epoch)

    def __iter__(self):
        return iter(range(24))

    def __len__(self):
        return 24


@pytest.mark.parametrize("inside", [False, True])
def test_every_sampler_is_told_the_epoch(inside):
    sampler = Recorded()
    if inside:  # of a batch sampler that knows nothing of epochs
        batches = BatchSampler(sampler, 4, drop_last=False)
        data = DataLoader(rows(), batch_sampler=batches, collate_fn=collate)
    else:
        data = loader(rows(), sampler=sampler)
    gpt = model()
    settings = TrainSettings(num_epochs=3, eval_freq=1000)
    train_model(
        gpt, data, None, make_optimizer(gpt.parameters()), settings=settings, progress=False
    )
    assert sorted(set(sampler.epochs)) == [0, 1, 2]


def test_a_distributed_sampler_gives_each_epoch_an_order_of_its_own():
    data = loader(rows(), sampler=DistributedSampler(rows(), num_replicas=2, rank=0, seed=3))
    orders = []
    for epoch in (0, 1, 0):
        batches = remaining_batches(data, TrainState(epoch=epoch))
        orders.append([inputs.tolist() for inputs, _ in batches])
    assert orders[0] == orders[2] != orders[1]


def test_a_step_seeds_no_gpu_that_it_does_not_use(monkeypatch):
    """Others may draw there; and to keep the streams of many GPUs takes time at every step."""

    def fail(*arguments):
        raise AssertionError("another device's stream was touched")

    monkeypatch.setattr(torch.cuda, "manual_seed_all", fail)
    monkeypatch.setattr(torch.cuda, "get_rng_state", fail)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 8)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    before = torch.get_rng_state()
    with seeded_step(1, 2):
        one = torch.rand(3)
    with seeded_step(1, 2):
        assert torch.equal(torch.rand(3), one)
    assert torch.equal(torch.get_rng_state(), before)
    calc_loss_loader(loader(rows(5)), model(), "cpu")


def test_a_step_on_one_gpu_seeds_that_gpu_alone(monkeypatch):
    """With stand-ins for eight GPUs, each with a stream of its own."""
    streams = [0] * 8
    current = [0]

    @contextmanager
    def use(device):
        before = current[0]
        current[0] = device.index
        yield
        current[0] = before

    monkeypatch.setattr(torch.cuda, "device", use)
    monkeypatch.setattr(torch.cuda, "manual_seed", lambda n: streams.__setitem__(current[0], n))
    monkeypatch.setattr(torch.cuda, "get_rng_state", lambda device: streams[device.index])
    monkeypatch.setattr(
        torch.cuda, "set_rng_state", lambda state, device: streams.__setitem__(device.index, state)
    )
    with seeded_step(1, 2, "cuda:3"):
        assert streams == [0, 0, 0, (1 << 32) + 2, 0, 0, 0, 0]
        drawn = torch.rand(3)
    assert streams == [0] * 8
    with seeded_step(1, 2):
        assert torch.equal(torch.rand(3), drawn)


def test_evaluation_restores_modes_and_generator_even_if_it_fails():
    gpt = model(0.5).train()
    gpt.trf_blocks[0].eval()
    modes = [module.training for module in gpt.modules()]
    generator = torch.Generator().manual_seed(1)
    data = loader(rows(), shuffle=True, generator=generator)
    before = generator.get_state()
    evaluate_model(gpt, data, None, "cpu")
    with pytest.raises(IndexError):
        calc_loss_loader(loader([[1000]]), gpt, "cpu")
    assert [module.training for module in gpt.modules()] == modes
    assert torch.equal(generator.get_state(), before)


def test_dropout_is_off_in_evaluation():
    gpt = model(0.5).train()
    assert calc_loss_loader(loader(rows()), gpt, "cpu") == calc_loss_loader(
        loader(rows()), gpt, "cpu"
    )


@pytest.mark.slow
@pytest.mark.parametrize("stop", [1, 3, 6, 7, 11])
def test_resumed_equals_uninterrupted(stop):
    settings = TrainSettings(num_epochs=2, eval_freq=4, warmup_steps=2)  # 6 batches an epoch
    whole, whole_state = trained(settings, drop_rate=0.3)

    gpt = model(0.3)
    optimizer = make_optimizer(gpt.parameters())
    arguments = gpt, loader(rows()), loader(rows(6, seed=1)), optimizer, "cpu", settings
    state = train_model(*arguments, on_step=lambda s: s.step == stop, progress=False)
    assert state.step == stop
    torch.rand(5)  # somebody else draws from the global stream
    state = train_model(*arguments, TrainState(**asdict(state)), progress=False)
    assert_same_bits(whole, gpt)
    for ours, theirs in zip(state.history, whole_state.history, strict=True):
        assert ours | {"seconds": 0} == theirs | {"seconds": 0}


def test_a_batch_without_targets_is_skipped_and_counted():
    gpt = model()
    optimizer = make_optimizer(gpt.parameters())
    inputs, targets = collate([[1, 2, 3]])
    nothing = (inputs, torch.full_like(targets, -100))
    train_step([collate([[1, 2, 3]])], gpt, optimizer, "cpu", 1e-3, TrainSettings())  # moments
    before = [p.clone() for p in gpt.parameters()]
    assert train_step([nothing], gpt, optimizer, "cpu", 1e-3, TrainSettings()) is None
    assert all(torch.equal(a, b) for a, b in zip(before, gpt.parameters(), strict=True))
    with pytest.raises(ValueError, match="no target of this batch is counted"):
        calc_loss_batch(*nothing, gpt, "cpu")
    data = [[1, 2, 3], [1, 2, 3], [4, 5]]
    mixed = DataLoader(data, 1, collate_fn=lambda b: nothing if b == [[4, 5]] else collate(b))
    state = train_model(
        gpt, mixed, None, optimizer, settings=TrainSettings(num_epochs=2), progress=False
    )
    assert (state.step, state.skipped) == (6, 2)
    assert all(math.isfinite(record["train_loss"]) for record in state.history)


def test_a_gradient_that_is_not_finite_ends_the_run_before_it_is_applied():
    gpt = model()
    optimizer = make_optimizer(gpt.parameters())
    with torch.no_grad():
        gpt.final_norm.bias[0] = math.inf
    before = gpt.tok_emb.weight.clone()
    with pytest.raises(FloatingPointError, match="gradient is not finite; try a lower"):
        train_step([collate([[1, 2, 3]])], gpt, optimizer, "cpu", 1e-3, TrainSettings())
    assert torch.equal(gpt.tok_emb.weight, before)


def test_the_loss_follows_another_ignore_index():
    inputs, targets = collate([[1, 2, 3], [4]])
    other = targets.masked_fill(targets == -100, -7)
    gpt = model()
    assert calc_loss_batch(inputs, other, gpt, "cpu", ignore_index=-7) == calc_loss_batch(
        inputs, targets, gpt, "cpu"
    )


def test_another_ignore_index_than_the_collates_is_an_error_not_a_wrong_loss():
    inputs, targets = collate([[1, 2, 3], [4]])
    with pytest.raises(RuntimeError, match="out of bounds"):
        calc_loss_batch(inputs, targets, model(), "cpu", ignore_index=-7)


def test_tokens_seen_are_real_tokens():
    data = rows(8)
    inputs, targets = collate(data)
    assert inputs.numel() > sum(map(len, data)) == count_tokens(targets)
    masked = targets.clone()
    masked[:, 0] = -100  # a prompt of two tokens is masked; rows of one token keep their end
    masked[[len(row) == 1 for row in data], 0] = 59
    assert count_tokens(masked) == count_tokens(targets)


def test_no_validation_rows_no_validation_loss():
    gpt = model()
    assert evaluate_model(gpt, loader(rows()), loader([]), "cpu")[1] is None
    assert evaluate_model(gpt, loader(rows()), None, "cpu")[1] is None
    with pytest.raises(ValueError, match="no target of this loader is counted"):
        calc_loss_loader(loader([]), gpt, "cpu")
    with pytest.raises(ValueError, match="the training split is empty"):
        total_steps(loader([]), TrainSettings())


def test_an_estimate_reads_on_until_a_target_is_counted():
    gpt = model()
    first, second, third = list(loader(rows(12), batch_size=4))
    unlearned = (first[0], torch.full_like(first[1], -100))
    expected = calc_loss_loader([second], gpt, "cpu")
    assert calc_loss_loader([unlearned, unlearned, second, third], gpt, "cpu", 1) == expected
    assert calc_loss_loader([second, third], gpt, "cpu", 1) == expected
    with pytest.raises(ValueError, match="no target of this loader is counted"):
        calc_loss_loader([unlearned, unlearned], gpt, "cpu", 1)


def test_the_schedule_warms_up_and_falls_to_its_end():
    settings = TrainSettings(peak_lr=2.0, warmup_steps=10)
    rates = [learning_rate(step, 100, settings) for step in range(100)]
    assert rates[:10] == pytest.approx([0.2 * i for i in range(1, 11)])
    assert max(rates) == 2.0
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert learning_rate(55, 100, settings) == pytest.approx(1.0), "half way down at half time"
    assert learning_rate(100, 100, settings) == pytest.approx(0.0)
    assert learning_rate(0, 1, TrainSettings(peak_lr=2.0)) == 2.0


def test_only_matrices_decay():
    decays = {
        p.ndim >= 2: group["weight_decay"]
        for group in make_optimizer(model().parameters(), weight_decay=0.1).param_groups
        for p in group["params"]
    }
    assert decays == {True: 0.1, False: 0.0}


@pytest.mark.parametrize(
    "name", ["num_epochs", "eval_freq", "accumulation_steps", "max_steps", "eval_iter"]
)
@pytest.mark.parametrize("bad", [0, -1, 1.5, True])
def test_bad_settings_are_refused_with_the_value(name, bad):
    with pytest.raises(ValueError, match=f"{name}={bad}"):
        TrainSettings(**{name: bad})
    assert getattr(TrainSettings(**{name: 1}), name) == 1


@pytest.mark.parametrize("name", ["warmup_steps", "seed"])
def test_warmup_and_seed_count_from_0(name):
    for bad in (-1, 0.5):
        with pytest.raises(ValueError, match=f"{name}={bad}, but must be an int, 0 or more"):
            TrainSettings(**{name: bad})
    assert getattr(TrainSettings(**{name: 0}), name) == 0


@pytest.mark.parametrize("name", ["peak_lr", "grad_clip"])
@pytest.mark.parametrize("bad", [0.0, -1.0, math.nan, -math.inf])
def test_rates_that_would_climb_or_never_learn_are_refused(name, bad):
    with pytest.raises(ValueError, match=f"must be above 0.* but .*{name}={bad}"):
        TrainSettings(**{name: bad})


def test_no_limit_is_a_setting_too():
    TrainSettings(max_steps=None, eval_iter=None, grad_clip=math.inf, peak_lr=1)
    with pytest.raises(ValueError, match="peak_lr=inf"):
        TrainSettings(peak_lr=math.inf)


def test_an_unknown_dtype_is_refused():
    with pytest.raises(ValueError, match="dtype is 'float16'"):
        TrainSettings(dtype="float16")


# --- the book's loop, and where the two loops differ ----------------------------------------------


def trained_simply(data, gpt=None, num_epochs=2, eval_freq=1, shuffle=False, **options):
    """(model, (train_losses, val_losses, track_tokens_seen)) of the book's loop."""
    gpt = model() if gpt is None else gpt
    loaders = loader(data, shuffle=shuffle), loader(data[:8])
    optimizer = make_optimizer(gpt.parameters())
    results = train_model_simple(
        gpt, *loaders, optimizer, "cpu", num_epochs, eval_freq, eval_iter=2, **options
    )
    return gpt, results


def equal_rows(n=16):
    """Rows of one length: every batch has as many counted targets, and no padding."""
    random = np.random.default_rng(5)
    return [random.integers(0, 59, 6).tolist() for _ in range(n)]


def test_the_books_loop_prints_the_books_lines_and_a_sample_after_each_epoch(capsys):
    answers = iter(["first sample", "second sample"])
    modes = []

    def sample_answer(gpt):
        modes.append(gpt.training)
        return next(answers)

    gpt, (train_losses, val_losses, track_tokens_seen) = trained_simply(
        equal_rows(), eval_freq=2, sample_answer=sample_answer
    )
    lines = capsys.readouterr().out.splitlines()
    form = r"Ep (\d) \(Step (\d{6})\): Train loss (\d+\.\d{3}), Val loss (\d+\.\d{3})"
    found = [re.fullmatch(form, line).groups() for line in lines if line.startswith("Ep")]
    assert [(epoch, step) for epoch, step, _, _ in found] == [
        ("1", "000000"),
        ("1", "000002"),
        ("2", "000004"),
        ("2", "000006"),
    ]
    assert [train for _, _, train, _ in found] == [f"{loss:.3f}" for loss in train_losses]
    assert [val for _, _, _, val in found] == [f"{loss:.3f}" for loss in val_losses]
    assert track_tokens_seen == [24, 72, 120, 168]  # 4 rows of 6 tokens per batch
    assert [line for line in lines if not line.startswith("Ep")] == [
        "first sample",
        "second sample",
    ]
    assert modes == [False, False]
    assert gpt.training


def test_both_loops_are_equal_on_full_batches_of_equal_rows(monkeypatch):
    """Without warmup, decay and clipping they make the same steps, up to rounding."""
    monkeypatch.setattr("train_loop.learning_rate", lambda step, n_steps, settings: 1e-3)
    data = equal_rows()
    simple, (train_losses, val_losses, tokens) = trained_simply(data)
    sturdy = model()
    optimizer = make_optimizer(sturdy.parameters())
    settings = TrainSettings(num_epochs=2, grad_clip=math.inf, eval_freq=1, eval_iter=2)
    loaders = loader(data), loader(data[:8])
    state = train_model(sturdy, *loaders, optimizer, settings=settings, progress=False)
    after_steps = state.history[1:]  # the sturdy loop evaluates once before the first step
    assert [r["train_loss"] for r in after_steps] == pytest.approx(train_losses, abs=1e-5)
    assert [r["val_loss"] for r in after_steps] == pytest.approx(val_losses, abs=1e-5)
    assert [r["tokens_seen"] for r in after_steps] == tokens
    for a, b in zip(simple.parameters(), sturdy.parameters(), strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=0)


def test_weakness_1_a_mean_of_batch_means_depends_on_the_batches():
    data, gpt = rows(), model().eval()
    simple = [calc_loss_loader_simple(loader(data, size), gpt, "cpu") for size in (1, 4, 24)]
    sturdy = [calc_loss_loader(loader(data, size), gpt, "cpu") for size in (1, 4, 24)]
    assert max(simple) - min(simple) > 1e-3
    assert max(sturdy) - min(sturdy) < 1e-6
    assert simple[2] == pytest.approx(sturdy[2], abs=1e-6), "one batch: one mean"


def test_weakness_2_a_batch_without_targets_makes_the_mean_nan():
    gpt = model().eval()
    inputs, targets = collate([[1, 2, 3]])
    batches = [(inputs, targets), (inputs, torch.full_like(targets, -100))]
    assert math.isnan(calc_loss_loader_simple(batches, gpt, "cpu"))
    alone = calc_loss_loader(batches[:1], gpt, "cpu")
    assert calc_loss_loader(batches, gpt, "cpu") == alone
    assert math.isnan(calc_loss_loader_simple([], gpt, "cpu"))


def test_weakness_3_padding_is_counted_as_tokens_seen():
    data = rows()
    _, (_, _, tokens) = trained_simply(data, num_epochs=1)
    _, state = trained(TrainSettings(num_epochs=1), data)
    assert tokens[-1] == sum(inputs.numel() for inputs, _ in loader(data))
    assert tokens[-1] > state.tokens_seen == sum(map(len, data))


def test_weakness_4_evaluation_changes_the_weights():
    """`test_evaluation_changes_no_bit` is the same test of the sturdy loop."""

    def run(eval_freq):
        torch.manual_seed(7)
        return trained_simply(rows(), eval_freq=eval_freq, shuffle=True)[0]

    assert_same_bits(run(1000), run(1000))
    with pytest.raises(AssertionError):
        assert_same_bits(run(1), run(1000))


def test_weakness_5_the_learning_rate_never_changes():
    class Watched(torch.optim.SGD):
        def step(self, closure=None):
            rates.append(self.param_groups[0]["lr"])
            super().step()

    seen = []
    for loop in ("simple", "sturdy"):
        rates = []
        gpt = model()
        optimizer = Watched(gpt.parameters(), lr=1e-3)
        if loop == "simple":
            train_model_simple(gpt, loader(rows()), loader(rows()), optimizer, "cpu", 1, 100, 1)
        else:
            settings = TrainSettings(num_epochs=1, warmup_steps=2)
            train_model(gpt, loader(rows()), None, optimizer, settings=settings, progress=False)
        seen.append(rates)
    simple, sturdy = seen
    assert simple == [1e-3] * 6
    assert sturdy[:3] == pytest.approx([0.5e-3, 1e-3, 1e-3])
    assert sturdy[2:] == sorted(sturdy[2:], reverse=True) and len(set(sturdy[2:])) == 4


def test_weakness_6_an_interrupted_run_begins_again():
    """`test_resumed_equals_uninterrupted` is the same test of the sturdy loop."""

    class Interrupted(Exception):
        pass

    def stop(gpt):
        raise Interrupted

    torch.manual_seed(7)
    whole, _ = trained_simply(rows(), model(0.3))
    torch.manual_seed(7)
    gpt = model(0.3)
    with pytest.raises(Interrupted):
        trained_simply(rows(), gpt, sample_answer=stop)  # after the first of two epochs
    _, (train_losses, _, tokens) = trained_simply(rows(), gpt, num_epochs=1)
    assert len(train_losses) == 6, "what was recorded before is lost"
    assert tokens[0] == loader(rows()).collate_fn(rows()[:4])[0].numel(), "counted from 0 again"
    with pytest.raises(AssertionError):  # dropout and the optimizer began again
        assert_same_bits(whole, gpt)


# --- the reader's own model -----------------------------------------------------------------------


class BookModel(nn.Module):
    """A model as the book writes it: `forward(in_idx)` gives the logits of all positions."""

    def __init__(self, gpt):
        super().__init__()
        self.gpt = gpt

    def forward(self, in_idx):
        return self.gpt(in_idx)


class Wrapper(nn.Module):
    """As DistributedDataParallel: everything is passed on to `module`."""

    def __init__(self, module):
        super().__init__()
        self.module = module

    def forward(self, *inputs, **options):
        return self.module(*inputs, **options)


class NotAWrapper(nn.Module):
    """A model that merely has a part of this name."""

    def __init__(self, gpt):
        super().__init__()
        self.module = gpt

    def forward(self, in_idx):
        return self.module(in_idx)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch.compile imports what is old
@pytest.mark.parametrize(
    "wrap", [lambda m: m, Wrapper, torch.compile], ids=["bare", "ddp", "compile"]
)
def test_wrappers_are_looked_through(wrap):
    assert takes_wanted(wrap(model()))
    assert not takes_wanted(wrap(BookModel(model())))
    assert takes_wanted(Wrapper(wrap(model())))


@pytest.mark.parametrize("make", [BookModel, NotAWrapper, lambda gpt: Wrapper(BookModel(gpt))])
def test_the_books_model_trains_as_ours_does(make):
    """Its logits are computed for all positions, and the counted ones are taken."""
    batch = collate(rows(8))
    ours, books = model(), make(model())
    loss, n_targets = sum_loss(*batch, books, "cpu")
    expected, n_expected = sum_loss(*batch, ours, "cpu")
    assert n_targets == n_expected
    torch.testing.assert_close(loss, expected)
    settings = TrainSettings(num_epochs=1)
    for gpt in (ours, books):
        optimizer = make_optimizer(gpt.parameters())
        train_model(gpt, loader(rows()), None, optimizer, settings=settings, progress=False)
    for a, b in zip(ours.parameters(), books.parameters(), strict=True):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=0)


def test_a_model_that_takes_wanted_computes_no_other_logits():
    gpt, widths = model(), []
    gpt.out_head.register_forward_hook(lambda _, given, result: widths.append(result.shape))
    inputs, targets = collate(rows(4))
    n_targets = int((targets != -100).sum())
    for wrapped in (gpt, Wrapper(gpt)):
        calc_loss_batch(inputs, targets, wrapped, "cpu")
    calc_loss_batch(inputs, targets, BookModel(gpt), "cpu")
    assert widths == [(n_targets, 60), (n_targets, 60), (*inputs.shape, 60)]


def test_the_number_of_processes_follows_from_reduce():
    """Two processes that hold the same rows: every sum doubles, so every mean stays."""
    data = [collate(rows(8))]
    alone, one_of_two = model(), model()
    losses = []
    for gpt, settings in (
        (alone, TrainSettings(grad_clip=math.inf)),
        (one_of_two, TrainSettings(grad_clip=math.inf, reduce=lambda number: 2 * number)),
    ):
        optimizer = torch.optim.SGD(gpt.parameters())
        losses.append(train_step(data, gpt, optimizer, "cpu", 0.1, settings).item())
    assert losses[0] == losses[1]
    assert_same_bits(alone, one_of_two)


# --- the plot -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("losses", "flat"),
    [
        ([10.8, 3.0, 1.4, 1.2, 1.1, 1.0, 0.9], True),
        ([10.8, 9.0, 7.5, 6.0, 4.5, 3.0, 1.5], False),
        ([10.8, 3.0, 1.4, 1.2, 0.0, 1.0, 0.9], False),  # a logarithm needs numbers above 0
        ([10.8, 3.0, 1.4, 3.1, 1.1, 1.0, 0.9], False),  # not flat: it rose again
        ([1.0] * 7, False),  # nothing fell, so nothing is hidden
        ([10.8, None, None, None, 1.1, 1.0, None], False),  # too few points to be flat
    ],
)
def test_a_curve_that_is_flat_after_a_third_gets_a_logarithmic_axis(losses, flat):
    epochs = [0.5 * i for i in range(7)]
    tokens = [1000 * i for i in range(7)]
    assert is_flat_after_a_third(epochs, losses) == flat
    below, above = plot_losses(epochs, tokens, losses, [None] * 7).axes
    assert below.get_yscale() == ("log" if flat else "linear")
    assert (below.get_ylim()[0] == 0) == (not flat)
    assert above.get_xlim() == below.get_xlim()


def test_validation_losses_count_as_well_for_the_axis():
    epochs, falling = list(range(7)), [9.0, 8.0, 7.0, 6.0, 5.0, 4.0, 3.0]
    flat = [10.8, 3.0, 1.4, 1.2, 1.1, 1.0, 0.9]
    assert is_flat_after_a_third(epochs, flat, flat)
    assert not is_flat_after_a_third(epochs, flat, falling)
    assert not is_flat_after_a_third(epochs, [None] * 7)
    assert not is_flat_after_a_third([0, 1, 2], [9.0, 2.0, 1.9], [9.0, 2.1, 2.0]), "two evaluations"


@pytest.mark.parametrize("n", [1, 2, 30])
@pytest.mark.parametrize("validated", [True, False])
def test_the_plot_shows_the_recorded_points(tmp_path, n, validated):
    epochs = [0.7 * i for i in range(n)]
    tokens = [int(1e4 * e) for e in epochs]
    train = [3.0 / (i + 1) for i in range(n)]
    val = [loss + 0.1 if validated else None for loss in train]
    figure = plot_losses(epochs, tokens, train, val, tmp_path / "loss.png")
    below, above = figure.axes
    lines = {line.get_label(): line for line in below.get_lines()}
    assert set(lines) == ({"training", "validation"} if validated else {"training"})
    assert lines["training"].get_xdata().tolist() == epochs
    assert lines["training"].get_ydata().tolist() == train
    styles = {(line.get_linestyle(), line.get_marker()) for line in lines.values()}
    assert len(styles) == len(lines), "colour alone tells them apart"
    assert above.get_xlim() == below.get_xlim()
    labels = [label.get_text() for label in above.get_xticklabels()]
    assert max(map(len, labels), default=0) <= 5, "723k, not 722.608k"
    assert (tmp_path / "loss.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("smallest", [0.5, 0.05, 1e-3, 1e-6])
def test_the_labels_of_a_logarithmic_loss_axis_do_not_overlap(smallest):
    epochs = list(range(13))
    losses = [10.8, *[smallest * 1.01**i for i in range(12)]]
    figure = plot_losses(epochs, epochs, losses, losses)
    figure.set_dpi(100)
    figure.draw_without_rendering()
    (axes, *_) = figure.axes
    assert axes.get_yscale() == "log"
    low, high = axes.get_ylim()
    ticks = zip(axes.yaxis.get_majorticklocs(), axes.yaxis.get_ticklabels(), strict=True)
    boxes = [label.get_window_extent() for at, label in ticks if low <= at <= high]
    assert len(boxes) >= 3
    for lower, upper in itertools.pairwise(sorted(boxes, key=lambda box: box.y0)):
        assert lower.y1 <= upper.y0 + 1
