"""Toy preferences: generated pairs of answers to bundled instructions, so that DPO runs offline.

The one idea: both answers are right and differ only in form, so only the form can be learned; and
since the form is easy to recognize, so is whether it was learned.
Knows nothing of tokens or models.

This follows Raschka's preference file, where a language model rewrote each answer to be more or
less polite, and chance decided which of the two was the rejected one.
"""

import random
from collections.abc import Callable, Sequence
from typing import Any

from ch07.utils.errors import InputError

FORMS: dict[str, Callable[[str], str]] = {
    "full-stop": lambda answer: f"{answer}.",
    "polite": lambda answer: f"Certainly: {answer}.",
}


def toy_preferences(
    entries: Sequence[dict[str, Any]], n: int = 400, form: str = "full-stop", seed: int = 123
) -> list[dict[str, Any]]:
    """`n` pairs {instruction, input, chosen, rejected, ...}, whose chosen answer has the form.

    Made from entries whose answer ends in a letter or digit, not in punctuation; other keys, such
    as "split", are kept. ValueError for an unknown form, and for fewer than `n` such entries.

    >>> entry = {"instruction": "Name a colour.", "input": "", "output": "Red"}
    >>> toy_preferences([entry], n=1, form="polite")[0]["chosen"]
    'Certainly: Red.'
    """
    if form not in FORMS:
        raise InputError(f"no form {form!r}; choose one of {', '.join(FORMS)}")
    unpunctuated = [entry for entry in entries if entry["output"][-1:].isalnum()]
    if len(unpunctuated) < n:
        raise InputError(
            f"{n} pairs requested, but only {len(unpunctuated)} entries have an answer without "
            "final punctuation"
        )
    pairs = []
    for entry in random.Random(seed).sample(unpunctuated, n):
        shared = {key: value for key, value in entry.items() if key != "output"}
        answer = entry["output"]
        pairs.append({**shared, "chosen": FORMS[form](answer), "rejected": answer})
    return pairs
