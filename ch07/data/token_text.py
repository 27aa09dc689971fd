"""A token as visible text, and how many terminal columns a text takes."""

import unicodedata

from tiktoken import Encoding

END_LABEL = "<END>"  # end-of-text; no other token is shown like this, whatever a user types


def token_text(token_id: int, tokenizer: Encoding | None, end_id: int) -> str:
    """A token as one visible word: <END>, marks for spaces and newlines, bytes in hexadecimal.

    Without a tokenizer it is the token's number.
    """
    if token_id == end_id:
        return END_LABEL
    if tokenizer is None:
        return str(token_id)
    raw = tokenizer.decode_single_token_bytes(token_id)
    try:
        text = raw.decode()
    except UnicodeDecodeError:  # part of a character, as in Chinese or an emoji
        return f"<{raw.hex()}>"
    text = text.replace("\n", "↵").replace(" ", "␣").replace("\t", "⇥")
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)


def display_width(text: str) -> int:
    r"""Columns that a text takes in a terminal: a Chinese character takes two, a mark none.

    >>> display_width("end"), display_width("你"), display_width("e\u0301")
    (3, 2, 1)
    """
    return sum(map(_columns, text))


def _columns(letter: str) -> int:
    if unicodedata.category(letter) in ("Mn", "Me"):  # drawn onto the letter before it
        return 0
    return 2 if unicodedata.east_asian_width(letter) in "WF" else 1
