"""The whole museum: all exhibits, in the exercises' order."""

from types import ModuleType

from ch07.exercises.catalogue import find
from ch07.exercises.museum import (
    attention,
    block_and_cache,
    collate_drafts,
    generation,
    grouped_query,
    loss,
    padding_mask,
    prompt_mask,
    rms_norm,
    rotary,
    shared_beginning,
    swiglu,
    text,
    train_step,
    turns,
)
from ch07.exercises.museum.exhibit import Exhibit

MODULES = (
    text,
    collate_drafts,
    padding_mask,
    prompt_mask,
    loss,
    train_step,
    attention,
    block_and_cache,
    generation,
    shared_beginning,
    turns,
    rms_norm,
    rotary,
    grouped_query,
    swiglu,
)


def _exhibits(module: ModuleType) -> list[Exhibit]:
    return [value for value in vars(module).values() if isinstance(value, Exhibit)]


EXHIBITS = tuple(
    sorted(
        (exhibit for module in MODULES for exhibit in _exhibits(module)),
        key=lambda exhibit: find(exhibit.exercise).number,
    )
)
