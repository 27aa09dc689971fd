"""LIMA's filters: answers that are too short or long, in the first person, or about other answers.

Source: LIMA (Zhou et al. 2023, arXiv 2305.11206, section 2), which fine-tuned on 1,000 carefully
chosen rows and published no code, so that only its rules can be followed.
"""

import re
from collections.abc import Iterable
from typing import Any

from ch07.utils.errors import InputError

Row = dict[str, Any]

# --- the word "I", which is also a number: World War I, Elizabeth I, Type I -----------------------
# The word before it and the word after it decide, and neither always can. Where both readings are
# possible, it is read as a number: a text in the first person says "I" or "my" more than once, and
# a text about a queen should stay. So these are errors: "Like Elizabeth I was late." and "The Book
# I wrote is long." are taken for numbers; a king who isn't in the list, or "a class I railroad",
# for the first person; "Anna I know" is the first person, whoever Anna is.
_LABELS = (  # "Part I" is a number; "the part I like" is not
    "Act|Algebra|Angiotensin|Appendix|Article|Biology|Book|Calculus|Canto|Category|Chapter|"
    "Chemistry|Class|Collagen|Complex|Division|Exhibit|Factor|Figure|Grade|Group|Interferon|Level|"
    "Mark|Model|Module|Part|Period|Phase|Photosystem|Physics|Polymerase|Region|Scene|Schedule|"
    "Section|Series|Stage|Table|Theorem|Tier|Title|Topoisomerase|Type|Unit|Vitamin|Volume|War|Zone"
)
_RULERS = (
    "Abbas|Adrian|Afonso|Ahmed|Albert|Alexander|Alexios|Alfonso|Amenhotep|Antiochus|Artaxerxes|"
    "Baldwin|Basil|Benedict|Boniface|Boris|Cambyses|Carlos|Carol|Catherine|Charles|Christian|"
    "Clement|Conrad|Constantine|Cyrus|Darius|David|Edward|Elizabeth|Eric|Erik|Ferdinand|Francis|"
    "Franz|Frederick|Friedrich|George|Gregory|Gustav|Gustavus|Harald|Harold|Henry|Innocent|Isabella|"
    "Ivan|James|Joan|Johann|John|Joseph|Juan|Justin|Justinian|Karl|Kenneth|Khosrow|Leo|Leopold|"
    "Lothair|Louis|Ludwig|Mahmud|Malcolm|Manuel|Margaret|Mary|Maximilian|Mehmed|Michael|Murad|"
    "Napoleon|Nicholas|Olaf|Osman|Otto|Paul|Pedro|Peter|Philip|Pius|Ptolemy|Ramesses|Ramses|Richard|"
    "Robert|Rudolf|Sancho|Selassie|Selim|Seti|Shapur|Sigismund|Simeon|Suleiman|Theodosius|Thutmose|"
    "Umberto|Urban|Valentinian|Victoria|Wilhelm|William|Xerxes|Zog"
)
_TITLES = "King|Queen|Pope|Emperor|Empress|Kaiser|Tsar|Czar|Sultan|Shah|Pharaoh|Prince|Duke"
_AFTER_TITLE = "|".join(rf"(?<=\b{title} )" for title in _TITLES.split("|"))
# Of a small letter too, where one of these nouns follows: "a type I error".
_SMALL_LABELS = "type|class|phase|stage|grade|category|group"
_NOUNS = (
    "alleles?|antibod(?:y|ies)|cancers?|cells?|clinical|collagen|diabetes|diseases?|drugs?|elements?|"
    "errors?|hypersensitivity|interferons?|metals?|molecules?|muscle|patients?|receptors?|"
    "supernovae?|trials?|tumou?rs?"
)
# Verbs that only the first person has, and words that never come after it.
_FIRST_PERSON_VERBS = (
    "agree|am|believe|do|don['\u2019]t|feel|get|go|guess|have|haven['\u2019]t|hope|know|mean|prefer|"
    "recommend|remember|say|see|suggest|tell|think|understand|want|wonder"
)
_NEVER_AFTER_I = r"has|is|does|of(?! course)"
_JOINS = "and|or|through|versus|vs"  # "types I and II", but "you and I and"
_NUMBERED = (
    rf"(?:{_LABELS}|{_RULERS}) I\b"
    rf"|(?:{_AFTER_TITLE})[A-Z]"
    rf"|(?:{_SMALL_LABELS}) I (?:{_NOUNS})\b"
    rf"|(?!and |or )\w+ I (?:{_JOINS})\b"
)
_FIRST_PERSON = (
    r"\bI['\u2019](?:m|ve|d|ll)\b"
    rf"|\bI(?= (?:{_FIRST_PERSON_VERBS})\b)"
    rf"|(?:(?<!\w )(?<!Vol\. )\bI|\b(?!{_NUMBERED})\w+ I)(?= [a-z])(?! (?:{_NEVER_AFTER_I})\b)"
    r"|\b(?i:my|me|myself)\b"
)

