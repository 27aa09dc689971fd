"""The bundled data file, generated: a small world whose answers are computed, not written.

    python -m ch07.data.toy_instructions.build        writes data.json beside this file again

There are two kinds of families. One composes words: what a held-out entry composes (its key) never
appears in training, in whatever phrasing. The other looks facts up: a held-out entry asks for a
fact that was seen in training, in a phrasing in which this fact was never asked.
"""

import json
import random
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path

from ch07.data.toy_instructions.facts import FACT_FAMILIES
from ch07.data.toy_instructions.family import DrawnTask, Fact, Phrasing, Slots
from ch07.data.toy_instructions.lists import LIST_FAMILIES
from ch07.data.toy_instructions.sentences import SENTENCE_FAMILIES

DATA_FILE = Path(__file__).with_name("data.json")
SEED = 123
N_VALIDATION = 6
N_TEST = 20  # held-out entries of one family
N_TRAIN = 340  # training entries of a family that composes words ...
N_TRAIN_BY_FAMILY = {  # ... except those that need most practice, because they move words around
    "sort three words": 2200,
    "reverse three words": 1500,
    "first or last word": 1400,
    "larger number": 600,
    "count": 1000,
}


def build_entries(seed: int = SEED) -> list[dict[str, str]]:
    """All entries, shuffled: dicts with instruction, input, output, family, and split if held out.

    `split` is "validation" or "test"; entries without one are for training.
    """
    drawn: list[dict[str, str]] = []
    for name, (draw, phrasings) in (SENTENCE_FAMILIES | LIST_FAMILIES).items():
        rng = random.Random(f"{seed} {name}")
        drawn += [entry for entry, _ in _composed_entries(rng, name, draw, phrasings)]
    for name, (facts, phrasings) in FACT_FAMILIES.items():
        drawn += _fact_entries(random.Random(f"{seed} {name}"), name, facts, phrasings)
    entries: list[dict[str, str]] = []
    prompts: set[str] = set()
    for entry in drawn:
        prompt = f"{entry['instruction']}\n{entry['input']}".casefold()
        if prompt not in prompts:
            prompts.add(prompt)
            entries.append(entry)
    random.Random(seed).shuffle(entries)
    return entries


def held_out_keys(seed: int = SEED) -> dict[str, list[Hashable]]:
    """{family: what its held-out entries compose}, for the families that compose words.

    >>> held_out_keys()["join with and"][0]
    ('waitress', 'shouted', 'aunt', 'ran')
    """
    held_out = {}
    for name, (draw, phrasings) in (SENTENCE_FAMILIES | LIST_FAMILIES).items():
        entries = _composed_entries(random.Random(f"{seed} {name}"), name, draw, phrasings)
        held_out[name] = [key for _, key in islice(entries, N_TEST + N_VALIDATION)]
    return held_out


def _composed_entries(
    rng: random.Random,
    name: str,
    draw: Callable[[random.Random], DrawnTask],
    phrasings: Sequence[Phrasing],
) -> Iterator[tuple[dict[str, str], Hashable]]:
    """(entry, key) pairs with different keys, so that none is shared between splits."""
    keys: set[Hashable] = set()
    while len(keys) < N_TRAIN_BY_FAMILY.get(name, N_TRAIN) + N_VALIDATION + N_TEST:
        task = draw(rng)
        if task.key not in keys:
            split = _split(len(keys))
            keys.add(task.key)
            yield _entry(name, rng.choice(phrasings), task.slots, task.answer, split), task.key


def _fact_entries(
    rng: random.Random, name: str, facts: Sequence[Fact], phrasings: Sequence[Phrasing]
) -> Iterator[dict[str, str]]:
    """Entries for facts in many phrasings, three quarters of which are kept for training."""
    pairs = [(fact, phrasing) for fact in range(len(facts)) for phrasing in range(len(phrasings))]
    rng.shuffle(pairs)
    n_held_out = [0] * len(facts)
    held_out: list[tuple[int, int]] = []
    training: list[tuple[int, int]] = []
    for fact, phrasing in pairs:
        quota_left = n_held_out[fact] < len(phrasings) // 4
        if len(held_out) < N_VALIDATION + N_TEST and quota_left:
            n_held_out[fact] += 1
            held_out.append((fact, phrasing))
        else:
            training.append((fact, phrasing))
    for i, (fact, phrasing) in enumerate(held_out + training):
        slots, answer = facts[fact]
        yield _entry(name, phrasings[phrasing], slots, answer, _split(i))


def _split(i: int) -> str | None:
    """The first entries of a family are held out, the others are for training."""
    return "test" if i < N_TEST else "validation" if i < N_TEST + N_VALIDATION else None


def _entry(
    family: str, phrasing: Phrasing, slots: Slots, answer: str, split: str | None
) -> dict[str, str]:
    instruction, content = (text.format(**slots) for text in phrasing)
    entry = {"instruction": instruction, "input": content, "output": answer, "family": family}
    return entry if split is None else entry | {"split": split}


def as_json(entries: Iterable[dict[str, str]]) -> str:
    """The file's text: a JSON list, one entry a line."""
    lines = (json.dumps(entry, ensure_ascii=False) for entry in entries)
    return "[\n" + ",\n".join(lines) + "\n]\n"


if __name__ == "__main__":
    DATA_FILE.write_text(as_json(build_entries()), encoding="utf-8", newline="\n")
    print(f"wrote {DATA_FILE}")
