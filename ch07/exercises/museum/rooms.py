"""The whole museum: importing its rooms hangs their exhibits; here they stand in one row."""

from ch07.exercises.catalogue import find
from ch07.exercises.museum import (
    answers,
    attention,
    batches,
    exhibit,
    losses,
    masks,
    models,
    responses,
    steps,
    text,
)

ROOMS = (text, batches, masks, responses, losses, steps, attention, models, answers)
EXHIBITS = tuple(sorted(exhibit.EXHIBITS, key=lambda shown: find(shown.exercise).number))
