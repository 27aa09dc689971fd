"""The grid tells what stands in the tensors, in a picture and in words."""

import pytest

from ch07.batching import make_loader
from ch07.token_grid import TokenGrid
from instruction_dataset import InstructionDataset


@pytest.fixture
def grid(tokenizer, entries):
    dataset = InstructionDataset(entries, tokenizer, with_prompt_length=True)
    ((inputs, targets),) = make_loader(dataset, 3, "response")
    return TokenGrid(inputs, targets, dataset.prompt_lengths, dataset.lengths, tokenizer), dataset


def test_cells_are_the_tensors(grid, tokenizer, entries):
    grid, dataset = grid
    for entry, cells, length, ids in zip(
        entries, grid.rows, dataset.prompt_lengths, dataset.token_ids, strict=True
    ):
        assert [cell.token_id for cell in cells][: len(ids)] == ids
        roles = [cell.role for cell in cells]
        answer = len(ids) - length
        assert roles == ["prompt"] * length + ["answer"] * answer + ["padding"] * (
            len(cells) - len(ids)
        )
        counted = [cell.target for cell in cells if cell.counted]
        assert tokenizer.decode(counted) == entry["output"] + "<|endoftext|>"


def test_the_words_say_what_the_picture_shows(grid):
    grid, dataset = grid
    text = str(grid)
    padding = max(dataset.lengths) - dataset.lengths[0]
    assert f"row 0: {dataset.lengths[0]} tokens, {padding} padding, 2 targets counted" in text
    assert "'Red' -> 'END'" in text and "\\n" not in text
    figure = grid.figure(slice(-8, None))
    axes = figure.axes[0]
    framed = [box for box in axes.patches if box.get_edgecolor()[:3] == (0, 0, 0)]
    shown = sum(cell.counted for cells in grid.rows for cell in cells[-8:])
    assert len(framed) == shown > 0
    assert sum(label.get_text() == "END" for label in axes.texts) >= len(grid.rows)
