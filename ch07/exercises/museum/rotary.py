"""Exhibits on rotary positions: wrong pairs, wrong angles, wrong positions."""

import torch

from ch07.exercises.museum.exhibit import exhibit


@exhibit(
    "rotate",
    "neighbours-paired",
    "A reader of GPT-NeoX wanted its halves replaced by the paper's neighbours, for which its "
    "weights were not trained (gpt-neox#834).",
    "https://github.com/EleutherAI/gpt-neox/issues/834",
)
def pairs_neighbours(x, positions, theta):
    """Pairs are 2i and 2i + 1, as in the paper, so weights made for halves give nonsense."""
    D = x.shape[-1]
    i = torch.arange(0, D, 2, device=x.device).float()
    angles = positions[:, None, :, None] * theta ** (-i / D)
    cos = angles.cos()
    sin = angles.sin()
    even, odd = x.float().unflatten(-1, (-1, 2)).unbind(dim=-1)
    rotated = torch.stack([even * cos - odd * sin, odd * cos + even * sin], dim=-1)
    return rotated.flatten(-2).to(x.dtype)


@exhibit(
    "rotate",
    "angles-and-pairs-mixed",
    "A course on training a GPT repeated each angle for neighbours, but turned halves "
    "(how-to-train-your-gpt#6).",
    "https://github.com/raiyanyahya/how-to-train-your-gpt/issues/6",
)
def lays_angles_out_for_neighbours(x, positions, theta):
    """The two numbers of a pair get different angles, so scores depend on absolute places."""
    D = x.shape[-1]
    i = torch.arange(0, D, 2, device=x.device).float()
    angles = positions[:, None, :, None] * theta ** (-i / D)
    angles = angles.repeat_interleave(2, dim=-1)
    first, second = x.float().chunk(2, dim=-1)
    turned = torch.cat([-second, first], dim=-1)
    return (x.float() * angles.cos() + turned * angles.sin()).to(x.dtype)


@exhibit(
    "rotate",
    "turned-backwards",
    "nanochat turns the other way than most; its author keeps that, with a comment, since trained "
    "weights fit one direction only (nanochat#489).",
    "https://github.com/karpathy/nanochat/pull/489",
)
def turns_the_other_way(x, positions, theta):
    """The sine has the other sign: one direction is as good as another, but weights fit one."""
    D = x.shape[-1]
    i = torch.arange(0, D, 2, device=x.device).float()
    angles = positions[:, None, :, None] * theta ** (-i / D)
    cos = angles.cos()
    sin = angles.sin()
    first, second = x.float().chunk(2, dim=-1)
    rotated = torch.cat([first * cos + second * sin, second * cos - first * sin], dim=-1)
    return rotated.to(x.dtype)


@exhibit(
    "rotate",
    "half-not-rotated",
    "GPT-J rotates only 64 of the 256 numbers in a head; a reader asked why, and Llama rotates all "
    "(mesh-transformer-jax#260).",
    "https://github.com/kingoflolz/mesh-transformer-jax/issues/260",
)
def rotates_half_a_head(x, positions, theta):
    """Half of each head carries no position, which a model must be trained for."""
    rotary, rest = x.chunk(2, dim=-1)
    D = rotary.shape[-1]
    i = torch.arange(0, D, 2, device=x.device).float()
    angles = positions[:, None, :, None] * theta ** (-i / D)
    cos = angles.cos()
    sin = angles.sin()
    first, second = rotary.float().chunk(2, dim=-1)
    rotated = torch.cat([first * cos - second * sin, second * cos + first * sin, rest], dim=-1)
    return rotated.to(x.dtype)


@exhibit(
    "rotate",
    "exponent-without-2",
    "A reader of Raschka's Llama notebook proposed to divide i by the whole head size; there it "
    "was divided by half of it, and right (LLMs-from-scratch#410).",
    "https://github.com/rasbt/LLMs-from-scratch/issues/410",
)
def halves_the_exponent(x, positions, theta):
    """The exponent is i / D and not 2i / D, so no pair turns slowly enough for distant tokens."""
    D = x.shape[-1]
    i = torch.arange(D // 2, device=x.device).float()
    angles = positions[:, None, :, None] * theta ** (-i / D)
    cos = angles.cos()
    sin = angles.sin()
    first, second = x.float().chunk(2, dim=-1)
    rotated = torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)
    return rotated.to(x.dtype)


