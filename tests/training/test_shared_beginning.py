"""The beginning of a batch is read once: the loss, its gradient and the count of targets stay."""

from functools import partial

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from ch07.config import FinetuneOptions
from ch07.models.lora import add_lora
from ch07.models.prefix_tuning import PrefixEncoder, PrefixTuned
from ch07.training.cross_entropy import summed_cross_entropy_in_place
from ch07.training.job import build_job
from ch07.training.run_plan import build_plan
from ch07.training.shared_beginning import (
    SharedBeginning,
    choose_length,
    count_shared_columns,
    fold_beginning,
    sum_loss_with_shared_beginning,
)
from collate import custom_collate_fn, custom_collate_response_fn
from gpt_model import GPTModel
from train_loop import calc_loss_loader, sum_loss

CONFIG = {"vocab_size": 40, "context_length": 48, "emb_dim": 16, "n_heads": 2, "n_layers": 2}
PREFIX_LENGTH = 3


def make_model(kind):
    """A model, and how long its prefix is."""
    generator = torch.Generator().manual_seed(0)
    model = GPTModel(CONFIG, generator)
    with torch.no_grad():  # larger weights, so that attention is not nearly even
        for weight in model.parameters():
            weight.mul_(4)
    if kind == "lora":
        model = add_lora(model, rank=2, alpha=4.0, generator=generator)
        for name, weight in model.named_parameters():
            if name.endswith("B"):
                torch.nn.init.normal_(weight, generator=generator)
    if kind == "prefix":
        return PrefixTuned(model, PrefixEncoder(model.config, PREFIX_LENGTH, None, generator)), 3
    return model, 0


def make_batch(n_rows, n_shared, longest, loss_on, seed):
    """Inputs and targets of rows of different lengths that begin alike."""
    generator = torch.Generator().manual_seed(seed)

    def draw(n):
        return torch.randint(0, CONFIG["vocab_size"], (n,), generator=generator).tolist()

    beginning = draw(n_shared)
    lengths = torch.randint(1, longest + 1, (n_rows,), generator=generator).tolist()
    rows = [beginning + draw(n) for n in lengths]
    if loss_on == "all":
        return custom_collate_fn(rows, pad_token_id=0)
    pairs = [(n_shared + min(1, n - 1), row) for n, row in zip(lengths, rows, strict=True)]
    return custom_collate_response_fn(pairs, pad_token_id=0)


def exact_cross_entropy(logits, targets, times=1):
    """In the logits' own number format; the project's functions compute it in float32."""
    losses = F.cross_entropy(logits, targets, reduction="none")
    return (losses * times).sum()


def loss_and_gradients(batch_loss, batch, model):
    model.zero_grad()
    loss, n = batch_loss(*batch, model, "cpu", cross_entropy=exact_cross_entropy)
    (loss / n).backward()
    gradients = {
        name: weight.grad.clone()
        for name, weight in model.named_parameters()
        if weight.requires_grad
    }
    return loss.item(), n, gradients


def shared_loss(prefix_length=0, round_sizes=False):
    return partial(
        sum_loss_with_shared_beginning, prefix_length=prefix_length, round_sizes=round_sizes
    )


def allocate_double(cache, part):
    B, H, _, D = part.shape
    return torch.empty(B, H, cache.max_length, D, dtype=torch.float64)


