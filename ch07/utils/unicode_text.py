"""Texts that look the same are the same: letter case, and the ways to encode an accented letter."""

import unicodedata

import regex

# Unicode's limit for marks on one letter, in its "stream-safe" form (UAX #15): a joiner without
# meaning divides longer runs, whose marks Python would sort in a time that grows as their square.
MAX_MARKS = 30
JOINER = "\u034f"
MANY_MARKS = regex.compile(rf"([\p{{M}}--{JOINER}]{{{MAX_MARKS}}})(?=\p{{M}})", regex.VERSION1)
# "i" with a second dot above: what Python makes of the Turkish "İ" in lower case.
DOTTED_I = "i\u0307"


def compose(text: str) -> str:
    r"""Each accented letter as one character where there is one (Unicode's form NFC).

    >>> len("e\u0301"), len(compose("e\u0301"))
    (2, 1)
    """
    if text.isascii():
        return text
    return unicodedata.normalize("NFC", MANY_MARKS.sub(rf"\1{JOINER}", text))


def fold_case(text: str) -> str:
    """Without differences of letter case, and composed.

    >>> fold_case("İSTANBUL, STRASSE") == fold_case("istanbul, Straße")
    True
    """
    return compose(text.casefold().replace(DOTTED_I, "i"))
