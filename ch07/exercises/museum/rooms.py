"""The whole museum: the exhibits of all its rooms in one row, in the exercises' order."""

from ch07.exercises.catalogue import find
from ch07.exercises.museum import (
    answers,
    attention,
    batches,
    losses,
    masks,
    models,
    responses,
    steps,
    text,
)
from ch07.exercises.museum.exhibit import Exhibit

ROOMS = (text, batches, masks, responses, losses, steps, attention, models, answers)
EXHIBITS = tuple(
    sorted(
        (shown for room in ROOMS for shown in vars(room).values() if isinstance(shown, Exhibit)),
        key=lambda shown: find(shown.exercise).number,
    )
)
