"""The bundled conversations, generated: a question about a noun, and follow-ups that don't name it.

    python -m ch07.data.toy_instructions.conversations     writes conversations.json again

"And its plural?" can only be answered by a model that reads the turn before. Every fact is seen in
training, in several phrasings and places; a held-out conversation begins with a question that no
training conversation has.
"""

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ch07.data.toy_instructions.build import as_json

CONVERSATIONS_FILE = Path(__file__).with_name("conversations.json")
SEED = 123
N_TEST = 60
N_VALIDATION = 20
CHATS_PER_QUESTION = 3  # in training: each first question goes on in so many ways
THREE_TURNS = 1 / 3  # the share of conversations with two follow-ups
FAMILY = "follow-up"

# Within a kind, no two nouns begin with the same letter.
NOUNS = {
    "fruit": "apple banana cherry fig grape kumquat lemon peach",
    "animal": "cat dog fox goat horse mouse sheep wolf",
    "tool": "axe brush drill hammer knife ladder saw wrench",
    "vehicle": "bus car ferry lorry plane ship taxi van",
    "tree": "ash birch cedar elm maple oak pine willow",
    "garment": "belt coat dress glove hat jacket scarf vest",
    "building": "abbey barn church factory house library mill tower",
    "instrument": "cello drum flute guitar harp lute piano violin",
}
KIND_OF = {noun: kind for kind, nouns in NOUNS.items() for noun in nouns.split()}
IRREGULAR = {
    "knife": "knives",
    "mouse": "mice",
    "scarf": "scarves",
    "sheep": "sheep",
    "wolf": "wolves",
}
TASKS = ("kind", "plural", "capitals")
FIRST_QUESTIONS = {
    "kind": [
        "What kind of thing is '{noun}'?",
        "Which category does '{noun}' belong to?",
        "Classify the word '{noun}'.",
        "Name the category of '{noun}'.",
    ],
    "plural": [
        "What is the plural of '{noun}'?",
        "Give the plural of '{noun}'.",
        "Make '{noun}' plural.",
        "How do you say '{noun}' in the plural?",
    ],
    "capitals": [
        "Write '{noun}' in capital letters.",
        "Put '{noun}' into capitals.",
        "Convert '{noun}' to upper case.",
        "Give '{noun}' in upper case.",
    ],
    "name": [
        "Which {kind} begins with the letter {letter}?",
        "Tell me one {kind} that begins with {letter}.",
    ],
}
FOLLOW_UPS = {
    "kind": ["And what kind of thing is it?", "Which category is that?", "What kind is it?"],
    "plural": ["And its plural?", "What is that in the plural?", "How do you call many of them?"],
    "capitals": ["And in capital letters?", "Write that in capitals.", "Now in upper case?"],
}


def plural_of(noun: str) -> str:
    """The plural, by the rules of spelling.

    >>> [plural_of(noun) for noun in ("cherry", "bus", "wolf", "piano", "abbey")]
    ['cherries', 'buses', 'wolves', 'pianos', 'abbeys']
    """
    if noun in IRREGULAR:
        return IRREGULAR[noun]
    if noun.endswith("y") and noun[-2] not in "aeiou":
        return f"{noun[:-1]}ies"
    return noun + ("es" if noun.endswith(("s", "x", "ch", "sh")) else "s")


def answer_of(task: str, noun: str) -> str:
    """The answer to a task about a noun."""
    answers = {
        "kind": KIND_OF[noun],
        "plural": plural_of(noun),
        "capitals": noun.upper(),
        "name": noun,
    }
    return answers[task]


def build_conversations(seed: int = SEED) -> list[dict[str, Any]]:
    """All conversations, shuffled, as entries with a history, and a split if held out."""
    rng = random.Random(seed)
    questions = list(_first_questions())
    rng.shuffle(questions)
    entries: list[dict[str, Any]] = []
    for i, (task, noun, question) in enumerate(questions):
        split = "test" if i < N_TEST else "validation" if i < N_TEST + N_VALIDATION else None
        turns = {tuple(_follow_ups(rng, task)) for _ in range(1 if split else CHATS_PER_QUESTION)}
        for follow_ups in sorted(turns):
            entries.append(_entry(noun, [(task, question), *follow_ups], split))
    rng.shuffle(entries)
    return entries


def _first_questions() -> Iterator[tuple[str, str, str]]:
    """(task, noun, question) for each first question; no question comes twice."""
    for task, phrasings in FIRST_QUESTIONS.items():
        for noun, kind in KIND_OF.items():
            for phrasing in phrasings:
                yield task, noun, phrasing.format(noun=noun, kind=kind, letter=noun[0])


def _follow_ups(rng: random.Random, first: str) -> list[tuple[str, str]]:
    """(task, question) of one or two follow-ups, each another task than those before."""
    tasks = [task for task in TASKS if task != first]
    rng.shuffle(tasks)
    n = 2 if rng.random() < THREE_TURNS else 1
    return [(task, rng.choice(FOLLOW_UPS[task])) for task in tasks[:n]]


def _entry(noun: str, turns: list[tuple[str, str]], split: str | None) -> dict[str, Any]:
    *earlier, (task, question) = turns
    entry: dict[str, Any] = {
        "history": [{"instruction": q, "output": answer_of(t, noun)} for t, q in earlier],
        "instruction": question,
        "input": "",
        "output": answer_of(task, noun),
        "family": FAMILY,
    }
    return entry if split is None else {**entry, "split": split}


if __name__ == "__main__":
    CONVERSATIONS_FILE.write_text(as_json(build_conversations()), encoding="utf-8", newline="\n")
    print(f"wrote {CONVERSATIONS_FILE}")
