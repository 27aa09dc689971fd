"""Scores and answers as plain text tables, for a terminal, a log or a screen reader."""

import json

# Fine-tuning on few rows, as measured on the toy instructions; RECIPES are for other cases.
FROM_TEXT = "--train-rows 1000 --epochs 12 --batch-size 16 --lr 2.5e-3 --optimizer muon"
FROM_NOTHING = "--train-rows 1000 --epochs 24 --batch-size 16 --lr 5e-3"
WIDTH = 88  # columns of a before-and-after line


def print_scores(scores):
    """Print one line per family and one for all: n, exact match, its 95 % interval."""
    if scores is None:
        return
    names = {name: printable(name) for name in scores.get("families", {})}
    title = "held-out entries"
    width = max(map(len, [title, *names.values()]))
    print(f"\n{title:<{width}}    n  exact match  95 % interval")
    for name, shown in names.items():
        print(_line(shown, scores["families"][name], width))
    print(_line("all", scores, width))
    rest = ("token_f1", "rouge_l", "stopped")
    print("  ".join(f"{name} {scores[name]:.3f}" for name in rest), end="")
    seconds = scores.get("train_seconds")
    print(f"  training {seconds:.0f} s" if seconds is not None else "")


def print_before_after(entries, before, after):
    """Print each entry with the answer that was right and the model's, before and after."""
    for entry, old, new in zip(entries, before, after, strict=True):
        asked = " | ".join(filter(None, (entry["instruction"], entry.get("input"))))
        print(f"\n  asked   {printable(asked)}\n  right   {printable(entry['output'])}")
        print(f"  before  {_answered(old.text)}\n  after   {_answered(new.text)}")


def next_steps(folder, text=False):
    """What to type after a run: talk to it, or fine-tune one that has read plain text only."""
    if not text:
        return f"  python -m ch07 chat {folder}"
    tuned, plain = (f"  python -m ch07 finetune {flags}" for flags in (FROM_TEXT, FROM_NOTHING))
    return f"{tuned} --model {folder}\nand, to see what reading was worth,\n{plain}"


def safe(text):
    """Text of several lines, each of them `printable`, none of them shortened."""
    return "\n".join(printable(line, width=None) for line in text.split("\n"))


def json_text(value):
    """Indented JSON with letters of all scripts as they are, and nothing that steers a terminal."""
    text = json.dumps(value, indent=2, ensure_ascii=False)
    return "".join(c if c.isprintable() or c == "\n" else f"\\u{ord(c):04x}" for c in text)


def printable(text, width=WIDTH):
    """One line that a terminal can be trusted with: control characters are shown, not sent."""
    shown = "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)
    return shown if width is None or len(shown) <= width else shown[: width - 4] + " ..."


def _answered(text):
    return printable(text) if text.strip() else "[an empty answer]"


def _line(name, scores, width):
    low, high = scores["exact_match_interval"]
    rate = f"{100 * scores['exact_match']:.1f} %"
    return f"{name:<{width}} {scores['n']:>4}  {rate:>11}  {100 * low:.1f} to {100 * high:.1f} %"
