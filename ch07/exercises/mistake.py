"""What a check raises when an answer is wrong: a mistake with a name, a sentence and a table."""

from collections.abc import Callable

MAX_SENTENCE = 600  # characters
MAX_TABLE = 4000


class NotStarted(Exception):
    """The stub still raises NotImplementedError."""


class Mistake(Exception):
    """One mistake.

    `diagnosis` is its short name, `sentence` says what is wrong and what follows from it, and
    `table` shows what was returned beside what was expected.
    """

    def __init__(self, diagnosis: str, sentence: str, table: str = "") -> None:
        super().__init__(sentence)
        self.diagnosis = diagnosis
        self.sentence = _shorten(sentence, MAX_SENTENCE)
        self.table = _shorten(table, MAX_TABLE)


def expect(
    condition: bool, diagnosis: str, sentence: str, table: str | Callable[[], str] = ""
) -> None:
    """Raise the `Mistake` unless the condition holds; a function makes the table when needed."""
    if not condition:
        raise Mistake(diagnosis, sentence, table() if callable(table) else table)


def _shorten(text: str, limit: int) -> str:
    return text if len(text) <= limit else f"{text[:limit]} ..."
