r"""The API key in what a server sends: masked before anything else reads it.

The one idea: servers and proxies quote the request in their errors, the key included, and escape it
in their own ways: as \u002d, %2d, &#45; or &sol;, and often more than once. So one layer of all
these escapes after the other is undone, and each time the key is looked for: as it is, in the other
letter case, with spaces or invisible characters in between, in hexadecimal and in base64. Since the
text is masked as it arrives, no message, log or row that is made from it can hold the key.

This is about echoes. A server has the key in any case, and could hide it in ways of its own.
"""

import base64
import html.entities
import re
from collections.abc import Callable
from typing import NamedTuple

MASK = "[key]"
MAX_LAYERS = 4  # of escapes within escapes
MIN_SECRET = 12  # characters of a key that is one: local servers are given "EMPTY", "none" or "x"
MIN_BASE64 = 8  # characters: fewer would be found in any text
BASE64_CHARACTERS = "[A-Za-z0-9+/=_-]*"
# What may stand between two characters of the key: white space, invisible characters, and
# backslashes, as in "\/".
SEPARATOR = r"[\\\x00-\x20\x7f-\xa0\xad\u200b-\u200f\u2028-\u202f\u2060\ufeff]*"
ESCAPE = re.compile(
    r"\\{1,8}u(?P<json>[0-9a-f]{4})"
    r"|\\{1,8}u\{0{0,4}(?P<javascript>[0-9a-f]{1,4})\}"
    r"|\\{1,8}x(?P<python>[0-9a-f]{2})"
    r"|\\{1,8}(?P<white_space>[nrt])"
    r"|%(?P<address>[0-9a-f]{2})"
    r"|&\#x0{0,5}(?P<html>[0-9a-f]{1,4});?"
    r"|&\#0{0,5}(?P<decimal>[0-9]{1,5});?"
    r"|&(?P<name>[a-z]{2,31};)",
    re.IGNORECASE | re.ASCII,
)


def key_mask(key: str | None) -> Callable[[str], str]:
    r"""A function that replaces the key, however it is written, by "[key]".

    A text in which it was escaped is returned without the escapes. The key has no spaces and no
    backslashes, which could also stand between its characters.

    >>> key_mask("sk-secret")("wrong: sk-secret, sk%2Dsecret, sk\\u002dsecret, c2stc2VjcmV0")
    'wrong: [key], [key], [key], [key]'
    """
    if not key:
        return lambda text: text
    pattern = re.compile("|".join(map(_key_pattern, _forms(key))))

    def mask(text: str) -> str:
        shown = unescaped = pattern.sub(MASK, text)
        for _ in range(MAX_LAYERS):
            layer = _without_escapes(unescaped)
            if layer == unescaped:
                break
            unescaped = pattern.sub(MASK, layer)
            if unescaped != layer:
                shown = unescaped
        return shown

    return mask


class KeyMasks(NamedTuple):
    """The functions that mask the key: in errors, and in answers.

    In an answer, a key that is only a placeholder may be an ordinary word.

    >>> key_masks("none").answer("None of them.")
    'None of them.'
    """

    error: Callable[[str], str]
    answer: Callable[[str], str]


def key_masks(key: str | None) -> KeyMasks:
    """The masks of a key, which may be None."""
    mask = key_mask(key)
    return KeyMasks(mask, mask if key and len(key) >= MIN_SECRET else key_mask(None))


def _without_escapes(text: str) -> str:
    """The text with one layer of escapes undone."""
    return ESCAPE.sub(_character, text)


def _character(escape: re.Match[str]) -> str:
    """The character that an escape stands for; an unknown name as it is."""
    kind = escape.lastgroup or ""
    value = escape[kind]
    if kind == "white_space":
        return "\n"
    if kind == "name":
        return html.entities.html5.get(value, escape[0])
    return chr(int(value, 10 if kind == "decimal" else 16))


def _forms(key: str) -> list[str]:
    """The key, and what is left of it when escapes are undone that it happens to have in it."""
    forms = [key]
    while len(forms) <= MAX_LAYERS and _without_escapes(forms[-1]) != forms[-1]:
        forms.append(_without_escapes(forms[-1]))
    return forms


def _key_pattern(key: str) -> str:
    """A pattern of the key, in either letter case, in hexadecimal and in base64."""
    as_it_is = SEPARATOR.join(map(re.escape, key))
    in_hexadecimal = r"[\s:,]{0,2}(?:0x)?".join(f"{byte:02x}" for byte in key.encode())
    patterns = [f"(?i:{as_it_is}|{in_hexadecimal})"]
    for text in _base64_texts(key):
        ways = (_base64_character(character) for character in text)
        patterns.append(SEPARATOR.join(ways) + BASE64_CHARACTERS)
    return "|".join(patterns)


def _base64_texts(key: str) -> list[str]:
    """The parts of a longer base64 text that stand for the key alone.

    Three bytes become four characters, so there is one for each place at which the key may begin in
    its group of three. Characters that also depend on what stands before or after are left out.
    """
    data = key.encode()
    texts = []
    for n_before in range(3):
        n_bytes = n_before + len(data)
        text = base64.b64encode(b"\0" * n_before + data + b"\0" * (-n_bytes % 3)).decode()
        texts.append(text[(n_before * 8 + 5) // 6 : n_bytes * 8 // 6])
    return [text for text in texts if len(text) >= MIN_BASE64]


def _base64_character(character: str) -> str:
    """A pattern of a character; in addresses, two of them are replaced by others."""
    return {"+": "[+-]", "/": "[/_]"}.get(character, character)
