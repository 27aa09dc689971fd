"""Scores and answers as plain text tables, for a terminal, a log or a screen reader."""

from ch07.utils.console import terminal_line

# Fine-tuning on few rows, as measured on the toy instructions; RECIPES are for other cases.
FROM_TEXT = "--train-rows 1000 --epochs 12 --batch-size 16 --lr 2.5e-3 --optimizer muon"
FROM_NOTHING = "--train-rows 1000 --epochs 24 --batch-size 16 --lr 5e-3"


def print_scores(scores):
    """Print one line per family and one for all: n, exact match, its 95 % interval."""
    if scores is None:
        return
    names = {name: terminal_line(name) for name in scores.get("families", {})}
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
        print(f"\n  asked   {terminal_line(asked)}\n  right   {terminal_line(entry['output'])}")
        print(f"  before  {answered(old.text)}\n  after   {answered(new.text)}")


def next_commands(folder, text=False):
    """What to type after a run: talk to it, or fine-tune one that has read plain text only."""
    if not text:
        return f"  python -m ch07 chat {folder}"
    tuned, plain = (f"  python -m ch07 finetune {flags}" for flags in (FROM_TEXT, FROM_NOTHING))
    return f"{tuned} --model {folder}\nand, to see what reading was worth,\n{plain}"


def answered(text):
    """An answer as one line for the terminal, also if it is empty."""
    return terminal_line(text) if text.strip() else "[an empty answer]"


def _line(name, scores, width):
    low, high = scores["exact_match_interval"]
    rate = f"{100 * scores['exact_match']:.1f} %"
    return f"{name:<{width}} {scores['n']:>4}  {rate:>11}  {100 * low:.1f} to {100 * high:.1f} %"
