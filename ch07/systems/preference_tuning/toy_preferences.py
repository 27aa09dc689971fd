"""A toy preference: pairs of answers of the small world, made by program, so that DPO runs offline.

The one idea: both answers are right and only their form differs, so what is learned from them is
the form alone; and since the form is easy to see, so is whether it was learned.
Knows nothing of tokens or models.

The form follows Raschka's preference file, where a language model rewrote answers to be politer or
less polite, and chance said which of the two was the rejected one.
"""

import random

FORMS = {
    "full-stop": lambda answer: f"{answer}.",
    "polite": lambda answer: f"Certainly: {answer}.",
}


def toy_preferences(entries, n=400, form="full-stop", seed=123):
    """`n` pairs {instruction, input, chosen, rejected, ...}: the chosen answer has the form.

    From entries whose answer is a word or a few, without a full stop; a "split" is kept. ValueError
    for a form that isn't in FORMS, and where there are fewer than `n` such entries.

    >>> entry = {"instruction": "Name a colour.", "input": "", "output": "Red"}
    >>> toy_preferences([entry], n=1, form="polite")[0]["chosen"]
    'Certainly: Red.'
    """
    if form not in FORMS:
        raise ValueError(f"no form {form!r}; choose one of {', '.join(FORMS)}")
    short = [entry for entry in entries if entry["output"][-1:].isalnum()]
    if len(short) < n:
        raise ValueError(f"{n} pairs, but only {len(short)} entries have an answer without a stop")
    pairs = []
    for entry in random.Random(seed).sample(short, n):
        shared = {key: value for key, value in entry.items() if key != "output"}
        answer = entry["output"]
        pairs.append({**shared, "chosen": FORMS[form](answer), "rejected": answer})
    return pairs