@settings(deadline=None, max_examples=60)
@given(
    kind=st.sampled_from(["full", "lora", "prefix"]),
    loss_on=st.sampled_from(["all", "response"]),
    n_rows=st.integers(1, 6),
    n_shared=st.integers(0, 30),
    longest=st.integers(1, 12),
    round_sizes=st.booleans(),
    seed=st.integers(0, 2**31),
)
def test_loss_gradient_and_count_are_those_of_the_plain_way(
    kind, loss_on, n_rows, n_shared, longest, round_sizes, seed
):
    """Compared in float64, where rounding can't hide a mistake."""
    model, prefix_length = make_model(kind)
    model = model.double()
    batch = make_batch(n_rows, n_shared, longest, loss_on, seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("gpt_model.attention_in_float32", F.scaled_dot_product_attention)
        patch.setattr("gpt_model.KVCache._allocate", allocate_double)
        loss, n, gradients = loss_and_gradients(sum_loss, batch, model)
        batch_loss = shared_loss(prefix_length, round_sizes)
        ours, our_n, our_gradients = loss_and_gradients(batch_loss, batch, model)
    assert our_n == n
    assert ours == pytest.approx(loss, rel=1e-12)
    assert gradients.keys() == our_gradients.keys()
    size = torch.cat([g.flatten() for g in gradients.values()]).norm()
    for name, gradient in gradients.items():
        assert (our_gradients[name] - gradient).norm() <= 1e-12 * size, name


def test_in_float32_loss_and_gradient_agree_to_rounding():
    model, _ = make_model("full")
    batch = make_batch(6, 20, 12, "all", seed=1)
    loss, n, gradients = loss_and_gradients(sum_loss, batch, model)
    ours, our_n, our_gradients = loss_and_gradients(shared_loss(), batch, model)
    assert (ours, our_n) == (pytest.approx(loss, rel=1e-6), n)
    size = torch.cat([g.flatten() for g in gradients.values()]).norm()
    for name, gradient in gradients.items():
        assert (our_gradients[name] - gradient).norm() <= 1e-6 * size, name


def test_in_bfloat16_it_is_as_exact_as_the_plain_way():
    model, _ = make_model("full")
    batch = make_batch(4, 20, 8, "all", seed=5)
    exact, n = sum_loss(*batch, model, "cpu")
    for batch_loss in (sum_loss, shared_loss()):
        loss, _ = batch_loss(
            *batch, model, "cpu", dtype="bfloat16", cross_entropy=summed_cross_entropy_in_place
        )
        assert loss.item() / n == pytest.approx(exact.item() / n, rel=0.01)


# --- how much is read -----------------------------------------------------------------------------


class Spy(torch.nn.Module):
    """A model that notes the shape of what it reads."""

    def __init__(self, model):
        super().__init__()
        self.model = model
        self.shapes = []

    def forward(self, token_ids, **options):
        self.shapes.append(tuple(token_ids.shape))
        return self.model(token_ids, **options)


def test_one_call_reads_the_beginning_once():
    """8 rows of 23 + 13 tokens: the beginning fills two rows of 13 above the rests.

    The prompts have 24 tokens in common, but the target of the 24th is the first of an answer.
    """
    model, _ = make_model("full")
    beginning = list(range(24))
    rows = [[*beginning, i, *range(11)] for i in range(24, 32)]
    spy = Spy(model)
    batch = custom_collate_response_fn([(24, row) for row in rows], pad_token_id=0)
    shared_loss()(*batch, spy, "cpu")
    assert spy.shapes == [(2 + 8, 13)]


@pytest.mark.parametrize("rows", [[[1, 2, 3, 4]], [[1, 2, 3], [2, 3, 4]]])
def test_without_a_beginning_to_share_the_bits_are_those_of_the_plain_way(rows):
    model, _ = make_model("full")
    batch = custom_collate_fn(rows, pad_token_id=0)
    plain, ours = (
        batch_loss(*batch, model, "cpu", cross_entropy=summed_cross_entropy_in_place)
        for batch_loss in (sum_loss, shared_loss())
    )
    assert torch.equal(plain[0], ours[0]) and plain[1] == ours[1]


def test_equal_rows_share_all_but_a_last_token():
    model, _ = make_model("full")
    batch = custom_collate_fn([[1, 2, 3, 4, 5, 6]] * 4, pad_token_id=0)
    spy = Spy(model)
    loss, n = shared_loss()(*batch, spy, "cpu")
    expected, _ = sum_loss(*batch, model, "cpu")
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6) and n == 24
    assert spy.shapes[0][0] * spy.shapes[0][1] < 4 * 6


