"""What learners with a mistake have done, as the end of a sentence: "9 of 24 masked every ..."."""

import json
from functools import lru_cache
from pathlib import Path

PHRASES_FILE = Path(__file__).with_name("mistake_phrases.json")


@lru_cache(maxsize=1)
def mistake_phrases() -> dict[str, str]:
    """A phrase in the past tense for every diagnosis that the checker makes."""
    return json.loads(PHRASES_FILE.read_text(encoding="utf-8"))


def count_sentence(n: int, attempted: int, diagnosis: str) -> str:
    """How many of those who attempted an exercise made a mistake.

    >>> count_sentence(9, 24, "all-padding-masked")
    '9 of 24 masked every padding token'
    """
    phrase = mistake_phrases().get(diagnosis, f"made the mistake {diagnosis}")
    return f"{n} of {attempted} {phrase}"
