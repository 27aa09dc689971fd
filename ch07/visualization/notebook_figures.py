"""What the notebooks draw: attention, losses by role, row lengths; each with its words.

The one idea: a picture is a function of numbers that the caller has computed, and its words say
the same numbers; lines have marks of their own besides colours (Okabe and Ito, 2008).
"""

from collections import Counter

import torch
from matplotlib.figure import Figure

from ch07.visualization.captioned_figure import CaptionedFigure
from gpt_model import causal_attention

# role -> colour, mark and line
LINES = {
    "template": ("#CC79A7", "o-"),
    "instruction": ("#0072B2", "s--"),
    "input": ("#E69F00", "v:"),
    "answer": ("#009E73", "D-."),
    "end": ("#000000", "x-"),
}


@torch.no_grad()
def attention_weights(model, token_ids, layer):
    """The weights (H, T, T) with which a block's heads look back, for one list of ids.

    Rows are queries. With the identity matrix as values, attention gives its weights.
    """
    T, H = len(token_ids), model.config.n_heads
    x = model.tok_emb(torch.tensor([token_ids])) + model.pos_emb(torch.arange(T))
    for block in model.trf_blocks[:layer]:
        x = block(x)
    block = model.trf_blocks[layer]
    seen = block.norm1(x)  # (1, T, C)
    queries, keys = (
        part(seen).view(1, T, H, -1).transpose(1, 2)  # (1, T, C) -> (1, H, T, D)
        for part in (block.att.W_query, block.att.W_key)
    )
    return causal_attention(queries, keys, torch.eye(T).expand(1, H, T, T))[0]


def draw_attention(weights, words):
    """Weights (H, T, T) as one square a head: rows are queries, columns keys, dark is much."""
    H, T, _ = weights.shape
    figure = Figure(figsize=(2.3 * H, 2.9), layout="constrained")
    for head, axes in enumerate(figure.subplots(1, H)):
        axes.imshow(weights[head], cmap="Blues", vmin=0, vmax=1)
        axes.set_xticks(range(T), words, rotation=90, fontsize=6, family="monospace")
        axes.set_yticks(range(T), words if head == 0 else [], fontsize=6, family="monospace")
        axes.set_title(f"head {head}", fontsize=8)
    lines = ["where the last token looks, the most and how much:"]
    for head in range(H):
        most = int(weights[head, -1].argmax())
        lines.append(f"  head {head}: {words[most]} ({100 * weights[head, -1, most]:.0f} %)")
    return CaptionedFigure(figure, "\n".join(lines))


def draw_loss_by_role(steps, losses):
    """Loss by role over steps; `losses` is a list of {role: nats}, one for each step."""
    figure = Figure(figsize=(6.4, 3.2), layout="constrained")
    axes, lines = figure.add_subplot(), ["nats per target, at the first and the last step:"]
    for role, (colour, line) in LINES.items():
        values = [at[role] for at in losses]
        axes.plot(steps, values, line, color=colour, markersize=4, label=role)
        lines.append(f"  {role}: {values[0]:.2f} to {values[-1]:.2f}")
    axes.set(xlabel="steps", ylabel="nats per target", ylim=(0, None))
    axes.legend(frameon=False)
    return CaptionedFigure(figure, "\n".join(lines))


def draw_lengths(lengths):
    """How many rows have how many tokens."""
    counts, middle = Counter(lengths), sorted(lengths)[len(lengths) // 2]
    figure = Figure(figsize=(6.4, 2.6), layout="constrained")
    axes = figure.add_subplot()
    axes.bar(counts.keys(), counts.values(), color="#0072B2")
    axes.set(xlabel="tokens of a row", ylabel="rows")
    words = f"rows have {min(lengths)} to {max(lengths)} tokens, half of them {middle} or more"
    return CaptionedFigure(figure, words)


def draw_padding(sizes, shares):
    """Padding by rows in a batch; `shares` is {name: one share for each size}."""
    figure = Figure(figsize=(6.4, 3.0), layout="constrained")
    axes, lines = figure.add_subplot(), [f"padding, for {', '.join(map(str, sizes))} rows a batch:"]
    for (name, values), style in zip(shares.items(), LINES.values(), strict=False):
        colour, line = style
        axes.plot([100 * value for value in values], line, color=colour, label=name)
        lines.append(f"  {name}: " + ", ".join(f"{100 * value:.1f} %" for value in values))
    axes.set(xlabel="rows in a batch", ylabel="padding, % of positions", ylim=(0, None))
    axes.set_xticks(range(len(sizes)), sizes)
    axes.legend(frameon=False)
    return CaptionedFigure(figure, "\n".join(lines))