@exhibit(
    "rotate",
    "angles-grow",
    "LeetCUDA's kernel divided the position by the reciprocal where its Python version multiplied "
    "(LeetCUDA#289).",
    "https://github.com/xlite-dev/LeetCUDA/issues/289",
)
def turns_later_pairs_faster(x, positions, theta):
    """Each further pair turns faster, so the angles of two neighbouring tokens look random."""
    D = x.shape[-1]
    i = torch.arange(0, D, 2, device=x.device).float()
    per_token = 1.0 / theta ** (i / D)
    angles = positions[:, None, :, None] / per_token
    cos = angles.cos()
    sin = angles.sin()
    first, second = x.float().chunk(2, dim=-1)
    rotated = torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)
    return rotated.to(x.dtype)


@exhibit(
    "rotate",
    "theta-ignored",
    "AirLLM never read theta from a model's settings: Llama 3 wrote sense up to 800 tokens, and "
    "none after 1,000 (airllm#368).",
    "https://github.com/lyogavin/airllm/issues/368",
)
def always_takes_10000(x, positions, theta):
    """Angles are those of the first Llama, so models with a larger theta fail on long texts."""
    D = x.shape[-1]
    i = torch.arange(0, D, 2, device=x.device).float()
    angles = positions[:, None, :, None] / 10000 ** (i / D)
    cos = angles.cos()
    sin = angles.sin()
    first, second = x.float().chunk(2, dim=-1)
    rotated = torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)
    return rotated.to(x.dtype)


@exhibit(
    "rotate",
    "positions-ignored",
    "Megatron-LLM's rotary positions went by the column, whatever position_ids said "
    "(Megatron-LLM#23).",
    "https://github.com/epfLLM/Megatron-LLM/issues/23",
)
def goes_by_the_column(x, positions, theta):
    """Columns are counted from 0, so with a cache each new token believes that it is the first."""
    T, D = x.shape[-2:]
    i = torch.arange(0, D, 2, device=x.device).float()
    angles = torch.arange(T, device=x.device)[:, None] * theta ** (-i / D)
    cos = angles.cos()
    sin = angles.sin()
    first, second = x.float().chunk(2, dim=-1)
    rotated = torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)
    return rotated.to(x.dtype)


@exhibit(
    "rotate",
    "heads-counted",
    "xFormers' rotary layer took the axis of the heads for that of the tokens; OpenLM, which used "
    "it, noticed (xformers#841).",
    "https://github.com/facebookresearch/xformers/issues/841",
)
def goes_by_the_head(x, positions, theta):
    """The heads are counted, not the tokens, so the order of the tokens is lost."""
    n_heads, _, D = x.shape[1:]
    i = torch.arange(0, D, 2, device=x.device).float()
    angles = torch.arange(n_heads, device=x.device)[:, None, None] * theta ** (-i / D)
    cos = angles.cos()
    sin = angles.sin()
    first, second = x.float().chunk(2, dim=-1)
    rotated = torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)
    return rotated.to(x.dtype)


@exhibit(
    "rotate",
    "angles-in-16-bits",
    "candle computed Qwen2's angles in bfloat16, which can't tell all whole numbers above 256 "
    "apart (candle#3520).",
    "https://github.com/huggingface/candle/pull/3520",
)
def computes_angles_in_16_bits(x, positions, theta):
    """Positions are rounded to 16 bits, so far tokens share an angle or get a wrong one."""
    D = x.shape[-1]
    i = torch.arange(0, D, 2, device=x.device).float()
    per_token = (theta ** (-i / D)).to(x.dtype)
    angles = positions[:, None, :, None].to(x.dtype) * per_token
    cos = angles.cos()
    sin = angles.sin()
    first, second = x.chunk(2, dim=-1)
    return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)