# What LIMA left out of Stack Exchange's answers: those that mention their author or other answers.
LIMA_PATTERNS = {
    "first person": _FIRST_PERSON,
    "other answers": r"(?i)\bas (?:already )?(?:mentioned|noted|stated|pointed out)\b"
    r"|\b(?:other|previous|accepted) answers?\b|\bstack ?(?:exchange|overflow)\b",
}
LIMA_LENGTHS = 1200, 4096  # characters of an answer: the shortest and the longest allowed

# A delimiter that opens again before it closes is not code. This keeps the search linear.
_CODE = r"```.*?```|`[^`\n]+`|<(?P<tag>pre|code)\b(?:(?!<(?P=tag)\b).)*?</(?P=tag)>"
_HTML_TAGS = (
    "a|abbr|b|blockquote|br|center|del|div|em|font|h[1-6]|hr|i|img|kbd|p|s|small|span|strike|strong"
    "|sub|sup|table|tbody|td|th|thead|tr|u"
)  # not ul, ol and li: lists stay
_CODE_LINK_OR_TAG = re.compile(
    rf"(?P<code>{_CODE})"
    r"|!\[[^\[\]\n]*\]\([^)\s]*(?:\s+\"[^\"\n]*\")?\)"  # a picture in Markdown
    r"|\[(?P<text>[^\[\]\n]+)\]\([^)\s]*(?:\s+\"[^\"\n]*\")?\)"  # a link: its text stays
    r"| ?<?https?://[^\s<>()\]]*[^\s<>()\].,;:!?'\"]>?"
    rf"|</?(?:{_HTML_TAGS})(?:\s+[\w-]+\s*=\s*(?:\"[^\"]*\"|'[^']*'))*\s*/?>",
    re.DOTALL | re.IGNORECASE,
)


def strip_links(text: str) -> str:
    """Remove links, pictures and HTML tags; code, lists and the text of a link stay.

    >>> strip_links("See [the docs](https://x.org), run `curl https://x.org` <b>now</b>.")
    'See the docs, run `curl https://x.org` now.'
    """
    return _CODE_LINK_OR_TAG.sub(lambda match: match["code"] or match["text"] or "", text)


def without_code(text: str) -> str:
    """Remove code from a text, since rules about wording don't apply to programs."""
    return re.sub(_CODE, "", text, flags=re.DOTALL | re.IGNORECASE)


def filter_reasons(
    row: Row,
    min_len: int = 0,
    max_len: int | None = None,
    banned_patterns: dict[str, str] | Iterable[str] = (),
) -> list[str]:
    """Why an answer is filtered out: "short", "long", or the names of patterns that it matches.

    Of a conversation, the last answer counts. Lengths are in characters, bounds included. Patterns
    are regular expressions, as {name: pattern} or as a list; they are not searched in code.
    ValueError for an invalid one.

    >>> filter_reasons({"output": "I think so."}, 5, 100, LIMA_PATTERNS)
    ['first person']
    """
    answer = row["output"]
    if not isinstance(banned_patterns, dict):
        banned_patterns = {pattern: pattern for pattern in banned_patterns}
    reasons = []
    if len(answer) < min_len:
        reasons.append("short")
    if max_len is not None and len(answer) > max_len:
        reasons.append("long")
    prose = without_code(answer)
    try:
        for name, pattern in banned_patterns.items():
            if re.search(pattern, prose):
                reasons.append(name)
    except re.error as error:
        raise InputError(f"a banned pattern is not a regular expression: {error}") from None
    return reasons
