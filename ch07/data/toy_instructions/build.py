"""The bundled data file, made by program: a small world whose answers are computed, not written.

    python -m ch07.data.toy_instructions.build        writes data.json beside this file again

Two kinds of families. One composes words: what a held-out entry composes (its key) never stands in
training, in whatever phrasing. The other looks facts up: a held-out entry asks a fact that was
seen in training, in a phrasing in which this fact was never asked.
"""

import json
import random
from itertools import islice
from pathlib import Path

from ch07.data.toy_instructions.facts import FACT_FAMILIES
from ch07.data.toy_instructions.lists import LIST_FAMILIES
from ch07.data.toy_instructions.sentences import SENTENCE_FAMILIES

DATA_FILE = Path(__file__).with_name("data.json")
SEED = 123
N_VALIDATION = 6
N_TEST = 20  # held-out entries of one family
N_TRAIN = 340  # training entries of a family that composes words ...
MORE = {  # ... but for those that take most practice: they move words about
    "sort three words": 2200,
    "reverse three words": 1500,
    "first or last word": 1400,
    "larger number": 600,
    "count": 1000,
}


def build_entries(seed=SEED):
    """All entries, shuffled: dicts with instruction, input, output, family, and split if held out.

    `split` is "validation" or "test"; entries without one are for training.
    """
    entries, prompts = [], set()
    for make, families in (
        (_composed, SENTENCE_FAMILIES | LIST_FAMILIES),
        (_looked_up, FACT_FAMILIES),
    ):
        for name, (source, phrasings) in families.items():
            for entry, _ in make(random.Random(f"{seed} {name}"), name, source, phrasings):
                prompt = f"{entry['instruction']}\n{entry['input']}".casefold()
                if prompt not in prompts:
                    prompts.add(prompt)
                    entries.append(entry)
    random.Random(seed).shuffle(entries)
    return entries


def held_out_keys(seed=SEED):
    """{family: what its held-out entries compose}, for the families that compose words.

    >>> held_out_keys()["join with and"][0]
    ('waitress', 'shouted', 'aunt', 'ran')
    """
    held_out = {}
    for name, (draw, phrasings) in (SENTENCE_FAMILIES | LIST_FAMILIES).items():
        made = _composed(random.Random(f"{seed} {name}"), name, draw, phrasings)
        held_out[name] = [key for _, key in islice(made, N_TEST + N_VALIDATION)]
    return held_out


def _composed(rng, name, draw, phrasings):
    """(entry, key): the keys are all different, so that none is shared between splits."""
    keys = set()
    while len(keys) < MORE.get(name, N_TRAIN) + N_VALIDATION + N_TEST:
        slots, answer, key = draw(rng)
        if key not in keys:
            split = _split(len(keys))
            keys.add(key)
            yield _entry(name, rng.choice(phrasings), slots, answer, split), key


def _looked_up(rng, name, facts, phrasings):
    """(entry, fact) for facts in many phrasings; each fact keeps three quarters of them."""
    pairs = [(fact, phrasing) for fact in range(len(facts)) for phrasing in range(len(phrasings))]
    rng.shuffle(pairs)
    n_held_out = [0] * len(facts)
    held_out, training = [], []
    for fact, phrasing in pairs:
        wanted = len(held_out) < N_VALIDATION + N_TEST and n_held_out[fact] < len(phrasings) // 4
        n_held_out[fact] += wanted
        (held_out if wanted else training).append((fact, phrasing))
    for i, (fact, phrasing) in enumerate(held_out + training):
        yield _entry(name, phrasings[phrasing], *facts[fact], _split(i)), fact


def _split(i):
    """The first entries of a family are held out, the others are for training."""
    return "test" if i < N_TEST else "validation" if i < N_TEST + N_VALIDATION else None


def _entry(family, phrasing, slots, answer, split):
    instruction, content = (text.format(**slots) for text in phrasing)
    entry = {"instruction": instruction, "input": content, "output": answer, "family": family}
    return entry if split is None else entry | {"split": split}


def as_json(entries):
    """The file's text: a JSON list, one entry a line."""
    lines = (json.dumps(entry, ensure_ascii=False) for entry in entries)
    return "[\n" + ",\n".join(lines) + "\n]\n"


if __name__ == "__main__":
    DATA_FILE.write_text(as_json(build_entries()), encoding="utf-8", newline="\n")
    print(f"wrote {DATA_FILE}")
