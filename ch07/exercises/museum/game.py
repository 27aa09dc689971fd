"""Six exhibits without their labels, for the notebook's game: find the bug."""

from ch07.exercises.museum.rooms import EXHIBITS

CHOSEN = (
    "prompt-length-off-by-one",
    "divide-by-all",
    "mask-after-softmax",
    "accumulation-mean-of-means",
    "left-padding-no-positions",
    "cut-row-gets-end",
)
PUZZLES = tuple(
    next(exhibit for exhibit in EXHIBITS if exhibit.diagnosis == name) for name in CHOSEN
)
