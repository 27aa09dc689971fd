"""The README's picture: a run's loss curve, and one batch as a token grid.

python -m ch07.commands.readme_picture RUN picture.png
"""

import sys
from pathlib import Path

from matplotlib.figure import Figure

from ch07.models.saved_run import load_run
from ch07.runs import run_folder
from ch07.visualization.token_grid import batch_grid
from train_loop import plot_losses

N_COLUMNS = 13  # columns of the grid: the end of the prompt, and the answer
ENTRIES = [
    {"instruction": "Name a colour.", "output": "Red"},
    {"instruction": "Give the opposite of the word.", "input": "cold", "output": "hot"},
    {"instruction": "Sort the words.", "input": "pear, apple", "output": "apple, pear"},
]


def draw_readme_picture(folder: Path, path: Path) -> None:
    """Draw the run's loss above a grid of three rows, and save it as a PNG."""
    run = load_run(folder)
    history = run_folder.read_metrics(run.folder)
    grid = batch_grid(ENTRIES, run.tokenizer, run.style)
    figure = Figure(figsize=(9, 7), layout="constrained")
    loss, tokens = figure.subplots(2, 1, height_ratios=[1, 0.8])
    plot_losses(**run_folder.loss_columns(history), axes=loss)
    grid.draw(tokens, slice(len(grid.rows[0]) - N_COLUMNS, None))
    tokens.set_title(
        "The end of a batch: input tokens, and below each its target; framed ones are counted",
        fontsize=9,
    )
    figure.savefig(path, dpi=120, metadata={"Software": None})


if __name__ == "__main__":
    draw_readme_picture(Path(sys.argv[1]), Path(sys.argv[2]))
