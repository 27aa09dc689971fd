"""Task families that rework a sentence: each draws new words, and computes the answer."""

import random

from ch07.data.toy_instructions.family import DrawnTask, TaskFamily
from ch07.data.toy_instructions.words import (
    ACTORS,
    ADJECTIVES,
    ANIMALS,
    INTRANSITIVE,
    THINGS,
    VERBS,
)


def _parts(rng: random.Random) -> tuple[str, tuple[str, str, str, str], str]:
    """Who does what to what; the verb comes with its forms."""
    return rng.choice(list(ACTORS)), rng.choice(VERBS), rng.choice(THINGS + ANIMALS)


def _passive(rng: random.Random) -> DrawnTask:
    key = _parts(rng)
    who, (_, _, past, participle), what = key
    sentence = f"The {who} {past} the {what}."
    return DrawnTask({"s": sentence}, f"The {what} was {participle} by the {who}.", key)


def _negation(rng: random.Random) -> DrawnTask:
    key = _parts(rng)
    who, (base, _, past, _), what = key
    return DrawnTask(
        {"s": f"The {who} {past} the {what}."}, f"The {who} did not {base} the {what}.", key
    )


def _question(rng: random.Random) -> DrawnTask:
    key = _parts(rng)
    who, (base, _, past, _), what = key
    return DrawnTask(
        {"s": f"The {who} {past} the {what}."}, f"Did the {who} {base} the {what}?", key
    )


def _past_tense(rng: random.Random) -> DrawnTask:
    key = _parts(rng)
    who, (_, third, past, _), what = key
    return DrawnTask({"s": f"The {who} {third} the {what}."}, f"The {who} {past} the {what}.", key)


def _future_tense(rng: random.Random) -> DrawnTask:
    key = _parts(rng)
    who, (base, third, _, _), what = key
    return DrawnTask(
        {"s": f"The {who} {third} the {what}."}, f"The {who} will {base} the {what}.", key
    )


def _subject(rng: random.Random) -> DrawnTask:
    key = _parts(rng)
    who, (_, _, past, _), what = key
    return DrawnTask({"s": f"The {who} {past} the {what}."}, f"the {who}", key)


def _direct_object(rng: random.Random) -> DrawnTask:
    key = _parts(rng)
    who, (_, _, past, _), what = key
    return DrawnTask({"s": f"The {who} {past} the {what}."}, f"the {what}", key)


def _adjective(rng: random.Random) -> DrawnTask:
    who, (_, _, past, _), what = _parts(rng)
    how = rng.choice(ADJECTIVES)
    nouns = (f"{how} {who}", what) if rng.random() < 0.3 else (who, f"{how} {what}")
    return DrawnTask({"s": f"The {nouns[0]} {past} the {nouns[1]}."}, how, (*nouns, past))


def _replace_word(rng: random.Random) -> DrawnTask:
    who, (_, _, past, _), what = _parts(rng)
    new = rng.choice([word for word in THINGS + ANIMALS if word != what])
    sentence = f"The {who} {past} the {what}."
    answer = f"The {who} {past} the {new}."
    key = (who, past, what, new)
    return DrawnTask({"s": sentence, "old": what, "new": new}, answer, key)


def _pronoun(rng: random.Random) -> DrawnTask:
    key = _parts(rng)
    who, (_, _, past, _), what = key
    return DrawnTask(
        {"s": f"The {who} {past} the {what}."}, f"{ACTORS[who]} {past} the {what}.", key
    )


def _join_and(rng: random.Random) -> DrawnTask:
    one, two = rng.sample(list(ACTORS), 2)
    (_, did_one), (_, did_two) = rng.sample(INTRANSITIVE, 2)
    sentences = f"The {one} {did_one}. The {two} {did_two}."
    answer = f"The {one} {did_one} and the {two} {did_two}."
    return DrawnTask({"s": sentences}, answer, (one, did_one, two, did_two))


SENTENCE_FAMILIES: dict[str, TaskFamily] = {
    "passive": (
        _passive,
        [
            ("Rewrite the sentence in the passive voice.", "{s}"),
            ("Turn this sentence into the passive voice.", "{s}"),
            ("Change the following sentence to passive voice.", "{s}"),
            ("Put this into the passive voice: {s}", ""),
        ],
    ),
    "negation": (
        _negation,
        [
            ("Make the sentence negative.", "{s}"),
            ("Rewrite the sentence so that it says the opposite, using 'not'.", "{s}"),
            ("Negate the following sentence.", "{s}"),
            ("Negate this sentence: {s}", ""),
        ],
    ),
    "question": (
        _question,
        [
            ("Turn the sentence into a yes-or-no question.", "{s}"),
            ("Rewrite the statement as a question.", "{s}"),
            ("Make a question out of this sentence.", "{s}"),
            ("Form a question from this statement: {s}", ""),
        ],
    ),
    "past tense": (
        _past_tense,
        [
            ("Rewrite the sentence in the past tense.", "{s}"),
            ("Put the sentence into the past.", "{s}"),
            ("Change the tense of this sentence to the past.", "{s}"),
            ("Write this sentence in the past tense: {s}", ""),
        ],
    ),
    "future tense": (
        _future_tense,
        [
            ("Rewrite the sentence in the future tense.", "{s}"),
            ("Put the sentence into the future with 'will'.", "{s}"),
            ("Change the tense of this sentence to the future.", "{s}"),
            ("Write this sentence in the future tense: {s}", ""),
        ],
    ),
    "subject": (
        _subject,
        [
            ("Find the subject of the sentence.", "{s}"),
            ("Who does the action in this sentence?", "{s}"),
            ("Name the grammatical subject.", "{s}"),
            ("What is the subject of this sentence? {s}", ""),
        ],
    ),
    "object": (
        _direct_object,
        [
            ("Find the direct object of the sentence.", "{s}"),
            ("Who or what is acted upon in this sentence?", "{s}"),
            ("Name the direct object.", "{s}"),
            ("What is the object of this sentence? {s}", ""),
        ],
    ),
    "find the adjective": (
        _adjective,
        [
            ("Find the adjective in the sentence.", "{s}"),
            ("Identify the adjective in this sentence.", "{s}"),
            ("Which word is an adjective?", "{s}"),
            ("Name the adjective in this sentence: {s}", ""),
        ],
    ),
    "replace a word": (
        _replace_word,
        [
            ("Replace the word {old} with {new}.", "{s}"),
            ("Use the word {new} instead of {old} in the sentence.", "{s}"),
            ("Change the word {old} to {new} in the following sentence.", "{s}"),
            ("Put the word {new} in the place of {old}.", "{s}"),
        ],
    ),
    "pronoun": (
        _pronoun,
        [
            ("Replace the subject with a pronoun.", "{s}"),
            ("Rewrite the sentence with a pronoun as its subject.", "{s}"),
            ("Use 'He' or 'She' instead of the subject.", "{s}"),
            ("Rewrite with a pronoun for the subject: {s}", ""),
        ],
    ),
    "join with and": (
        _join_and,
        [
            ("Join the two sentences with 'and'.", "{s}"),
            ("Combine these sentences into one, using 'and'.", "{s}"),
            ("Make one sentence out of these two with 'and'.", "{s}"),
            ("Connect with 'and': {s}", ""),
        ],
    ),
}
