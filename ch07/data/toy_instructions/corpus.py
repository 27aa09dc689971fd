"""Plain text of the small world, to pretrain on before any instruction: stories, lists, facts.

The one idea: a model that has read how a world is described needs few instructions to answer in it.
The words, facts and phrases of the instruction data appear here as statements: no task is given,
and nothing that a held-out entry composes is composed here, in any form. Facts are shared with
the held-out entries, as any text about a world shares them. Knows nothing of tokens or models.

Source for pretraining before fine-tuning: Radford et al. 2018, "Improving Language Understanding by
Generative Pre-Training", section 3.
"""

import random
from collections.abc import Callable, Hashable, Sequence
from itertools import combinations
from typing import Any

from ch07.data.toy_instructions.build import SEED, held_out_keys
from ch07.data.toy_instructions.facts import FACT_FAMILIES
from ch07.data.toy_instructions.lists import LIST_FAMILIES, LIST_WORDS
from ch07.data.toy_instructions.words import (
    ACTORS,
    ADJECTIVES,
    ANIMALS,
    INTRANSITIVE,
    THINGS,
    VERBS,
)

N_DOCUMENTS = 38_000
# How each kind is written: as prose, sentence after sentence, or as notes, line by line. A trio and
# a list use the first template and some of the others; a fact and numbers use any one.
PROSE = {
    "trio": [
        "The {who} {past} the {what}.",
        "The {what} was {participle} by the {who}.",
        "No. The {who} did not {base} the {what}.",
        "Did the {who} {base} the {what}?",
        "{he} {past} the {what}.",
        "The {who} {third} the {what}.",
        "The {who} will {base} the {what}.",
    ],
    "list": [
        "{all}.",
        "Backwards: {backwards}.",
        "From A to Z: {sorted}.",
        "First {first}.",
        "Last {last}.",
        "{n} words.",
    ],
    "numbers": ["Of {a} and {b}, {it} is more."],
    "plural": ["One {w}, many {it}."],
    "antonym": ["The opposite of {w} is {it}."],
    "capital": ["The capital of {w} is {it}."],
    "classify": ["The word {w} is a kind of {it}."],
    "spell": ["The word {w} is spelled {it}."],
    "capital letters": ["In capitals, {w} is {it}."],
    "add": ["{a} plus {b} is {it}.", "{a} + {b} = {it}."],
    "convert": ["In {large} there are {it}."],
    "before or after": ["The {kind} {way} {w} is {it}."],
    "number in words": ["The number {w} in letters is {it}."],
}
NOTES = {
    "trio": [*PROSE["trio"], "Who:\nthe {who}", "What:\nthe {what}"],
    "list": [
        "{all}",
        "Backwards:\n{backwards}",
        "From A to Z:\n{sorted}",
        "First:\n{first}",
        "Last:\n{last}",
        "Words:\n{n}",
    ],
    "numbers": ["{a} or {b}\nLarger:\n{it}", "Larger, of {a} and {b}:\n{it}"],
    "plural": ["Many of '{w}':\n{it}", "{w}\nPlural:\n{it}"],
    "antonym": ["Not '{w}' but:\n{it}", "{w}\nOpposite:\n{it}"],
    "capital": ["The capital in {w}:\n{it}", "{w}\nCapital:\n{it}"],
    "classify": ["What '{w}' is a kind of:\n{it}", "{w}\nKind:\n{it}"],
    "spell": ["The letters of '{w}':\n{it}", "{w}\nLetters:\n{it}"],
    "capital letters": ["On the sign for '{w}':\n{it}", "{w}\nCapitals:\n{it}"],
    "add": ["{a} plus {b}:\n{it}", "{a} + {b}\nSum:\n{it}"],
    "convert": ["There are, in {large}:\n{it}", "{large}\nIn {small}:\n{it}"],
    "before or after": ["The {kind} {way} {w}:\n{it}", "{w}\nThe {kind} {way}:\n{it}"],
    "number in words": ["The number {w}:\n{it}", "{w}\nNumber:\n{it}"],
}
LAYOUTS = [(PROSE, " "), (NOTES, "\n")]

Words = dict[str, str | int]  # what fills the {fields} of a template
FactWords = tuple[str, Words]  # the family of a fact, and its words
Document = tuple[str, Sequence[Hashable]]  # a text, and what it composes
Writer = Callable[[random.Random, list[FactWords]], Document]


def make_corpus(seed: int = SEED, n_documents: int = N_DOCUMENTS) -> list[str]:
    """A list of short texts, each a story, a list or some facts; the same for the same seed.

    >>> make_corpus(seed=8, n_documents=1)
    ['4 plus 7 is 11. In 5 weeks there are 35 days. In capitals, stone is STONE.']
    """
    rng = random.Random(f"{seed} corpus")
    held_out = _held_out_compositions()
    facts = _facts()
    writers: list[Writer] = [_trio] * 5
    writers += [_adjective, _replacement, _conjunction, _numbers]
    writers += [_list] * 3
    writers += [_three_facts] * 7
    documents = []
    while len(documents) < n_documents:
        text, composed = rng.choice(writers)(rng, facts)
        if not held_out.intersection(composed):
            documents.append(text)
    return documents


