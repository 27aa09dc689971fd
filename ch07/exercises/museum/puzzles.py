"""Six exhibits without their labels, for the notebook's game: find the bug."""

from ch07.exercises.museum.collection import EXHIBITS

DIAGNOSES = (
    "prompt-length-off-by-one",
    "divide-by-all",
    "mask-after-softmax",
    "accumulation-mean-of-means",
    "left-padding-no-positions",
    "cut-row-gets-end",
)
PUZZLES = tuple(
    next(exhibit for exhibit in EXHIBITS if exhibit.diagnosis == diagnosis)
    for diagnosis in DIAGNOSES
)
