"""Task families that are look-ups: every fact is seen in training, in other words.

A held-out entry pairs a fact with a phrasing in which this fact was never asked.
"""

from collections.abc import Mapping

from ch07.data.toy_instructions.family import Fact, FactFamily
from ch07.data.toy_instructions.words import (
    ANTONYMS,
    CAPITALS,
    CATEGORIES,
    DAYS,
    MONTHS,
    NUMBER_WORDS,
    PLURALS,
    SHOUTED,
    SPELLED,
    UNITS,
)


def _pairs(table: Mapping[str, str]) -> list[Fact]:
    return [({"w": question}, answer) for question, answer in table.items()]


def _categories() -> list[Fact]:
    return [({"w": word}, kind) for kind, words in CATEGORIES.items() for word in words]


def _additions() -> list[Fact]:
    return [({"a": a, "b": b}, str(a + b)) for a in range(1, 11) for b in range(1, 11)]


def _conversions() -> list[Fact]:
    facts: list[Fact] = []
    for small, one, many, factor in UNITS:
        for n in range(1, 7):
            large = f"1 {one}" if n == 1 else f"{n} {many}"
            facts.append(({"small": small, "large": large}, f"{n * factor} {small}"))
    return facts


def _neighbours() -> list[Fact]:
    facts: list[Fact] = []
    for kind, names in (("day", DAYS), ("month", MONTHS)):
        for i, name in enumerate(names):
            facts.append(({"kind": kind, "way": "after", "w": name}, names[(i + 1) % len(names)]))
            facts.append(({"kind": kind, "way": "before", "w": name}, names[i - 1]))
    return facts


def _number_words() -> list[Fact]:
    return [({"w": n}, word) for n, word in enumerate(NUMBER_WORDS)]


