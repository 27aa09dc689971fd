"""Exercises 16 to 19: wrong answers that are not in the museum are named as well."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from ch07.exercises.checker import diagnose
from ch07.exercises.checks.rotary import rotate as right_rotate
from ch07.models.llama import RMSNorm, SwiGLU
from gpt_model import causal_attention

# --- RMSNorm ------------------------------------------------------------------------------------


class StartsAtZero(RMSNorm):
    def __init__(self, emb_dim, eps=1e-5):
        super().__init__(emb_dim, eps)
        nn.init.zeros_(self.weight)


class AddsOneToTheWeight(StartsAtZero):
    def forward(self, x):
        wide = x.float()
        root = (wide.square().mean(dim=-1, keepdim=True) + self.eps).sqrt()
        return (wide / root).to(x.dtype) * (1 + self.weight)


class HasItsOwnEps(RMSNorm):
    def __init__(self, emb_dim, eps=1e-5):
        super().__init__(emb_dim, 1e-6)


class HasAnotherDefault(RMSNorm):
    def __init__(self, emb_dim, eps=1e-8):
        super().__init__(emb_dim, eps)


class HasNoDefault(RMSNorm):
    def __init__(self, emb_dim, eps=0.0):
        super().__init__(emb_dim, eps)


class CentresAfterwards(RMSNorm):
    def forward(self, x):
        return super().forward(x) * (1 - x.mean(dim=-1, keepdim=True) / x)


class ReturnsTheRoot(RMSNorm):
    def forward(self, x):
        return (x.square().mean(dim=-1) + self.eps).sqrt()


class ReturnsAPair(RMSNorm):
    def forward(self, x):
        return super().forward(x), x


class ForgetsTheRoot(RMSNorm):
    def forward(self, x):
        return x / (x.square().mean(dim=-1, keepdim=True) + self.eps) * self.weight


class StaysInFloat32(RMSNorm):
    def forward(self, x):
        return super().forward(x.float()) * torch.ones(1)


class CallsTheWeightScale(nn.Module):
    def __init__(self, emb_dim, eps=1e-5):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(emb_dim))


class NormalisesPositionsOnly(RMSNorm):
    """Right for three axes, wrong for two."""

    def forward(self, x):
        return super().forward(x) if x.ndim == 3 else x


class HasABuffer(nn.Module):
    def __init__(self, emb_dim, eps=1e-5):
        super().__init__()
        self.eps = eps
        self.register_buffer("weight", torch.ones(emb_dim))

    forward = RMSNorm.forward


class DetachesTheRoot(RMSNorm):
    def forward(self, x):
        wide = x.float()
        root = (wide.square().mean(dim=-1, keepdim=True) + self.eps).sqrt().detach()
        return (wide / root).to(x.dtype) * self.weight


# --- rotate -------------------------------------------------------------------------------------


def pairs_neighbours_and_parts_them(x, positions, theta):
    return right_rotate(torch.cat([x[..., 0::2], x[..., 1::2]], dim=-1), positions, theta)


def rotates_last_numbers_only(x, positions, theta):
    half = x.shape[-1] // 2
    return torch.cat([x[..., :half], right_rotate(x, positions, theta)[..., half:]], dim=-1)


def puts_the_tokens_first(x, positions, theta):
    return right_rotate(x, positions, theta).transpose(1, 2)


def returns_a_list(x, positions, theta):
    return [right_rotate(x, positions, theta)]


def knows_heads_of_8_only(x, positions, theta):
    return right_rotate(x, positions, theta) if x.shape[-1] == 8 else x


def turns_all_pairs_alike(x, positions, theta):
    return right_rotate(x, positions, 1.0)


def counts_from_1(x, positions, theta):
    return right_rotate(x, positions + 1, theta)


def takes_the_first_rows_positions(x, positions, theta):
    return right_rotate(x, positions[:1].expand(len(x), -1), theta)


def counts_on_from_the_first_position(x, positions, theta):
    return right_rotate(x, positions[:, :1] + torch.arange(x.shape[2]), theta)


def rotates_first_numbers_only(x, positions, theta):
    half = x.shape[-1] // 2
    return torch.cat([right_rotate(x, positions, theta)[..., :half], x[..., half:]], dim=-1)


def has_a_wrong_sign(x, positions, theta):
    D = x.shape[-1]
    angles = positions[:, None, :, None] * theta ** (-torch.arange(0, D, 2) / D)
    cos = angles.cos()
    sin = angles.sin()
    first, second = x.chunk(2, dim=-1)
    return torch.cat([first * cos + second * sin, second * cos + first * sin], dim=-1)


def changes_position_0(x, positions, theta):
    return right_rotate(x.flip(-1), positions, theta)


def adds_a_radian_in_all_but_position_0(x, positions, theta):
    return right_rotate(x, positions + (positions > 0), theta)


def stays_in_float32(x, positions, theta):
    return right_rotate(x.float(), positions, theta)


def detaches(x, positions, theta):
    return right_rotate(x.detach(), positions, theta)


def rotates_in_place(x, positions, theta):
    x.copy_(right_rotate(x, positions, theta))
    return x


# --- grouped_query_attention --------------------------------------------------------------------


def returns_the_heads_of_keys(queries, keys, values):
    return causal_attention(queries[:, : keys.shape[1]], keys, values)


def meets_different_heads_in_einsum(queries, keys, values):
    return torch.einsum("bhid,bhjd->bhij", queries, keys)


def joins_the_heads(queries, keys, values):
    return causal_attention(queries, keys, values).transpose(1, 2).flatten(2)


def averages_the_result(queries, keys, values):
    repeats = queries.shape[1] // keys.shape[1]
    context = causal_attention(queries, keys, values).unflatten(1, (-1, repeats))
    return context.mean(dim=2).repeat_interleave(repeats, dim=1)


def tiles_the_keys_alone(queries, keys, values):
    repeats = queries.shape[1] // keys.shape[1]
    shared = values.repeat_interleave(repeats, dim=1)
    return causal_attention(queries, keys.repeat(1, repeats, 1, 1), shared)


def tiles_the_values_alone(queries, keys, values):
    repeats = queries.shape[1] // keys.shape[1]
    shared = keys.repeat_interleave(repeats, dim=1)
    return causal_attention(queries, shared, values.repeat(1, repeats, 1, 1))


def averages_keys_and_values(queries, keys, values):
    return causal_attention(queries, keys.mean(1, keepdim=True), values.mean(1, keepdim=True))


def scales_by_the_width(queries, keys, values):
    return causal_attention(queries / queries.shape[1] ** 0.5, keys, values)


def does_not_scale(queries, keys, values):
    return causal_attention(queries * queries.shape[-1] ** 0.5, keys, values)


def sees_one_token_ahead(queries, keys, values):
    T = queries.shape[2]
    return causal_attention(queries, keys, values, torch.ones(T, T, dtype=torch.bool).tril(1))


def shares_among_two_only(queries, keys, values):
    if keys.shape[1] == 1:
        return causal_attention(queries, keys, values)[:, :1].expand_as(queries)
    return causal_attention(queries, keys, values)


def learns_no_values(queries, keys, values):
    return causal_attention(queries, keys, values.detach())


# --- SwiGLU -------------------------------------------------------------------------------------


class UsesReLU(SwiGLU):
    def forward(self, x):
        return self.down(self.gate(x).relu() * self.up(x))


class UsesTanhGELU(SwiGLU):
    def forward(self, x):
        return self.down(F.gelu(self.gate(x), approximate="tanh") * self.up(x))


class HasNoActivation(SwiGLU):
    def forward(self, x):
        return self.down(self.gate(x) * self.up(x))


class UsesTheGateAlone(SwiGLU):
    def forward(self, x):
        return self.down(F.silu(self.gate(x)))


class SumsTheTokens(SwiGLU):
    def forward(self, x):
        return super().forward(x).sum(dim=1)


class ReturnsNothing(SwiGLU):
    def forward(self, x):
        super().forward(x)


class NeedsThreeAxes(SwiGLU):
    def forward(self, x):
        return super().forward(x) if x.ndim == 3 else x


class UsesTwiceTheGate(SwiGLU):
    def forward(self, x):
        return self.down(F.silu(self.gate(x)) * self.up(x) * 2)


class DetachesTheGate(SwiGLU):
    def forward(self, x):
        return self.down(F.silu(self.gate(x)).detach() * self.up(x))


class SwapsTheWidths(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.gate = nn.Linear(config.hidden_dim, config.emb_dim, bias=False)
        self.up = nn.Linear(config.hidden_dim, config.emb_dim, bias=False)
        self.down = nn.Linear(config.emb_dim, config.hidden_dim, bias=False)


DIAGNOSES = {
    "RMSNorm": {
        AddsOneToTheWeight: "weight-plus-1",
        StartsAtZero: "weight-not-1",
        HasItsOwnEps: "eps-ignored",
        HasAnotherDefault: "eps-ignored",
        HasNoDefault: "no-eps",
        CentresAfterwards: "mean-subtracted",
        ReturnsTheRoot: "shape-wrong",
        ReturnsAPair: "no-tensor",
        ForgetsTheRoot: "no-root",
        StaysInFloat32: "dtype-changed",
        CallsTheWeightScale: "names-wrong",
        NormalisesPositionsOnly: "norm-special",
        HasABuffer: "gradient-wrong",
        DetachesTheRoot: "gradient-wrong",
    },
    "rotate": {
        pairs_neighbours_and_parts_them: "neighbours-paired",
        rotates_last_numbers_only: "half-not-rotated",
        puts_the_tokens_first: "shape-wrong",
        returns_a_list: "no-tensor",
        knows_heads_of_8_only: "rotation-special",
        turns_all_pairs_alike: "one-speed",
        counts_from_1: "positions-from-1",
        takes_the_first_rows_positions: "positions-ignored",
        counts_on_from_the_first_position: "positions-ignored",
        rotates_first_numbers_only: "half-not-rotated",
        has_a_wrong_sign: "no-rotation",
        changes_position_0: "position-0-changed",
        adds_a_radian_in_all_but_position_0: "rotation-wrong",
        stays_in_float32: "dtype-changed",
        detaches: "gradient-wrong",
        rotates_in_place: "batch-mutated",
    },
    "grouped_query_attention": {
        returns_the_heads_of_keys: "too-few-heads",
        meets_different_heads_in_einsum: "heads-not-shared",
        joins_the_heads: "shape-wrong",
        averages_the_result: "heads-averaged",
        tiles_the_keys_alone: "heads-tiled",
        tiles_the_values_alone: "heads-tiled",
        averages_keys_and_values: "heads-averaged",
        scales_by_the_width: "scale-by-wrong-size",
        does_not_scale: "no-scale",
        sees_one_token_ahead: "mask-one-late",
        shares_among_two_only: "attention-special",
        learns_no_values: "gradient-wrong",
    },
    "SwiGLU": {
        UsesReLU: "relu-not-silu",
        UsesTanhGELU: "gelu-not-silu",
        HasNoActivation: "no-activation",
        UsesTheGateAlone: "no-gate",
        SumsTheTokens: "shape-wrong",
        ReturnsNothing: "no-tensor",
        NeedsThreeAxes: "swiglu-special",
        UsesTwiceTheGate: "swiglu-wrong",
        DetachesTheGate: "gradient-wrong",
        SwapsTheWidths: "shape-wrong",
    },
}
CASES = [(name, wrong) for name, answers in DIAGNOSES.items() for wrong in answers]


@pytest.mark.parametrize(("name", "wrong"), CASES, ids=lambda value: getattr(value, "__name__", ""))
def test_a_mistake_is_named(name, wrong):
    report = diagnose(name, wrong)
    assert (report.status, report.diagnosis) == ("mistake", DIAGNOSES[name][wrong]), report


# --- the examples of the stubs ------------------------------------------------------------------


def test_the_stubs_examples_are_true():
    normed = RMSNorm(2, eps=0.0)(torch.tensor([3.0, 4.0]))
    assert [f"{number:.3f}" for number in normed.tolist()] == ["0.849", "1.131"]

    x = torch.tensor([1.0, 2.0, 0.0, 0.0]).view(1, 1, 1, 4)
    rotated = right_rotate(x, torch.tensor([[1]]), theta=100.0)
    shown = [f"{number:.3f}" for number in rotated.flatten().tolist()]
    assert shown == ["0.540", "1.990", "0.841", "0.200"]

    gated = F.silu(torch.tensor(2.0)).item() * 6
    assert f"{F.silu(torch.tensor(2.0)).item():.3f}" == "1.762"
    assert f"{gated:.3f}" == "10.570"

    queries = torch.randn(1, 6, 3, 4)
    keys = torch.randn(1, 2, 3, 4)
    whole = causal_attention(queries, keys, keys)
    for head, shared in enumerate([0, 0, 0, 1, 1, 1]):
        own = keys[:, shared : shared + 1]
        alone = causal_attention(queries[:, head : head + 1], own, own)
        assert torch.allclose(whole[:, head : head + 1], alone, atol=1e-6)
