"""Scores and answers as plain text tables, for a terminal, a log or a screen reader."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ch07.config import AFTER_PRETRAINING, WITHOUT_PRETRAINING
from ch07.data.chat_forms import question_line
from ch07.generation.respond import Answer
from ch07.utils.console import shell_path, terminal_line


def print_scores(scores: dict[str, Any] | None) -> None:
    """Print one line per family and one for all: n, exact match, its 95 % interval."""
    if scores is None:
        return
    names = {name: terminal_line(name) for name in scores.get("families", {})}
    title = "held-out entries"
    width = max(map(len, [title, *names.values()]))
    print(f"\n{title:<{width}}    n  exact match  95 % interval")
    for name, printable_name in names.items():
        print(_line(printable_name, scores["families"][name], width))
    print(_line("all", scores, width))
    other_scores = ("token_f1", "rouge_l", "stopped")
    print("  ".join(f"{name} {scores[name]:.3f}" for name in other_scores), end="")
    seconds = scores.get("train_seconds")
    print(f"  training {seconds:.0f} s" if seconds is not None else "")


def print_before_after(
    entries: Sequence[dict[str, Any]], before: Sequence[Answer], after: Sequence[Answer]
) -> None:
    """Print each entry with its reference and the model's answers before and after training."""
    for entry, old, new in zip(entries, before, after, strict=True):
        print(f"\n  asked   {terminal_line(question_line(entry, between=' | '))}")
        print(f"  right   {terminal_line(entry['output'])}")
        print(f"  before  {answer_line(old.text)}")
        print(f"  after   {answer_line(new.text)}")


def next_commands(folder: str | Path, text: bool = False) -> str:
    """The commands to try after a run: talk to it, or fine-tune one that was trained on `text`."""
    quoted = shell_path(folder)
    if not text:
        return f"  python -m ch07 chat {quoted}\n  python -m ch07 serve {quoted}"
    return (
        f"  python -m ch07 finetune {AFTER_PRETRAINING} --model {quoted}\n"
        "and, to measure the benefit of pretraining,\n"
        f"  python -m ch07 finetune {WITHOUT_PRETRAINING}"
    )


def answer_line(text: str) -> str:
    """An answer as one line for the terminal, even if it is empty."""
    return terminal_line(text) if text.strip() else "[an empty answer]"


def _line(name: str, scores: dict[str, Any], width: int) -> str:
    low, high = scores["exact_match_interval"]
    rate = f"{100 * scores['exact_match']:.1f} %"
    return f"{name:<{width}} {scores['n']:>4}  {rate:>11}  {100 * low:.1f} to {100 * high:.1f} %"
