r"""The API key in what a server sends: masked before anything else reads it.

The one idea: servers and proxies quote the request in their errors, the key included, and each
writes it in its own way. One pattern knows all these ways, for every character of the key by
itself, so that they may be mixed: as it is, in the other letter case, as \u002d, \x2d, %2d, &#45;
or &#x2d;, or by an HTML name; escaped several times; with spaces or invisible characters in
between; or the whole of it in hexadecimal or base64. Since the text is masked as it arrives, no
message, log or row that is made from it can hold the key.

This is about echoes. A server has the key in any case, and could hide it in ways of its own.
"""

import base64
import html.entities
import re
from collections.abc import Callable

MASK = "[key]"
MIN_BASE64 = 8  # characters: fewer would be found in any text

# What may stand between two characters of the key: white space, invisible characters, and both as
# escapes. All repetitions that a key can begin with are bounded, so the search takes linear time.
BACKSLASHES = r"\\{1,8}"  # escaped up to three times
SEPARATOR = (
    r"(?:[\x00-\x20\x7f-\xa0\xad\u200b-\u200f\u2028-\u202f\u2060\ufeff]"
    rf"|{BACKSLASHES}(?:[nrt]|u(?:00[01]\w|0020|00a[0d]|200[b-f]|202[89]|2060|feff)))*"
)
BASE64_CHARACTERS = "[A-Za-z0-9+/=_-]"


def key_mask(key: str | None) -> Callable[[str], str]:
    r"""A function that replaces the key, however it is written, by "[key]".

    >>> mask = key_mask("sk-secret")
    >>> mask("wrong: sk-secret, sk%2Dsecret, sk\\u002dsecret, c2stc2VjcmV0")
    'wrong: [key], [key], [key], [key]'
    """
    if not key:
        return lambda text: text
    written = SEPARATOR.join(map(_ways_to_write, key))
    in_hexadecimal = r"[\s:,]{0,2}(?:0x)?".join(f"{ord(character):02x}" for character in key)
    patterns = [f"(?i:{written}|{in_hexadecimal})", *_base64_patterns(key)]
    search = re.compile("|".join(patterns))
    return lambda text: search.sub(MASK, text)


def _ways_to_write(character: str) -> str:
    """A pattern of one character of the key: as it is, and with each kind of escape."""
    code = ord(character)
    digits = f"{code:02x}"
    names = [name for name, value in html.entities.html5.items() if value == character]
    references = [f"#0{{0,5}}{code};?", f"#x0{{0,5}}{digits};?", *sorted(names)]
    as_it_is = re.escape(character)
    if not character.isalnum():  # "\/" is "/", but "\n" is no "n"
        as_it_is = r"\\{0,8}" + as_it_is
    ways = [
        rf"{BACKSLASHES}(?:u00|u\{{0{{0,4}}|x){digits}\}}?",
        rf"%(?:25){{0,4}}{digits}",
        rf"&(?:amp;){{0,4}}(?:{'|'.join(references)})",
        as_it_is,
    ]
    return f"(?:{'|'.join(ways)})"


def _base64_patterns(key: str) -> list[str]:
    """Patterns of the key within a longer base64 text.

    Three bytes become four characters, so the text differs with the place at which the key begins
    in its group of three. Characters that also depend on what stands before or after are left out.
    """
    data = key.encode()
    patterns = []
    for n_before in range(3):
        n_bytes = n_before + len(data)
        text = base64.b64encode(b"\0" * n_before + data + b"\0" * (-n_bytes % 3)).decode()
        own = text[(n_before * 8 + 5) // 6 : n_bytes * 8 // 6]
        if len(own) >= MIN_BASE64:
            characters = SEPARATOR.join(map(_ways_to_write_base64, own))
            patterns.append(f"{characters}{BASE64_CHARACTERS}*")
    return patterns


def _ways_to_write_base64(character: str) -> str:
    """A pattern of one character of a base64 text; in addresses, "-" and "_" replace two others."""
    if character in "+/":
        other = {"+": "-", "/": "_"}[character]
        return f"(?:{_ways_to_write(character)}|{other})"
    return character
