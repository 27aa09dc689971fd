"""The notebooks' figures: attention, losses by role, row lengths, padding; each with a caption.

The one idea: a figure is a function of numbers that the caller has computed, and its caption states
the same numbers. Lines differ in their markers, not only in colour (Okabe and Ito, 2008).
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from matplotlib.figure import Figure

from ch07.visualization.captioned_figure import CaptionedFigure
from gpt_model import GPTModel, causal_attention

# role -> colour, marker and line style
ROLE_LINES = {
    "template": ("#CC79A7", "o-"),
    "instruction": ("#0072B2", "s--"),
    "input": ("#E69F00", "v:"),
    "answer": ("#009E73", "D-."),
    "end": ("#000000", "x-"),
}


@torch.no_grad()
def attention_weights(model: GPTModel, token_ids: Sequence[int], layer: int) -> torch.Tensor:
    """The attention weights (H, T, T) of a block's heads for one list of ids; rows are queries.

    With the identity matrix as values, the output of attention is its weights.
    """
    T = len(token_ids)
    H = model.config.n_heads
    x = model.tok_emb(torch.tensor([list(token_ids)])) + model.pos_emb(torch.arange(T))
    for block in model.trf_blocks[:layer]:
        x = block(x)
    block: Any = model.trf_blocks[layer]
    x = block.norm1(x)  # (1, T, C)
    queries = block.att.W_query(x).view(1, T, H, -1).transpose(1, 2)  # (1, T, C) -> (1, H, T, D)
    keys = block.att.W_key(x).view(1, T, H, -1).transpose(1, 2)
    return causal_attention(queries, keys, torch.eye(T).expand(1, H, T, T))[0]


def draw_attention(weights: torch.Tensor, words: Sequence[str]) -> CaptionedFigure:
    """Weights (H, T, T), a square per head: rows are queries, columns keys, high weights dark."""
    H, T, _ = weights.shape
    figure = Figure(figsize=(2.3 * H, 2.9), layout="constrained")
    for head, axes in enumerate(figure.subplots(1, H, squeeze=False).flat):
        axes.imshow(weights[head], cmap="Blues", vmin=0, vmax=1)
        axes.set_xticks(range(T), words, rotation=90, fontsize=6, family="monospace")
        axes.set_yticks(range(T), words if head == 0 else [], fontsize=6, family="monospace")
        axes.set_title(f"head {head}", fontsize=8)
    lines = ["the last token's highest attention weight:"]
    for head in range(H):
        key = int(weights[head, -1].argmax())
        lines.append(f"  head {head}: {words[key]} ({100 * weights[head, -1, key]:.0f} %)")
    return CaptionedFigure(figure, "\n".join(lines))


def draw_loss_by_role(
    steps: Sequence[int], losses: Sequence[Mapping[str, float]]
) -> CaptionedFigure:
    """Loss by role over steps; `losses` has {role: nats} for each step."""
    figure = Figure(figsize=(6.4, 3.2), layout="constrained")
    axes = figure.add_subplot()
    lines = ["nats per target at the first and the last step:"]
    for role, (colour, line) in ROLE_LINES.items():
        values = [by_role[role] for by_role in losses]
        axes.plot(steps, values, line, color=colour, markersize=4, label=role)
        lines.append(f"  {role}: {values[0]:.2f} to {values[-1]:.2f}")
    axes.set(xlabel="steps", ylabel="nats per target", ylim=(0, None))
    axes.legend(frameon=False)
    return CaptionedFigure(figure, "\n".join(lines))


def draw_lengths(lengths: Sequence[int]) -> CaptionedFigure:
    """A bar chart of the rows' numbers of tokens."""
    counts = Counter(lengths)
    median = sorted(lengths)[len(lengths) // 2]
    figure = Figure(figsize=(6.4, 2.6), layout="constrained")
    axes = figure.add_subplot()
    axes.bar(list(counts), list(counts.values()), color="#0072B2")
    axes.set(xlabel="tokens of a row", ylabel="rows")
    caption = f"rows have {min(lengths)} to {max(lengths)} tokens, half of them {median} or more"
    return CaptionedFigure(figure, caption)


def draw_padding(sizes: Sequence[int], shares: Mapping[str, Sequence[float]]) -> CaptionedFigure:
    """Padding by batch size; `shares` is {name: one share for each size}."""
    figure = Figure(figsize=(6.4, 3.0), layout="constrained")
    axes = figure.add_subplot()
    lines = [f"padding, for {', '.join(map(str, sizes))} rows per batch:"]
    for (name, values), style in zip(shares.items(), ROLE_LINES.values(), strict=False):
        colour, line = style
        axes.plot([100 * value for value in values], line, color=colour, label=name)
        lines.append(f"  {name}: " + ", ".join(f"{100 * value:.1f} %" for value in values))
    axes.set(xlabel="rows per batch", ylabel="padding, % of positions", ylim=(0, None))
    axes.set_xticks(range(len(sizes)), [str(size) for size in sizes])
    axes.legend(frameon=False)
    return CaptionedFigure(figure, "\n".join(lines))
