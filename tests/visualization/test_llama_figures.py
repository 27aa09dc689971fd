"""Figures of notebook 10: captions give the numbers, and pictures are drawn from them."""

import pytest
import torch
import torch.nn.functional as F

from ch07.visualization import llama_figures as figures


def lines_of(axes):
    return [line.get_ydata() for line in axes.get_lines()]


def test_shares_of_the_mean_are_shown_in_percent():
    shown = figures.draw_mean_shares([0.001, 0.0025], by_chance=0.002)
    assert str(shown) == "share of the mean: 0.10 to 0.25 % in 2 norms; 0.20 % by chance"
    (axes,) = shown.figure().axes
    measured, chance = lines_of(axes)
    assert list(measured) == pytest.approx([0.1, 0.25]) and list(chance) == pytest.approx([0.2] * 2)


def test_the_largest_difference_between_positions_is_named():
    first = torch.linspace(3, 1, 40)
    second = first.clone()
    second[7] += 0.25
    shown = figures.draw_rotary_scores({0: first, 1000: second})
    assert str(shown) == (
        "score at distance 0: 3.00, at distance 39: 1.00; "
        "largest difference between positions 2e-01"
    )
    (axes,) = shown.figure().axes
    assert [text.get_text() for text in axes.get_legend().get_texts()] == [
        "key at position 0",
        "key at position 1,000",
    ]


def test_every_head_of_queries_is_joined_to_its_head_of_keys():
    shown = figures.draw_grouped_queries(6, 2, [10, 20], {6: [3e6, 6e6], 2: [1e6, 2e6]})
    assert str(shown).splitlines() == [
        "KV cache of 20 tokens:",
        "  6 heads of keys and values: 6 MB",
        "  2 heads of keys and values: 2 MB",
    ]
    heads, cache = shown.figure().axes
    joined = [tuple(line.get_xdata()) for line in heads.get_lines()]
    assert joined == [(0, 1), (1, 1), (2, 1), (3, 4), (4, 4), (5, 4)]
    assert [list(values) for values in lines_of(cache)] == [[3, 6], [1, 2]]


def test_every_gate_is_in_a_bar():
    before = torch.tensor([[-9.0, -1.278, -0.5, 0.0], [0.05, 1.0, 1.95, 4.0]])
    shown = figures.draw_gates(before)
    assert str(shown).startswith("38 % of 8 gates are below 0, between -0.28 and 0; ")
    assert str(shown).endswith(f"the largest is {F.silu(torch.tensor(4.0)):.1f}")
    _, bars = shown.figure().axes
    assert sum(bar.get_height() for bar in bars.patches) == before.numel()


def test_four_bits_give_one_of_sixteen_values():
    shown = figures.draw_four_bits([0, 15, 3, 3], scale=0.5, minimum=-2.0)
    assert str(shown) == (
        "4 weights with 3 of 16 possible values, from -2.0000 to 5.5000 in steps of 0.5000"
    )
    (axes,) = shown.figure().axes
    *levels, points = lines_of(axes)
    assert len(levels) == 16 and list(points) == [-2.0, 5.5, -0.5, -0.5]
    assert shown.png().startswith(b"\x89PNG")
