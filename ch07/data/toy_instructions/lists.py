"""Task families on lists of words and on numbers: each draws new members, computes the answer."""

import random

from ch07.data.toy_instructions.family import DrawnTask, TaskFamily
from ch07.data.toy_instructions.words import CATEGORIES

LIST_WORDS = [word for words in CATEGORIES.values() for word in words]


def _words(rng: random.Random, n: int) -> tuple[list[str], str]:
    """`n` different words, and the same as text."""
    words = rng.sample(LIST_WORDS, n)
    return words, ", ".join(words)


def _sort_three(rng: random.Random) -> DrawnTask:
    words, text = _words(rng, 3)
    return DrawnTask({"l": text}, ", ".join(sorted(words)), frozenset(words))


def _reverse_three(rng: random.Random) -> DrawnTask:
    words, text = _words(rng, 3)
    return DrawnTask({"l": text}, ", ".join(reversed(words)), tuple(words))


def _first_or_last(rng: random.Random) -> DrawnTask:
    words, text = _words(rng, rng.randint(3, 5))
    which, place = rng.choice([("first", 0), ("last", -1)])
    return DrawnTask({"l": text, "which": which}, words[place], (which, *words))


def _count(rng: random.Random) -> DrawnTask:
    words, text = _words(rng, rng.randint(2, 7))
    return DrawnTask({"l": text}, str(len(words)), frozenset(words))


def _larger_number(rng: random.Random) -> DrawnTask:
    a, b = rng.sample(range(1, 41), 2)
    return DrawnTask({"a": a, "b": b}, str(max(a, b)), frozenset((a, b)))


LIST_FAMILIES: dict[str, TaskFamily] = {
    "sort three words": (
        _sort_three,
        [
            ("Sort the words alphabetically.", "{l}"),
            ("Put these words into alphabetical order.", "{l}"),
            ("Arrange the following words from A to Z.", "{l}"),
            ("Sort these words alphabetically: {l}", ""),
        ],
    ),
    "reverse three words": (
        _reverse_three,
        [
            ("Reverse the order of the words.", "{l}"),
            ("Write the list backwards, word by word.", "{l}"),
            ("Give these words in reverse order.", "{l}"),
            ("Reverse this list: {l}", ""),
        ],
    ),
    "first or last word": (
        _first_or_last,
        [
            ("What is the {which} word of the list?", "{l}"),
            ("Name the {which} word.", "{l}"),
            ("Which word comes {which}?", "{l}"),
            ("Give the {which} word of this list: {l}", ""),
        ],
    ),
    "count": (
        _count,
        [
            ("How many words are in the list?", "{l}"),
            ("Count the words.", "{l}"),
            ("Give the number of words in this list.", "{l}"),
            ("How many words are there? {l}", ""),
        ],
    ),
    "larger number": (
        _larger_number,
        [
            ("Which number is larger?", "{a} or {b}"),
            ("Name the bigger of the two numbers.", "{a} and {b}"),
            ("Which number is larger, {a} or {b}?", ""),
            ("What is the maximum of {a} and {b}?", ""),
        ],
    ),
}