def _held_out_compositions() -> set[Hashable]:
    """What held-out entries compose: who did what to what, who did two things, words of a list.

    Only the words matter, not their tense, voice, colour or order.
    """
    taken: set[Hashable] = set()
    base = {past: base for base, _, past, _ in VERBS}
    for family, keys in held_out_keys().items():
        key: Any
        for key in keys:
            if family in LIST_FAMILIES:
                taken.add(frozenset(key) - {"first", "last"})
            elif family == "join with and":
                taken.add(key)
            elif family == "find the adjective":
                who, what, did = key
                taken.add((who.split()[-1], base[did], what.split()[-1]))
            elif family == "replace a word":
                who, did, *things = key
                taken |= {(who, base[did], what) for what in things}
            else:
                who, (verb, *_), what = key
                taken |= {(who, verb, what), (ACTORS[who], verb, what)}
    return taken


# --- writers of one document ----------------------------------------------------------
def _words(rng: random.Random) -> tuple[Words, tuple[str, str, str]]:
    """Who did what to what, in all forms, and the trio that this composes."""
    who = rng.choice(list(ACTORS))
    verb = rng.choice(VERBS)
    what = rng.choice(THINGS + ANIMALS)
    words: Words = {"who": who, "what": what, "he": ACTORS[who]}
    words["how"] = rng.choice(ADJECTIVES)
    words["new"] = rng.choice(THINGS + ANIMALS)
    words.update(zip(("base", "third", "past", "participle"), verb, strict=True))
    return words, (who, verb[0], what)


def _templates(rng: random.Random, kind: str, n: int) -> str:
    """The first template of a kind, and `n` of the others, as prose or as notes."""
    layout, separator = rng.choice(LAYOUTS)
    return separator.join([layout[kind][0], *rng.sample(layout[kind][1:], n)])


def _trio(rng: random.Random, facts: list[FactWords]) -> Document:
    words, trio = _words(rng)
    text = _templates(rng, "trio", rng.randint(3, 6)).format(**words)
    return text, [trio, (words["he"], *trio[1:])]


def _adjective(rng: random.Random, facts: list[FactWords]) -> Document:
    words, trio = _words(rng)
    text = rng.choice(
        [
            "The {who} {past} the {how} {what}. The {what} was {how}.",
            "The {how} {who} {past} the {what}. The {who} was {how}.",
        ]
    )
    return text.format(**words), [trio]


def _replacement(rng: random.Random, facts: list[FactWords]) -> Document:
    words, trio = _words(rng)
    text = "The {who} {past} the {what}. With the {new} for the {what}: The {who} {past} the {new}."
    return text.format(**words), [trio, (*trio[:2], words["new"])]


def _conjunction(rng: random.Random, facts: list[FactWords]) -> Document:
    one, two = rng.sample(list(ACTORS), 2)
    (_, did_one), (_, did_two) = rng.sample(INTRANSITIVE, 2)
    first, second = f"The {one} {did_one}", f"the {two} {did_two}"
    text = f"{first}. {second.capitalize()}. {first} and {second}."
    return text, [(one, did_one, two, did_two), (two, did_two, one, did_one)]


def _list(rng: random.Random, facts: list[FactWords]) -> Document:
    words = rng.sample(LIST_WORDS, rng.choice([2, 3, 3, 3, 3, 4, 5, 6, 7]))
    in_order = sorted(words)
    text = _templates(rng, "list", 3).format(
        all=", ".join(words),
        backwards=", ".join(reversed(words)),
        sorted=", ".join(in_order),
        first=words[0],
        last=words[-1],
        n=len(words),
    )
    return text, [*_runs(words), *_runs(in_order)]


def _runs(words: Sequence[str]) -> list[frozenset[str]]:
    """The words of each run of neighbours in a list, since each run is a list as well."""
    ends = combinations(range(len(words) + 1), 2)
    return [frozenset(words[start:end]) for start, end in ends]


def _numbers(rng: random.Random, facts: list[FactWords]) -> Document:
    a, b = rng.sample(range(1, 41), 2)
    layout, _ = rng.choice(LAYOUTS)
    return rng.choice(layout["numbers"]).format(a=a, b=b, it=max(a, b)), [frozenset((a, b))]


def _facts() -> list[FactWords]:
    """Every fact of the world: its family, and its words."""
    return [
        (family, {**slots, "it": answer})
        for family, (known, _) in FACT_FAMILIES.items()
        for slots, answer in known
    ]


def _three_facts(rng: random.Random, facts: list[FactWords]) -> Document:
    layout, separator = rng.choice(LAYOUTS)
    sentences = [
        rng.choice(layout[family]).format(**words) for family, words in rng.sample(facts, 3)
    ]
    return separator.join(sentences), []
