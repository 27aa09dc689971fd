"""Figures for the notebooks: data, training, sampling, scores, adapters and preferences.

Each function draws numbers that the caller has computed and returns a `CaptionedFigure`, whose
caption gives the main numbers as text. Colours are those of Okabe and Ito (2008), which readers
with any kind of colour vision can tell apart; lines differ in marks and dashes as well.

Axes: T tokens, P prefix columns, H heads, D head size, C embedding, V vocabulary.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import torch
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from ch07.visualization.captioned_figure import CaptionedFigure

BLACK = "#000000"
ORANGE = "#E69F00"
SKY_BLUE = "#56B4E9"
GREEN = "#009E73"
BLUE = "#0072B2"
VERMILION = "#D55E00"
PURPLE = "#CC79A7"
GREY = "#BBBBBB"

# role -> colour, and mark and dashes of its line
ROLE_STYLES = {
    "template": (PURPLE, "o-"),
    "instruction": (BLUE, "s--"),
    "input": (ORANGE, "v:"),
    "answer": (GREEN, "D-."),
    "end": (BLACK, "x-"),
}
LINE_STYLES = ((BLUE, "o-"), (VERMILION, "s--"), (GREEN, "D-."), (BLACK, "v:"))


# --- data ---------------------------------------------------------------------------------------


def draw_style_costs(costs: Mapping[str, Mapping[str, int]]) -> CaptionedFigure:
    """Tokens of one entry in each prompt style, divided by role: {style: {role: tokens}}."""
    figure = Figure(figsize=(6.4, 0.5 * len(costs) + 1.0), layout="constrained")
    axes = figure.add_subplot()
    lines = ["tokens of the row, by role:"]
    for role, (colour, _) in ROLE_STYLES.items():
        widths = [cost.get(role, 0) for cost in costs.values()]
        before = [_tokens_before(role, cost) for cost in costs.values()]
        if any(widths):
            axes.barh(list(costs), widths, left=before, color=colour, label=role)
    for name, cost in costs.items():
        parts = ", ".join(f"{role} {n}" for role, n in cost.items())
        lines.append(f"  {name}: {sum(cost.values())} ({parts})")
    axes.invert_yaxis()
    axes.set_xlabel("tokens")
    _legend_below(figure)
    return CaptionedFigure(figure, "\n".join(lines))


def _tokens_before(role: str, cost: Mapping[str, int]) -> int:
    """Tokens of the roles that are drawn to the left of this one."""
    roles = list(ROLE_STYLES)
    return sum(cost.get(earlier, 0) for earlier in roles[: roles.index(role)])


def draw_lengths(lengths: Sequence[int]) -> CaptionedFigure:
    """How many rows have how many tokens."""
    counts = Counter(lengths)
    median = sorted(lengths)[len(lengths) // 2]
    figure = Figure(figsize=(6.4, 2.6), layout="constrained")
    axes = figure.add_subplot()
    axes.bar(list(counts.keys()), list(counts.values()), color=BLUE)
    axes.set(xlabel="tokens in a row", ylabel="rows")
    caption = f"rows have {min(lengths)} to {max(lengths)} tokens, half of them {median} or more"
    return CaptionedFigure(figure, caption)


def draw_padding(sizes: Sequence[int], shares: Mapping[str, Sequence[float]]) -> CaptionedFigure:
    """Padding against batch size; `shares` is {name: one share of all positions per size}."""
    figure = Figure(figsize=(6.4, 3.0), layout="constrained")
    axes = figure.add_subplot()
    lines = [f"padding, for batches of {', '.join(map(str, sizes))} rows:"]
    for (name, values), (colour, line) in zip(shares.items(), LINE_STYLES, strict=False):
        axes.plot([100 * value for value in values], line, color=colour, label=name)
        lines.append(f"  {name}: " + ", ".join(f"{100 * value:.1f} %" for value in values))
    axes.set(xlabel="rows in a batch", ylabel="padding, % of positions", ylim=(0, None))
    axes.set_xticks(range(len(sizes)), [str(size) for size in sizes])
    axes.legend(frameon=False)
    return CaptionedFigure(figure, "\n".join(lines))


def draw_novelty(scores: Mapping[str, Sequence[float]], threshold: float) -> CaptionedFigure:
    """How similar each text is to its nearest neighbour: one histogram for each group of texts.

    `scores` is {group: ROUGE-L from 0 to 1}; what lies above `threshold` is rejected.
    """
    figure = Figure(figsize=(6.4, 1.7 * len(scores) + 0.5), layout="constrained")
    panels = figure.subplots(len(scores), 1, sharex=True, squeeze=False)[:, 0]
    lines = [f"similarity to the nearest text; above {threshold} a text is rejected:"]
    for axes, (name, values), (colour, _) in zip(panels, scores.items(), LINE_STYLES, strict=False):
        axes.hist(values, bins=[i / 20 for i in range(21)], color=colour, edgecolor="white")
        axes.axvline(threshold, color=BLACK, linestyle="--")
        axes.set(ylabel="texts", xlim=(0, 1))
        rejected = sum(value > threshold for value in values)
        axes.set_title(f"{name}: {rejected} of {len(values)} rejected", fontsize=9, loc="left")
        median = sorted(values)[len(values) // 2]
        lines.append(f"  {name}: median {median:.2f}, {rejected} of {len(values)} rejected")
    panels[-1].set_xlabel("ROUGE-L to the nearest text")
    return CaptionedFigure(figure, "\n".join(lines))


def draw_selections(
    selections: Mapping[str, Mapping[str, int]], families: Sequence[str]
) -> CaptionedFigure:
    """Which families the chosen rows come from: {how they were chosen: {family: rows}}."""
    figure = Figure(figsize=(7.2, 1.1 * len(selections) + 1.8), layout="constrained")
    panels = figure.subplots(len(selections), 1, sharex=True, squeeze=False)[:, 0]
    lines = ["families that the chosen rows come from:"]
    styles = zip(panels, selections.items(), LINE_STYLES, strict=False)
    for axes, (name, counts), (colour, _) in styles:
        axes.bar(range(len(families)), [counts.get(f, 0) for f in families], color=colour)
        axes.set_title(name, fontsize=9, loc="left")
        axes.set_ylabel("rows", fontsize=8)
        axes.yaxis.set_major_locator(MaxNLocator(3, integer=True))
        n_families = sum(count > 0 for count in counts.values())
        largest = max(counts.values())
        lines.append(f"  {name}: {n_families} of {len(families)}, at most {largest} from one")
    panels[-1].set_xticks(range(len(families)), families, rotation=90, fontsize=7)
    return CaptionedFigure(figure, "\n".join(lines))


# --- attention ----------------------------------------------------------------------------------


def draw_attention(weights: Tensor, words: Sequence[str]) -> CaptionedFigure:
    """Attention weights (H, T, T), one square per head: queries down, keys across, dark is high."""
    H = len(weights)
    figure = Figure(figsize=(2.3 * H, 2.9), layout="constrained")
    lines = ["the key that the last token attends to most:"]
    for head, axes in enumerate(figure.subplots(1, H, squeeze=False)[0]):
        axes.imshow(weights[head].numpy(), cmap="Blues", vmin=0, vmax=1)
        axes.set_xticks(range(len(words)), words, rotation=90, fontsize=6, family="monospace")
        labels = words if head == 0 else [""] * len(words)
        axes.set_yticks(range(len(words)), labels, fontsize=6, family="monospace")
        axes.set_title(f"head {head}", fontsize=8)
        top = int(weights[head, -1].argmax())
        lines.append(f"  head {head}: {words[top]} ({100 * weights[head, -1, top]:.0f} %)")
    return CaptionedFigure(figure, "\n".join(lines))


def draw_prefix_attention(weights: Tensor, words: Sequence[str]) -> CaptionedFigure:
    """How each token divides its attention between prefix and text; weights (H, T, P + T)."""
    _, T, S = weights.shape
    P = S - T
    on_prefix = 100 * weights[:, :, :P].sum(-1).mean(0)  # (H, T, P + T) -> (T,)
    figure = Figure(figsize=(6.4, 3.0), layout="constrained")
    axes = figure.add_subplot()
    axes.bar(range(T), on_prefix.numpy(), color=ORANGE, label=f"the {P} columns of the prefix")
    axes.bar(
        range(T), (100 - on_prefix).numpy(), bottom=on_prefix.numpy(), color=BLUE, label="the text"
    )
    axes.set_xticks(range(T), words, rotation=90, fontsize=7, family="monospace")
    axes.set(ylabel="% of attention", ylim=(0, 100))
    _legend_below(figure)
    caption = (
        f"share of attention on the {P} columns of the prefix, mean over heads: "
        f"{on_prefix[0]:.0f} % for the first token, {on_prefix[-1]:.0f} % for the last"
    )
    return CaptionedFigure(figure, caption)


# --- training -----------------------------------------------------------------------------------


def draw_loss_by_role(
    steps: Sequence[int], losses: Sequence[Mapping[str, float]]
) -> CaptionedFigure:
    """Loss against steps, one line per role; `losses` holds one {role: nats} per step."""
    figure = Figure(figsize=(6.4, 3.2), layout="constrained")
    axes = figure.add_subplot()
    lines = ["nats per target, at the first and the last step:"]
    for role, (colour, line) in ROLE_STYLES.items():
        values = [by_role[role] for by_role in losses]
        axes.plot(steps, values, line, color=colour, markersize=4, label=role)
        lines.append(f"  {role}: {values[0]:.2f} to {values[-1]:.2f}")
    axes.set(xlabel="steps", ylabel="nats per target", ylim=(0, None))
    axes.legend(frameon=False)
    return CaptionedFigure(figure, "\n".join(lines))


def draw_preferences(
    steps: Sequence[int],
    margins: Sequence[float],
    chosen: Sequence[float],
    rejected: Sequence[float],
) -> CaptionedFigure:
    """Preference training: the margin, and what both answers have gained, against steps.

    `chosen` and `rejected` are log-probabilities; their gain is the difference from the first.
    """
    figure = Figure(figsize=(7.2, 2.9), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.plot(steps, margins, "o-", color=BLACK)
    left.set(xlabel="steps", ylabel="margin", title="reward of chosen minus rejected")
    answers = {"chosen": (chosen, BLUE, "o-"), "rejected": (rejected, VERMILION, "s--")}
    lines = [f"from the first to the last step, margin: {margins[0]:.2f} to {margins[-1]:.2f}"]
    for name, (values, colour, line) in answers.items():
        gains = [value - values[0] for value in values]
        right.plot(steps, gains, line, color=colour, label=name)
        lines.append(f"  log-probability of {name}: {values[0]:.1f} to {values[-1]:.1f}")
    right.axhline(0, color=BLACK, linewidth=0.5)
    right.set(xlabel="steps", ylabel="nats", title="gain in log-probability, mean over pairs")
    right.legend(frameon=False)
    for axes in (left, right):
        axes.title.set_fontsize(9)
    return CaptionedFigure(figure, "\n".join(lines))


# --- sampling and scores ------------------------------------------------------------------------


def draw_temperatures(
    logits: Tensor, word_of: Callable[[int], str], temperatures: Sequence[float], n_words: int = 10
) -> CaptionedFigure:
    """The probabilities of the likeliest next tokens at each temperature; `logits` is (V,)."""
    likeliest = logits.topk(n_words).indices.tolist()
    words = [word_of(token_id) for token_id in likeliest]
    figure = Figure(figsize=(2.3 * len(temperatures), 2.9), layout="constrained")
    panels = figure.subplots(1, len(temperatures), sharey=True, squeeze=False)[0]
    lines = [f"probability of the likeliest token, {words[0]!r}, and of all but the ten likeliest:"]
    for axes, temperature in zip(panels, temperatures, strict=True):
        probabilities = (logits / temperature).softmax(dim=-1)[likeliest].tolist()
        axes.barh(range(n_words), [100 * p for p in probabilities], color=BLUE)
        rest = 100 * (1 - sum(probabilities))
        axes.barh([n_words], [rest], color=ORANGE)
        axes.set_title(f"temperature {temperature}", fontsize=9)
        axes.set(xlabel="%", xlim=(0, 100))
        top = 100 * probabilities[0]
        lines.append(f"  temperature {temperature}: {top:.0f} % and {rest:.0f} %")
    panels[0].set_yticks(range(n_words + 1), [*map(repr, words), "all others"], fontsize=7)
    panels[0].invert_yaxis()
    return CaptionedFigure(figure, "\n".join(lines))


def draw_cutoffs(
    logits: Tensor, word_of: Callable[[int], str], top_k: int, top_p: float, n_words: int = 30
) -> CaptionedFigure:
    """What top-k and top-p leave of a distribution over next tokens; `logits` is (V,)."""
    probabilities, order = logits.softmax(dim=-1).sort(descending=True)
    before = probabilities.cumsum(0) - probabilities  # share of the likelier tokens
    n_kept = int((before < top_p).sum())
    words = [repr(word_of(token_id)) for token_id in order[:n_words].tolist()]
    figure = Figure(figsize=(7.2, 3.3), layout="constrained")
    axes = figure.add_subplot()
    places = range(n_words)
    axes.bar(places, 100 * probabilities[:n_words].numpy(), color=SKY_BLUE, label="probability")
    total = 100 * probabilities.cumsum(0)[:n_words].numpy()
    axes.plot(places, total, "o-", color=BLACK, markersize=3, label="sum so far")
    axes.axhline(100 * top_p, color=BLACK, linestyle=":", linewidth=1)
    axes.axvline(top_k - 0.5, color=VERMILION, linestyle="--", label=f"top_k={top_k}")
    if n_kept <= n_words:
        axes.axvline(n_kept - 0.5, color=GREEN, linestyle="-.", label=f"top_p={top_p}")
    axes.set_xticks(places, words, rotation=90, fontsize=7)
    axes.set(ylabel="%", ylim=(0, 102))
    axes.legend(frameon=False, loc="center right")
    share = 100 * probabilities[:top_k].sum()
    caption = (
        f"the {top_k} likeliest tokens hold {share:.0f} % of the probability; "
        f"tokens needed to reach {100 * top_p:.0f} %: {n_kept}"
    )
    return CaptionedFigure(figure, caption)


def draw_intervals(
    scores: Mapping[str, tuple[float, float, float]], xlabel: str = "exact match, %"
) -> CaptionedFigure:
    """Scores with their confidence intervals: {name: (score, low, high)}, shares from 0 to 1."""
    figure = Figure(figsize=(6.4, 0.42 * len(scores) + 0.9), layout="constrained")
    axes = figure.add_subplot()
    lines = ["score and 95 % interval:"]
    for place, (name, (score, low, high)) in enumerate(scores.items()):
        axes.plot([100 * low, 100 * high], [place, place], color=BLUE, linewidth=2.5)
        axes.plot(100 * score, place, "D", color=VERMILION, markersize=6)
        lines.append(f"  {name}: {100 * score:.1f} % ({100 * low:.1f} to {100 * high:.1f} %)")
    axes.set_yticks(range(len(scores)), list(scores))
    axes.invert_yaxis()
    axes.set(xlabel=xlabel, xlim=(None, 101))
    axes.grid(axis="x", color="#DDDDDD")
    return CaptionedFigure(figure, "\n".join(lines))


def draw_counts(counts: Mapping[str, int], xlabel: str) -> CaptionedFigure:
    """One horizontal bar per name."""
    figure = Figure(figsize=(6.4, 0.28 * len(counts) + 0.8), layout="constrained")
    axes = figure.add_subplot()
    bars = axes.barh(list(counts), list(counts.values()), color=BLUE)
    axes.bar_label(bars, padding=3, fontsize=8)
    axes.invert_yaxis()
    axes.set_xlabel(xlabel)
    lines = [f"{xlabel}:", *(f"  {name}: {count}" for name, count in counts.items())]
    return CaptionedFigure(figure, "\n".join(lines))


# --- LoRA ---------------------------------------------------------------------------------------


def draw_low_rank(shape: tuple[int, int], rank: int) -> CaptionedFigure:
    """A weight matrix (out, in) and LoRA's two thin matrices, drawn to scale."""
    n_out, n_in = shape
    figure = Figure(figsize=(7.2, 2.9), layout="constrained")
    axes = figure.add_subplot()
    gap = 0.3 * max(shape)
    top = -0.06 * n_out  # where the labels stand
    x = 0.0
    axes.add_patch(Rectangle((x, 0), n_in, n_out, facecolor=GREY, edgecolor=BLACK))
    axes.text(x + n_in / 2, top, f"W, frozen: {n_out} x {n_in}", ha="center", fontsize=9)
    axes.text(x + n_in + gap / 2, n_out / 2, "+", ha="center", va="center", fontsize=16)
    x += n_in + gap
    axes.add_patch(Rectangle((x, 0), rank, n_out, facecolor=ORANGE, edgecolor=BLACK))
    axes.text(x + rank / 2, top, f"B: {n_out} x {rank}", ha="center", fontsize=9)
    x += rank + gap
    axes.add_patch(Rectangle((x, 0), n_in, rank, facecolor=BLUE, edgecolor=BLACK))
    axes.text(x + n_in / 2, top, f"A: {rank} x {n_in}", ha="center", fontsize=9)
    axes.set(xlim=(-0.02 * x, x + 1.02 * n_in), ylim=(1.02 * n_out, 2.5 * top), aspect="equal")
    axes.set_axis_off()
    thin = rank * (n_in + n_out)
    caption = (
        f"W has {n_out} x {n_in} = {n_in * n_out:,} numbers; "
        f"B and A have {rank} x ({n_out} + {n_in}) = {thin:,}, "
        f"or {100 * thin / (n_in * n_out):.1f} % as many"
    )
    return CaptionedFigure(figure, caption)


def draw_spectra(changes: Mapping[str, Tensor], rank: int) -> CaptionedFigure:
    """The singular values of weight changes (out, in), each as a share of its largest one."""
    figure = Figure(figsize=(6.4, 3.0), layout="constrained")
    axes = figure.add_subplot()
    lines = [f"share of the change (sum of squares) in its {rank} largest singular values:"]
    for (name, change), (colour, line) in zip(changes.items(), LINE_STYLES, strict=False):
        values = torch.linalg.svdvals(change)
        share = values[:rank].square().sum() / values.square().sum()
        shown = (values / values[0]).clamp(min=1e-4).tolist()
        places = range(1, len(shown) + 1)
        axes.semilogy(places, shown, line, color=colour, markersize=2.5, label=name)
        lines.append(f"  {name}: {100 * share:.0f} %")
    axes.axvline(rank + 0.5, color=BLACK, linestyle=":", linewidth=1)
    axes.set(xlabel="singular value, in order", ylabel="share of the largest", ylim=(8e-5, 1.5))
    axes.legend(frameon=False)
    return CaptionedFigure(figure, "\n".join(lines))


def _legend_below(figure: Figure) -> None:
    figure.legend(loc="outside lower center", ncols=5, fontsize=8, frameon=False)
