"""Muon by hand: PyTorch's own in bfloat16, and what orthogonalizing a gradient means."""

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from ch07.training import muon
from ch07.training.muon import Muon, count_operations, orthogonalize, stacks_of_equal_shape

SHAPES = [(8, 8), (32, 8), (8, 32), (1, 5)]


def matrices(seed):
    generator = torch.Generator().manual_seed(seed)
    return [nn.Parameter(torch.randn(shape, generator=generator)) for shape in SHAPES]


def steps(optimizer, weights, n=4):
    generator = torch.Generator().manual_seed(1)
    for _ in range(n):
        for weight in weights:
            weight.grad = torch.randn(weight.shape, generator=generator)
        optimizer.step()


@pytest.mark.parametrize(("dtype", "tolerance"), [("bfloat16", 0.0), ("float32", 0.01)])
def test_it_computes_what_pytorchs_muon_does(dtype, tolerance):
    """In bfloat16 to the bit; in float32 up to the rounding of bfloat16."""
    ours = matrices(0)
    theirs = matrices(0)
    steps(Muon(ours, lr=0.1, weight_decay=0.1, dtype=dtype), ours)
    peer = torch.optim.Muon(theirs, lr=0.1, weight_decay=0.1, adjust_lr_fn="match_rms_adamw")
    steps(peer, theirs)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=tolerance)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e4])
def test_orthogonalizing_makes_all_directions_about_equally_long(shape, scale):
    """The directions themselves, U and V of the singular value decomposition, stay."""
    gradient = scale * torch.randn(shape, generator=torch.Generator().manual_seed(3))
    U, before, Vh = torch.linalg.svd(gradient, full_matrices=False)
    inner = U.T @ orthogonalize(gradient[None], "float32")[0] @ Vh.T
    after = inner.diagonal()
    # only a direction that hardly counted, below 2 % of the whole, may stay shorter
    counted = before > 0.02 * before.norm()
    assert after[counted].min() > 0.6 and after.max() < 1.3
    assert (inner - after.diag()).abs().max() < 1e-3


def test_a_gradient_of_zeros_moves_nothing():
    zeros = torch.zeros(2, 3, 4)
    assert torch.equal(orthogonalize(zeros, "float32"), zeros)


def test_a_matrix_without_a_gradient_stays():
    (weight,) = matrices(0)[:1]
    before = weight.clone()
    Muon([weight], lr=0.1, weight_decay=0.1, dtype="float32").step()
    assert torch.equal(weight, before)


@pytest.mark.parametrize("shape", SHAPES)
def test_operations_are_those_that_pytorch_counts(shape):
    with FlopCounterMode(display=False) as counter:
        orthogonalize(torch.ones(3, *shape), "float32")
    assert 3 * count_operations(shape) == counter.get_total_flops()


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
@pytest.mark.parametrize("shape", SHAPES)
def test_matrices_computed_together_are_those_computed_alone(shape, dtype):
    stack = torch.randn(3, *shape, generator=torch.Generator().manual_seed(3))
    stack[1] *= 1e4  # each has its own norm
    together = orthogonalize(stack, dtype)
    alone = torch.cat([orthogonalize(matrix[None], dtype) for matrix in stack])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-6 if dtype == "float32" else 0.01)


def test_a_stack_has_one_shape_and_a_bounded_size(monkeypatch):
    monkeypatch.setattr(muon, "STACKED_NUMBERS", 100)
    large = torch.zeros(20, 20)
    small = [torch.full((4, 8), float(i)) for i in range(7)]
    stacks = list(stacks_of_equal_shape([small[0], large, *small[1:]]))
    assert [len(stack) for stack in stacks] == [3, 3, 1, 1]
    assert [float(m[0, 0]) for stack in stacks[:3] for m in stack] == list(range(7))
    assert stacks[3][0] is large
