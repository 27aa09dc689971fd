"""Plain text of the small world, to be read before any instruction: stories, lists, facts.

The one idea: whoever has read how a world is told needs few instructions to answer in it. Here
stand the words, facts and turns of speech of the instruction data as statements: no task is given,
and nothing that a held-out entry composes is composed here, in any form. Facts are shared with
the held-out entries, as the world's are with any text about it. Knows nothing of tokens or models.

That reading comes first, and why: Radford et al. 2018, "Improving Language Understanding by
Generative Pre-Training", section 3.
"""

import random
from itertools import combinations

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
# How things are told: as prose, sentence after sentence, or as notes, line by line. Of a trio and
# of a list the first way always, and some of the others; of a fact and of numbers any one way.
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


def make_corpus(seed=SEED, n_documents=N_DOCUMENTS):
    """A list of short texts, each a story, a list or some facts; the same for the same seed.

    >>> make_corpus(seed=8, n_documents=1)
    ['4 plus 7 is 11. In 5 weeks there are 35 days. In capitals, stone is STONE.']
    """
    rng, taken, facts = random.Random(f"{seed} corpus"), _held_out(), _facts()
    tellers = [_trio] * 5 + [_adjective, _instead, _both, _numbers] + [_list] * 3 + [_told] * 7
    told = []
    while len(told) < n_documents:
        text, composed = rng.choice(tellers)(rng, facts)
        if not taken.intersection(composed):
            told.append(text)
    return told


def _held_out():
    """What held-out entries compose: who did what to what, who did two things, words of a list.

    In whatever tense, voice, colour or order: the words alone are told apart.
    """
    taken, base = set(), {past: base for base, _, past, _ in VERBS}
    for family, keys in held_out_keys().items():
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


# --- tellers: (text, what it composes) ----------------------------------------------------------
def _words(rng):
    """Who did what to what, in all forms, and the trio that it composes."""
    who, verb, what = rng.choice(list(ACTORS)), rng.choice(VERBS), rng.choice(THINGS + ANIMALS)
    forms = dict(zip(("base", "third", "past", "participle"), verb, strict=True))
    how, new = rng.choice(ADJECTIVES), rng.choice(THINGS + ANIMALS)
    words = dict(who=who, what=what, he=ACTORS[who], how=how, new=new, **forms)
    return words, (who, verb[0], what)


def _story(rng, kind, n):
    """The first that is told of a kind, and `n` of the others, as prose or as notes."""
    ways, between = rng.choice(LAYOUTS)
    return between.join([ways[kind][0], *rng.sample(ways[kind][1:], n)])


def _trio(rng, facts):
    words, trio = _words(rng)
    text = _story(rng, "trio", rng.randint(3, 6)).format(**words)
    return text, [trio, (words["he"], *trio[1:])]


def _adjective(rng, facts):
    words, trio = _words(rng)
    text = rng.choice([
        "The {who} {past} the {how} {what}. The {what} was {how}.",
        "The {how} {who} {past} the {what}. The {who} was {how}.",
    ])  # fmt: skip
    return text.format(**words), [trio]


def _instead(rng, facts):
    words, trio = _words(rng)
    text = "The {who} {past} the {what}. With the {new} for the {what}: The {who} {past} the {new}."
    return text.format(**words), [trio, (*trio[:2], words["new"])]


def _both(rng, facts):
    one, two = rng.sample(list(ACTORS), 2)
    (_, did_one), (_, did_two) = rng.sample(INTRANSITIVE, 2)
    first, second = f"The {one} {did_one}", f"the {two} {did_two}"
    text = f"{first}. {second.capitalize()}. {first} and {second}."
    return text, [(one, did_one, two, did_two), (two, did_two, one, did_one)]


def _list(rng, facts):
    words = rng.sample(LIST_WORDS, rng.choice([2, 3, 3, 3, 3, 4, 5, 6, 7]))
    in_order = sorted(words)
    slots = dict(
        backwards=", ".join(reversed(words)),
        sorted=", ".join(in_order),
        first=words[0],
        last=words[-1],
        n=len(words),
    )
    text = _story(rng, "list", 3).format(all=", ".join(words), **slots)
    return text, [*_runs(words), *_runs(in_order)]


def _runs(words):
    """Neighbours in a list, any number of them: each run is a list as well."""
    ends = combinations(range(len(words) + 1), 2)
    return [frozenset(words[start:end]) for start, end in ends]


def _numbers(rng, facts):
    a, b = rng.sample(range(1, 41), 2)
    ways, _ = rng.choice(LAYOUTS)
    return rng.choice(ways["numbers"]).format(a=a, b=b, it=max(a, b)), [frozenset((a, b))]


def _facts():
    """Every fact of the world: (its family, its words)."""
    return [
        (family, slots | {"it": answer})
        for family, (known, _) in FACT_FAMILIES.items()
        for slots, answer in known
    ]


def _told(rng, facts):
    ways, between = rng.choice(LAYOUTS)
    some = [rng.choice(ways[family]).format(**words) for family, words in rng.sample(facts, 3)]
    return between.join(some), []
