"""Figures for what Llama changes in GPT-2, and for weights of 4 bits.

As in `ch07.visualization.notebook_figures`, each function draws numbers that the caller has
computed, and its `CaptionedFigure` gives the main numbers as text.

Axes: T tokens, H heads of queries, G heads of keys and values.
"""

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from ch07.visualization.captioned_figure import CaptionedFigure
from ch07.visualization.notebook_figures import (
    BLACK,
    BLUE,
    GREEN,
    GREY,
    LINE_STYLES,
    ORANGE,
    SKY_BLUE,
    VERMILION,
)

N_LEVELS = 16  # that 4 bits can tell apart
GROUP_COLOURS = (BLUE, VERMILION, GREEN, ORANGE, SKY_BLUE, BLACK)


def draw_mean_shares(shares: Sequence[float], by_chance: float) -> CaptionedFigure:
    """How much of the squared length of what each norm reads is due to its mean, from 0 to 1.

    `by_chance` is that share for numbers that are independent of one another, 1 / C.
    """
    percent = [100 * share for share in shares]
    figure = Figure(figsize=(6.4, 2.8), layout="constrained")
    axes = figure.add_subplot()
    axes.plot(range(1, len(percent) + 1), percent, "o-", color=BLUE, markersize=3, label="measured")
    axes.axhline(
        100 * by_chance, color=BLACK, linestyle="--", linewidth=1, label="by chance, 1 / C"
    )
    axes.set(xlabel="norm, in the order of computation", ylabel="share of the mean, %")
    axes.set_ylim(0, 1.3 * max(*percent, 100 * by_chance))
    axes.legend(frameon=False, loc="upper center", ncols=2)
    caption = (
        f"share of the mean: {min(percent):.2f} to {max(percent):.2f} % "
        f"in {len(percent)} norms; {100 * by_chance:.2f} % by chance"
    )
    return CaptionedFigure(figure, caption)


