"""Task families on lists of words and on numbers: each draws new members, computes the answer."""

from ch07.toy_instructions.words import CATEGORIES

LIST_WORDS = [word for words in CATEGORIES.values() for word in words]


def _words(rng, n):
    words = rng.sample(LIST_WORDS, n)
    return words, ", ".join(words)


def sort_three(rng):
    words, text = _words(rng, 3)
    return {"l": text}, ", ".join(sorted(words)), frozenset(words)


def reverse_three(rng):
    words, text = _words(rng, 3)
    return {"l": text}, ", ".join(reversed(words)), tuple(words)


def first_or_last(rng):
    words, text = _words(rng, rng.randint(3, 5))
    which, place = rng.choice([("first", 0), ("last", -1)])
    return {"l": text, "which": which}, words[place], (which, *words)


def count(rng):
    words, text = _words(rng, rng.randint(2, 7))
    return {"l": text}, str(len(words)), frozenset(words)


def odd_one_out(rng):
    kind, other = rng.sample(list(CATEGORIES), 2)
    odd = rng.choice(CATEGORIES[other])
    words = [*rng.sample(CATEGORIES[kind], 3), odd]
    rng.shuffle(words)
    return {"l": ", ".join(words)}, odd, frozenset(words)


def contains(rng):
    words, text = _words(rng, rng.randint(3, 4))
    inside = rng.random() < 0.5
    word = rng.choice(words if inside else [w for w in LIST_WORDS if w not in words])
    return {"l": text, "w": word}, "Yes" if inside else "No", (word, *words)


def remove(rng):
    words, text = _words(rng, rng.randint(3, 4))
    word = rng.choice(words)
    left = ", ".join(w for w in words if w != word)
    return {"l": text, "w": word}, left, (word, *words)


def larger_number(rng):
    a, b = rng.sample(range(1, 61), 2)
    return {"a": a, "b": b}, str(max(a, b)), frozenset((a, b))


LIST_FAMILIES = {
    "sort three words": (sort_three, [
        ("Sort the words alphabetically.", "{l}"),
        ("Put these words into alphabetical order.", "{l}"),
        ("Arrange the following words from A to Z.", "{l}"),
        ("Sort these words alphabetically: {l}", ""),
    ]),
    "reverse three words": (reverse_three, [
        ("Reverse the order of the words.", "{l}"),
        ("Write the list backwards, word by word.", "{l}"),
        ("Give these words in reverse order.", "{l}"),
        ("Reverse this list: {l}", ""),
    ]),
    "first or last word": (first_or_last, [
        ("What is the {which} word of the list?", "{l}"),
        ("Name the {which} word.", "{l}"),
        ("Which word comes {which}?", "{l}"),
        ("Give the {which} word of this list: {l}", ""),
    ]),
    "count": (count, [
        ("How many words are in the list?", "{l}"),
        ("Count the words.", "{l}"),
        ("Give the number of words in this list.", "{l}"),
        ("How many words are there? {l}", ""),
    ]),
    "odd one out": (odd_one_out, [
        ("Which word does not belong with the others?", "{l}"),
        ("Find the odd one out.", "{l}"),
        ("Pick the word that does not fit.", "{l}"),
        ("Which is the odd one out? {l}", ""),
    ]),
    "contains": (contains, [
        ("Is the word '{w}' in the list?", "{l}"),
        ("Does this list contain '{w}'?", "{l}"),
        ("Answer yes or no: is '{w}' one of these words?", "{l}"),
        ("Check whether '{w}' is in the list.", "{l}"),
    ]),
    "remove a word": (remove, [
        ("Remove '{w}' from the list.", "{l}"),
        ("Delete the word '{w}'.", "{l}"),
        ("Leave out '{w}'.", "{l}"),
        ("Give the list without '{w}'.", "{l}"),
    ]),
    "larger number": (larger_number, [
        ("Which number is larger?", "{a} or {b}"),
        ("Name the bigger of the two numbers.", "{a} and {b}"),
        ("Which number is larger, {a} or {b}?", ""),
        ("What is the maximum of {a} and {b}?", ""),
    ]),
}  # fmt: skip
