"""The loss in place is PyTorch's cross-entropy: value, gradient, and what it leaves alone."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import cross_entropy

from ch07.config import FinetuneOptions
from ch07.training.cross_entropy import ROWS_AT_ONCE as ROWS
from ch07.training.cross_entropy import summed_cross_entropy_in_place
from ch07.training.run_plan import build_plan
from train_loop import TrainSettings, summed_cross_entropy


def both(logits, targets, scale=1.0):
    """(loss, gradient) of PyTorch's function and of ours, through a matrix product before."""
    results = []
    for function in (summed_cross_entropy, summed_cross_entropy_in_place):
        leaf = logits.clone().requires_grad_()
        loss = function(leaf * 1, targets)  # a copy, which may be written over
        (loss * scale).backward()
        results.append((loss.detach(), leaf.grad))
    return results


@settings(deadline=None)
@given(
    n=st.sampled_from([0, 1, ROWS - 1, ROWS, ROWS + 1, 3 * ROWS + 5]),
    vocab_size=st.integers(1, 300),
    size=st.sampled_from([0.1, 3.0, 1e4]),
    scale=st.sampled_from([1.0, 1 / 480, 0.0]),
    seed=st.integers(0, 2**31),
)
def test_equal_to_pytorch(n, vocab_size, size, scale, seed):
    stream = torch.Generator().manual_seed(seed)
    logits = size * torch.randn(n, vocab_size, generator=stream)
    targets = torch.randint(0, vocab_size, (n,), generator=stream)
    (loss, gradient), (ours, our_gradient) = both(logits, targets, scale)
    step = 2**-22 * max(1.0, size)  # float32's steps where logits are that large
    torch.testing.assert_close(ours, loss, rtol=1e-5, atol=5 * step * max(1, n))
    torch.testing.assert_close(our_gradient, gradient, rtol=5 * step, atol=5 * step)


def test_bfloat16_is_as_exact_as_pytorch_on_the_same_logits():
    """Sums are made in float32; only the gradient is rounded, and as PyTorch rounds it."""
    stream = torch.Generator().manual_seed(0)
    logits = (4 * torch.randn(70, 5000, generator=stream)).bfloat16()
    targets = torch.randint(0, 5000, (70,), generator=stream)
    (loss, gradient), (ours, our_gradient) = both(logits, targets)
    assert ours.dtype == torch.float32 and our_gradient.dtype == torch.bfloat16
    torch.testing.assert_close(ours, loss, rtol=1e-6, atol=0)
    exact = torch.softmax(logits.double(), -1)
    exact[range(70), targets] -= 1
    errors = [(g.double() - exact).abs().max() for g in (gradient, our_gradient)]
    assert errors[1] <= errors[0] * 1.01


def test_the_gradient_is_written_over_the_logits():
    logits = torch.randn(40, 7, requires_grad=True) * 1
    targets = torch.arange(40) % 7
    before = logits.detach().clone()
    summed_cross_entropy_in_place(logits, targets).backward()
    expected = torch.softmax(before, -1) - torch.nn.functional.one_hot(targets, 7)
    torch.testing.assert_close(logits.detach(), expected)


def test_without_gradients_nothing_is_written():
    logits = torch.randn(40, 7)
    kept = logits.clone()
    with torch.no_grad():
        loss = summed_cross_entropy_in_place(logits, torch.zeros(40, dtype=torch.long))
    assert torch.equal(logits, kept)
    expected = cross_entropy(kept, torch.zeros(40, dtype=torch.long), reduction="sum")
    torch.testing.assert_close(loss, expected)


def test_a_layer_that_needs_its_logits_again_is_told():
    """tanh keeps its output for its own gradient: writing over it must not pass in silence."""
    capped = torch.randn(5, 7, requires_grad=True).tanh()
    loss = summed_cross_entropy_in_place(capped, torch.zeros(5, dtype=torch.long))
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_twice_through_the_same_graph_is_told():
    logits = torch.randn(5, 7, requires_grad=True) * 1
    loss = summed_cross_entropy_in_place(logits, torch.zeros(5, dtype=torch.long))
    loss.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


@pytest.mark.parametrize("wrong", [-100, -1, 7])
@pytest.mark.parametrize("function", [summed_cross_entropy, summed_cross_entropy_in_place])
def test_a_target_that_is_no_token_is_told(function, wrong):
    with pytest.raises(RuntimeError, match="out of bounds"):
        function(torch.randn(2, 7), torch.tensor([0, wrong]))


def test_a_run_uses_it():
    """And the chapter's loop, left to itself, uses PyTorch's."""
    plan = build_plan(FinetuneOptions(), report=lambda text: None)
    assert plan.settings.cross_entropy is summed_cross_entropy_in_place
    assert TrainSettings().cross_entropy is summed_cross_entropy