def draw_rotary_scores(scores: Mapping[int, Tensor]) -> CaptionedFigure:
    """The score of one query and one key against their distance: {position of the key: scores}.

    Number i of the scores is that of a query i tokens after the key.
    """
    first, *others = scores.values()
    largest = max(((other - first).abs().max().item() for other in others), default=0.0)
    figure = Figure(figsize=(6.4, 3.0), layout="constrained")
    axes = figure.add_subplot()
    styles = zip(scores.items(), LINE_STYLES, strict=False)
    for n, ((position, values), (colour, line)) in enumerate(styles):
        # the lines coincide, so each has its marks at other places
        marks = (n * len(values) // (8 * len(scores)), max(1, len(values) // 8))
        label = f"key at position {position:,}"
        axes.plot(values.numpy(), line, color=colour, markersize=5, markevery=marks, label=label)
    axes.set(xlabel="distance of query and key, in tokens", ylabel="score")
    axes.legend(frameon=False, fontsize=9)
    caption = (
        f"score at distance 0: {first[0]:.2f}, at distance {len(first) - 1}: {first[-1]:.2f}; "
        f"largest difference between positions {largest:.0e}"
    )
    return CaptionedFigure(figure, caption)


def draw_grouped_queries(
    n_heads: int, n_kv_heads: int, tokens: Sequence[int], cache_bytes: Mapping[int, Sequence[int]]
) -> CaptionedFigure:
    """Which heads share keys and values, and the cache: {heads of keys: bytes at each of `tokens`}.

    The picture on the left is for `n_heads` heads of queries and `n_kv_heads` of keys and values.
    """
    figure = Figure(figsize=(7.4, 2.9), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(1.25, 1))
    _draw_groups(left, n_heads, n_kv_heads)
    lines = [f"KV cache of {tokens[-1]:,} tokens:"]
    for (n, sizes), (colour, line) in zip(cache_bytes.items(), LINE_STYLES, strict=False):
        megabytes = [size / 1e6 for size in sizes]
        name = f"{n} heads of keys and values"
        right.plot(tokens, megabytes, line, color=colour, markersize=4, label=name)
        lines.append(f"  {name}: {megabytes[-1]:,.0f} MB")
    right.set(xlabel="tokens", ylabel="KV cache, MB", xlim=(0, None), ylim=(0, None))
    right.legend(frameon=False, fontsize=9)
    return CaptionedFigure(figure, "\n".join(lines))


def _draw_groups(axes: Axes, n_heads: int, n_kv_heads: int) -> None:
    """A box for each head of queries above the head of keys and values that it reads."""
    per_group = n_heads // n_kv_heads
    for head in range(n_heads):
        group = head // per_group
        colour = GROUP_COLOURS[group % len(GROUP_COLOURS)]
        middle = (group + 0.5) * per_group - 0.5
        axes.plot([head, middle], [0.86, 0.14], color=colour, linewidth=1, zorder=0)
        box = {"boxstyle": "round,pad=0.3", "facecolor": "white", "edgecolor": colour}
        axes.text(head, 1, str(head), ha="center", va="center", fontsize=9, bbox=box)
        if head % per_group == 0:
            filled = {**box, "facecolor": colour}
            text = {"ha": "center", "va": "center", "fontsize": 9, "color": "white"}
            axes.text(middle, 0, str(group), bbox=filled, **text)
    axes.text(-0.7, 1.3, "heads of queries", fontsize=9)
    axes.text(-0.7, -0.42, "heads of keys and values", fontsize=9)
    axes.set(xlim=(-0.8, n_heads - 0.2), ylim=(-0.6, 1.55))
    axes.set_axis_off()


def draw_gates(before: Tensor) -> CaptionedFigure:
    """The curves of GELU and SiLU, and the gates of a SwiGLU: `before` is gate(x), of any shape."""
    gates = F.silu(before).flatten()
    closed = 100 * (before < 0).float().mean().item()
    figure = Figure(figsize=(7.4, 2.9), layout="constrained")
    left, right = figure.subplots(1, 2)
    x = torch.linspace(-6, 3, 181)
    left.plot(x.numpy(), F.silu(x).numpy(), "-", color=BLUE, label="SiLU")
    left.plot(x.numpy(), F.gelu(x, approximate="tanh").numpy(), "--", color=VERMILION, label="GELU")
    left.axhline(0, color=GREY, linewidth=0.8, zorder=0)
    left.set(xlabel="input", ylabel="output", title="the two curves")
    left.legend(frameon=False)
    # each bar is 0.1 wide, and 0 is the end of one
    bins = torch.arange(-3, int(10 * gates.max().item()) + 2) / 10
    right.hist(gates.numpy(), bins=bins.tolist(), color=BLUE)
    right.set(xlabel="silu(gate(x))", ylabel="gates", yscale="log", title="the gates of one block")
    for axes in (left, right):
        axes.title.set_fontsize(9)
    caption = (
        f"{closed:.0f} % of {gates.numel():,} gates are below 0, between {gates.min():.2f} and 0; "
        f"the largest is {gates.max():.1f}"
    )
    return CaptionedFigure(figure, caption)


def draw_four_bits(numbers: Sequence[int], scale: float, minimum: float) -> CaptionedFigure:
    """A block of Q4_1: the 16 values that its weights can have, and those that they do have."""
    values = [scale * level + minimum for level in range(N_LEVELS)]
    figure = Figure(figsize=(6.4, 3.4), layout="constrained")
    axes = figure.add_subplot()
    for value in values:
        axes.axhline(value, color=GREY, linewidth=0.8, zorder=0)
    axes.plot([values[number] for number in numbers], "o", color=BLUE, markersize=5)
    axes.set(xlabel="number of the weight in its block", ylabel="its value")
    beside = axes.secondary_yaxis("right")
    beside.set_yticks(values, [str(level) for level in range(N_LEVELS)], fontsize=7)
    beside.set_ylabel("its 4 bits, as a number")
    used = len(set(numbers))
    caption = (
        f"{len(numbers)} weights with {used} of {N_LEVELS} possible values, "
        f"from {values[0]:.4f} to {values[-1]:.4f} in steps of {scale:.4f}"
    )
    return CaptionedFigure(figure, caption)