FACT_FAMILIES: dict[str, FactFamily] = {
    "plural": (
        _pairs(PLURALS),
        [
            ("Give the plural of the word.", "{w}"),
            ("Write the noun in the plural.", "{w}"),
            ("What is the plural form?", "{w}"),
            ("Make this noun plural.", "{w}"),
            ("What is the plural of '{w}'?", ""),
            ("Give the plural form of '{w}'.", ""),
            ("Turn '{w}' into its plural.", ""),
            ("One {w}, two what?", ""),
            ("How do you say '{w}' in the plural?", ""),
            ("Pluralize the word '{w}'.", ""),
        ],
    ),
    "antonym": (
        _pairs(ANTONYMS),
        [
            ("Give the opposite of the word.", "{w}"),
            ("Name an antonym.", "{w}"),
            ("Write a word that means the opposite.", "{w}"),
            ("What is the opposite?", "{w}"),
            ("What is the opposite of '{w}'?", ""),
            ("Give an antonym of '{w}'.", ""),
            ("Which word is the opposite of '{w}'?", ""),
            ("Find an antonym for '{w}'.", ""),
            ("Name the opposite of '{w}'.", ""),
            ("Which word means the opposite of '{w}'?", ""),
        ],
    ),
    "capital": (
        _pairs(CAPITALS),
        [
            ("Name the capital of the country.", "{w}"),
            ("What is the capital city?", "{w}"),
            ("Give the capital of this country.", "{w}"),
            ("Which city is the capital?", "{w}"),
            ("What is the capital of {w}?", ""),
            ("Name the capital city of {w}.", ""),
            ("Which city is the capital of {w}?", ""),
            ("Tell me the capital of {w}.", ""),
            ("Which capital does {w} have?", ""),
            ("Give the name of the capital of {w}.", ""),
        ],
    ),
    "classify": (
        _categories(),
        [
            ("Classify the word.", "{w}"),
            ("Which category does the word belong to?", "{w}"),
            ("What kind of thing is this?", "{w}"),
            ("Name the category.", "{w}"),
            ("What kind of thing is '{w}'?", ""),
            ("Classify the word '{w}'.", ""),
            ("Which category does '{w}' belong to?", ""),
            ("Name the category of '{w}'.", ""),
        ],
    ),
    "spell": (
        [({"w": word}, "-".join(word)) for word in SPELLED],
        [
            ("Spell the word with hyphens between the letters.", "{w}"),
            ("Spell this word.", "{w}"),
            ("Write the word letter by letter.", "{w}"),
            ("Separate the letters with hyphens.", "{w}"),
            ("Spell '{w}'.", ""),
            ("How do you spell '{w}'?", ""),
            ("Spell the word '{w}'.", ""),
            ("Write '{w}' letter by letter.", ""),
            ("Give the letters of '{w}'.", ""),
            ("Spell out '{w}', please.", ""),
            ("Which letters make up '{w}'?", ""),
            ("Put hyphens between the letters of '{w}'.", ""),
        ],
    ),
    "capital letters": (
        [({"w": word}, word.upper()) for word in SHOUTED],
        [
            ("Write the word in capital letters.", "{w}"),
            ("Convert to upper case.", "{w}"),
            ("Put the word into capitals.", "{w}"),
            ("Use only capital letters.", "{w}"),
            ("Write '{w}' in capital letters.", ""),
            ("Convert '{w}' to upper case.", ""),
            ("Put '{w}' into capitals.", ""),
            ("How does '{w}' look in capital letters?", ""),
            ("Make every letter of '{w}' a capital.", ""),
            ("Shout the word '{w}' in capitals.", ""),
            ("Change '{w}' to all capitals.", ""),
            ("Give '{w}' in upper case.", ""),
        ],
    ),
    "add": (
        _additions(),
        [
            ("Add the numbers.", "{a} and {b}"),
            ("Find the sum.", "{a} + {b}"),
            ("What is {a} plus {b}?", ""),
            ("Add {a} and {b}.", ""),
            ("Calculate {a} + {b}.", ""),
            ("What is the sum of {a} and {b}?", ""),
            ("Work out {a} + {b}.", ""),
            ("How much is {a} plus {b}?", ""),
            ("What do you get if you add {a} and {b}?", ""),
            ("Which number is {a} plus {b}?", ""),
        ],
    ),
    "convert": (
        _conversions(),
        [
            ("Convert to {small}.", "{large}"),
            ("How many {small} is that?", "{large}"),
            ("Express this in {small}.", "{large}"),
            ("Write the amount in {small}.", "{large}"),
            ("How many {small} are in {large}?", ""),
            ("Convert {large} to {small}.", ""),
            ("Express {large} in {small}.", ""),
            ("Turn {large} into {small}.", ""),
            ("{large}: how many {small}?", ""),
            ("Change {large} to {small}.", ""),
            ("Give {large} in {small}.", ""),
            ("What is {large} in {small}?", ""),
        ],
    ),
    "before or after": (
        _neighbours(),
        [
            ("Which {kind} comes {way} this one?", "{w}"),
            ("Name the {kind} {way}.", "{w}"),
            ("Give the {kind} that comes right {way}.", "{w}"),
            ("What {kind} comes {way} it?", "{w}"),
            ("Which {kind} comes {way} {w}?", ""),
            ("Name the {kind} {way} {w}.", ""),
            ("What is the {kind} {way} {w}?", ""),
            ("Tell me the {kind} {way} {w}.", ""),
            ("Give the {kind} that comes right {way} {w}.", ""),
            ("Which {kind} is {way} {w}?", ""),
            ("{w}: which {kind} comes {way} it?", ""),
            ("Say which {kind} is right {way} {w}.", ""),
            ("Do you know which {kind} comes {way} {w}?", ""),
            ("What is the name of the {kind} {way} {w}?", ""),
        ],
    ),
    "number in words": (
        _number_words(),
        [
            ("Write the number as a word.", "{w}"),
            ("Spell out the number.", "{w}"),
            ("Give the number in words.", "{w}"),
            ("How is this number written in words?", "{w}"),
            ("Write {w} as a word.", ""),
            ("Write the number {w} in words.", ""),
            ("How do you write {w} in words?", ""),
            ("Give {w} in words.", ""),
            ("Spell out the number {w}.", ""),
            ("What is {w} in words?", ""),
            ("Turn the number {w} into a word.", ""),
            ("Put {w} into words.", ""),
            ("Express {w} as a word.", ""),
            ("Which word stands for {w}?", ""),
        ],
    ),
}
