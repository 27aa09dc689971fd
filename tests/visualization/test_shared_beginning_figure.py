"""The figure of a shared beginning: its cells and bars are the tokens that its caption counts."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.colors import to_rgba

from ch07.visualization.shared_beginning_figure import (
    BEGINNING,
    COPY,
    PADDING,
    REST,
    STYLES,
    draw_shared_beginning,
)


def boxes(axes, kind):
    """The boxes of one kind, told by colour and hatching."""
    colour, hatch, _, _ = STYLES[kind]
    wanted = (to_rgba(colour), hatch)
    return [
        box
        for box in axes.patches
        if (to_rgba(box.get_facecolor()), box.get_hatch() or "") == wanted
    ]


def test_the_caption_counts_rows_of_5_4_and_3_tokens_that_share_2():
    """Whole rows: 3 x 5. With sharing, a rectangle of 4 rows of 3: one holds the beginning."""
    caption = str(draw_shared_beginning([5, 4, 3], ["a", "b"], n_computed=12))
    assert caption.splitlines() == [
        "3 rows of 3 to 5 tokens; the first 2 are the same in all",
        "tokens computed:",
        "  each row whole: 15 (6 beginning, 6 rests, 3 padding)",
        "  beginning once: 12 (2 beginning, 6 rests, 4 padding), or 80 %",
    ]


@settings(deadline=None, max_examples=10)
@given(lengths=st.lists(st.integers(4, 9), min_size=1, max_size=4), P=st.integers(1, 3))
def test_each_token_is_one_cell_of_its_kind(lengths, P):
    B = len(lengths)
    T = max(lengths)
    n_computed = P + B * (T - P)
    figure = draw_shared_beginning(lengths, ["x"] * P, n_computed).figure()
    grid, bars = figure.axes
    n_rests = sum(lengths) - B * P
    n_padding = B * T - sum(lengths)
    counts = {BEGINNING: P, COPY: (B - 1) * P, REST: n_rests, PADDING: n_padding}
    assert {kind: len(boxes(grid, kind)) for kind in STYLES} == counts
    widths = {kind: [box.get_width() for box in boxes(bars, kind)] for kind in STYLES}
    padding = [n_padding, n_padding]
    expected = {BEGINNING: [B * P, P], COPY: [], REST: [n_rests, n_rests], PADDING: padding}
    assert widths == expected
    for bar in (bars.patches[:3], bars.patches[3:]):  # each part begins where the last one ends
        assert [box.get_x() for box in bar[1:]] == [
            box.get_x() + box.get_width() for box in bar[:2]
        ]


def test_kinds_differ_without_colour():
    """By hatching, or by the width of the outline."""
    assert len({(hatch, linewidth) for _, hatch, _, linewidth in STYLES.values()}) == len(STYLES)


@pytest.mark.parametrize(
    ("word", "label"), [("␣appropriately", "␣appropria…"), ("␣completes", "␣completes")]
)
def test_a_long_word_is_cut(word, label):
    figure = draw_shared_beginning([3, 3], [word], n_computed=5)
    assert [text.get_text() for text in figure.figure().axes[0].get_xticklabels()] == [label]
    assert figure.png().startswith(b"\x89PNG")