def test_a_target_that_differs_ends_what_is_shared():
    """With all targets counted, the last common token predicts a different one in each row."""
    inputs, targets = custom_collate_fn([[7, 8, 1], [7, 8, 2]], pad_token_id=0)
    assert count_shared_columns(inputs, targets) == 1
    assert count_shared_columns(inputs, torch.full_like(targets, -100)) == 2


@given(n_shared=st.integers(0, 60), B=st.integers(1, 64), T=st.integers(1, 64))
def test_the_rectangle_is_never_larger_than_the_batch(n_shared, B, T):
    P = choose_length(n_shared, B, T)
    assert 0 <= P <= min(n_shared, T - 1)
    if P:
        batch = torch.arange(B * T).view(B, T)
        rectangle = fold_beginning(batch, P, fill=-1)
        assert rectangle.numel() < B * T
        # every token of the first row, and the rest of each other row, once
        expected = [*batch[0, :P].tolist(), *batch[:, P:].flatten().tolist()]
        assert [i for i in rectangle.flatten().tolist() if i != -1] == expected


def test_a_row_sees_the_beginning_and_its_own_tokens_up_to_itself():
    """M = 2 rows of R = 2 hold a beginning of P = 3 (a, b, c); below is one rest (x, y)."""
    cache = SharedBeginning(P=3, T=5)
    positions, mask = cache.positions_and_mask(torch.zeros(3, 2, dtype=torch.long))
    assert positions.tolist() == [[0, 1], [2, 3], [3, 4]]
    seen = {
        (row, column): "".join(
            name for name, yes in zip("abcxy", mask[row, 0, column].tolist(), strict=True) if yes
        )
        for row in range(3)
        for column in range(2)
    }
    padding = (1, 1)
    assert seen == {
        (0, 0): "a",
        (0, 1): "ab",
        (1, 0): "abc",
        padding: "abc",
        (2, 0): "abcx",
        (2, 1): "abcxy",
    }


# --- in a run -------------------------------------------------------------------------------------


def plan_of(**options):
    return build_plan(FinetuneOptions(**options), lambda text: None)


def test_a_run_shares_unless_it_is_told_not_to_or_drops_activations(tmp_path):
    assert plan_of().settings.batch_loss.func is sum_loss_with_shared_beginning
    assert plan_of(shared_beginning="per-row").settings.batch_loss is sum_loss


def test_the_bundled_prompts_share_half_of_their_tokens():
    plan = plan_of()
    batch = next(iter(plan.train_loader))
    model = Spy(GPTModel({**CONFIG, "vocab_size": 50257, "context_length": 1024}))
    plan.settings.batch_loss(*batch, model, "cpu")
    (shape,) = model.shapes
    assert shape[0] * shape[1] < 0.6 * batch[0].numel()


@pytest.mark.parametrize("compiled", [False, True])
def test_an_evaluation_is_the_same(compiled):
    plan = plan_of(max_steps=1)
    model = GPTModel({**CONFIG, "vocab_size": 50257, "context_length": 1024})
    if compiled:
        model = torch.compile(model, dynamic=True, backend="eager")
    losses = [
        calc_loss_loader(
            plan.train_loader,
            model,
            "cpu",
            num_batches=2,
            batch_loss=batch_loss,
            cross_entropy=summed_cross_entropy_in_place,
        )
        for batch_loss in (sum_loss, plan.settings.batch_loss)
    ]
    assert losses[1] == pytest.approx(losses[0], rel=1e-6)


def test_a_model_with_dropout_reads_each_row(tmp_path):
    from ch07.training.run_plan import _batch_loss
    from gpt_model import GPTConfig

    cpu = torch.device("cpu")
    assert _batch_loss(FinetuneOptions(), GPTConfig(drop_rate=0.1), cpu, "float32") is sum_loss


def test_a_job_trains_with_it(tmp_path):
    options = FinetuneOptions(max_steps=1, dtype="float32", out=str(tmp_path / "run"))
    job = build_job(options, lambda text: None)
    keywords = job.plan.settings.batch_loss.keywords
    assert keywords == {"prefix_length": 0, "round_sizes": False}
