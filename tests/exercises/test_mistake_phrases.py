"""Every mistake that the checker can name has a phrase for the class's report, and no other has."""

import ast
import re
from pathlib import Path

from ch07.exercises.mistake_phrases import count_sentence, mistake_phrases

EXERCISES = Path(__file__).resolve().parents[2] / "ch07" / "exercises"
NO_DIAGNOSES = {"0-d", "0-dim", "utf-8"}  # written like one
IRREGULAR = (
    "cut did forgot found gave got kept left let lost overwrote put read sent set took wrote"
).split()
PLACES = {"Mistake": 0, "expect": 1, "Report": 2}  # where a call holds its diagnosis


def diagnoses():
    """What the checks and the sandbox call mistakes."""
    found = set()
    for path in [*(EXERCISES / "checks").glob("*.py"), *EXERCISES.glob("*.py")]:
        if path.name == "saved_files.py":
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                if path.parent.name == "checks" and re.fullmatch(
                    r"[a-z0-9]+(-[a-z0-9]+)+", node.value
                ):
                    found.add(node.value)
            elif isinstance(node, ast.Call):
                place = PLACES.get(getattr(node.func, "id", ""))
                if place is not None and len(node.args) > place:
                    found |= constants(node.args[place])
    return found - NO_DIAGNOSES


def constants(node):
    """The text that stands there; both, where it depends."""
    if isinstance(node, ast.IfExp):
        return constants(node.body) | constants(node.orelse)
    is_text = isinstance(node, ast.Constant) and isinstance(node.value, str)
    return {node.value} if is_text else set()


def test_each_mistake_has_a_phrase_and_each_phrase_a_mistake():
    assert diagnoses() == set(mistake_phrases())


def test_phrases_end_a_sentence_and_differ():
    phrases = mistake_phrases()
    assert list(phrases) == sorted(phrases)
    assert len(set(phrases.values())) == len(phrases)
    for phrase in phrases.values():
        assert not phrase.endswith(".") and phrase.strip() == phrase
        # with a bar, the numbers and the exercise it fits into 80 columns
        assert len("████████ 24 of 24  (19)") + len(phrase) <= 80, phrase
        first = phrase.split()[0]
        assert first.endswith("ed") or first in IRREGULAR, phrase


def test_a_mistake_without_a_phrase_is_still_named():
    assert count_sentence(1, 2, "brand-new") == "1 of 2 made the mistake brand-new"
