"""Texts that look the same are the same: letter case, and the ways to encode an accented letter."""

import unicodedata

# "i" with a second dot above: what Python makes of the Turkish "İ" in lower case.
DOTTED_I = "i\u0307"


def compose(text: str) -> str:
    r"""Each accented letter as one character where there is one (Unicode's form NFC).

    >>> len("e\u0301"), len(compose("e\u0301"))
    (2, 1)
    """
    return unicodedata.normalize("NFC", text)


def fold_case(text: str) -> str:
    """Without differences of letter case, and composed.

    >>> fold_case("İSTANBUL, STRASSE") == fold_case("istanbul, Straße")
    True
    """
    return compose(text.casefold().replace(DOTTED_I, "i"))
