"""The rules of Self-Instruct and Stanford Alpaca, by scanning the text: no pattern is used.

Written from what the public scripts do, rule by rule, and apart from this project's parsers:
bootstrap_instructions.py and prepare_for_finetuning.py of Self-Instruct, generate_instruction.py of
Stanford Alpaca.
"""

import string
from collections.abc import Callable, Iterator

from rouge_score import rouge_scorer

SELF_INSTRUCT_WORDS = [
    *["image", "images", "graph", "graphs", "picture", "pictures", "file", "files", "map", "maps"],
    *["draw", "plot", "go to"],
]
ALPACA_WORDS = [*SELF_INSTRUCT_WORDS, "video", "audio", "music", "flowchart", "diagram"]
SCORER = rouge_scorer.RougeScorer(["rougeL"], use_stemmer=False)


# --- scanning -------------------------------------------------------------------------------------


def skip(text: str, at: int, kind: Callable[[str], bool], most: int | None = None) -> int:
    """Where the characters of a kind that start at `at` end; at most so many are skipped."""
    end = at
    while end < len(text) and kind(text[end]) and (most is None or end - at < most):
        end += 1
    return end


def split_at(text: str, end_of_separator: Callable[[str, int], int | None]) -> list[str]:
    """The text, split at each separator; the function says where one that starts there ends."""
    parts = []
    start = at = 0
    while at < len(text):
        end = end_of_separator(text, at)
        if end is None:
            at += 1
        else:
            parts.append(text[start:at])
            start = at = end
    return [*parts, text[start:]]


def has_whole_word(text: str, word: str) -> bool:
    text = text.lower()

    def in_a_word(at: int) -> bool:
        return 0 <= at < len(text) and (text[at].isalnum() or text[at] == "_")

    return any(
        text.startswith(word, at) and not in_a_word(at - 1) and not in_a_word(at + len(word))
        for at in range(len(text))
    )


# --- filters and novelty, alike in both scripts ---------------------------------------------------


def why_filtered(instruction: str, unwanted: list[str]) -> str | None:
    """The first rule that an instruction breaks, in this project's words, or None."""
    n_words = len(instruction.split())
    rules = {
        "too short": n_words <= 3,
        "too long": n_words > 150,
        "asks for what text can't do": any(has_whole_word(instruction, w) for w in unwanted),
        "begins with Write a program": instruction[:15] == "Write a program",
        "begins with punctuation": instruction[:1] in set(string.punctuation),
        "begins with no ASCII letter": instruction[:1] > "\x7f",
    }
    return next((name for name, broken in rules.items() if broken), None)


def is_novel(instruction: str, known: list[str]) -> bool:
    """Whether no known instruction has a ROUGE-L above 0.7 with it."""
    return all(SCORER.score(instruction, old)["rougeL"].fmeasure <= 0.7 for old in known)


# --- Stanford Alpaca ------------------------------------------------------------------------------


def alpaca_tasks(n_examples: int, text: str, finish_reason: str) -> Iterator[dict[str, str]]:
    """The tasks in an answer, before the filters."""
    chunks = f"{n_examples + 1}. Instruction:{text}".split("###")
    if finish_reason == "length":
        del chunks[-1]
    for i, chunk in enumerate(chunks):
        number = f"{n_examples + 1 + i}."

        def header(chunk: str, at: int, number: str = number) -> int | None:
            if not chunk.startswith(number, at):
                return None
            name_at = skip(chunk, at + len(number), str.isspace)
            if name_at == at + len(number):
                return None
            for name in ("Instruction:", "Input:", "Output:"):
                if chunk.startswith(name, name_at):
                    return name_at + len(name)
            return None

        parts = split_at(chunk, header)
        if len(parts) == 4:  # three headers, whatever their order
            _, instruction, input_text, output = (part.strip() for part in parts)
            if input_text.lower() == "<noinput>":
                input_text = ""
            yield {"instruction": instruction, "input": input_text, "output": output}


# --- Self-Instruct --------------------------------------------------------------------------------


def listed_instructions(text: str, finish_reason: str) -> list[str]:
    """The instructions in an answer, before the filters: capitalized, none of them empty."""
    if finish_reason == "length":
        return []

    def list_number(text: str, at: int) -> int | None:
        if text[at] != "\n":
            return None
        digits_end = skip(text, at + 1, str.isdecimal)
        if digits_end == at + 1:
            return None
        for point in (digits_end, skip(text, digits_end, str.isspace, most=1)):
            if text.startswith(". ", point):
                return point + 2
        return None

    parts = [" ".join(part.split()) for part in split_at(text, list_number)]
    return [part.capitalize() for part in parts if part]


def field_header(name: str) -> Callable[[str, int], int | None]:
    """The separator "name:", with spaces and a number allowed before the colon."""

    def end(text: str, at: int) -> int | None:
        if not text.startswith(name, at):
            return None
        number = skip(text, at + len(name), str.isspace)
        colon = skip(text, skip(text, number, str.isdecimal), str.isspace)
        return colon + 1 if text.startswith(":", colon) else None

    return end


def example_header(text: str, at: int) -> int | None:
    """The separator "Example", with at most one space, a number and a point after it."""
    if not text.startswith("Example", at):
        return None
    number = skip(text, at + len("Example"), str.isspace, most=1)
    point = skip(text, number, str.isdecimal)
    return point + 1 if text.startswith(".", point) else point


def input_and_output(text: str) -> tuple[str, str]:
    parts = split_at(text.strip(), field_header("Output"))
    before, after = ("", parts[0]) if len(parts) == 1 else (parts[0].strip(), parts[1])
    output = split_at(after.strip(), field_header("Input"))[0].strip()
    end_of_header = field_header("Input")(before, 0) if before else None
    return before[end_of_header or 0 :].strip(), output


def generation_instances(text: str, finish_reason: str) -> list[tuple[str, str]]:
    """The (input, output) pairs of a task that is no classification."""
    text = text.strip()
    examples = split_at(text, example_header)
    if len(examples) > 1:
        pairs = [input_and_output(example) for example in examples if example.strip()]
    elif len(split_at(text, field_header("Output"))) > 1:
        pairs = [input_and_output(text)]
    else:
        return []
    return usable(pairs, finish_reason)


def classification_instances(text: str, finish_reason: str) -> list[tuple[str, str]]:
    """The (input, label) pairs of a classification; the label is the first line."""
    pairs = []
    for part in text.split("Class label:")[1:]:
        label, *rest = part.strip().split("\n")
        pairs.append(("\n".join(rest).strip(), label.strip()))
    return usable(pairs, finish_reason)


def usable(pairs: list[tuple[str, str]], finish_reason: str) -> list[tuple[str, str]]:
    """The pairs that are kept, each once, in order; the script keeps them in any order."""
    if finish_reason == "length":
        pairs = pairs[:-1]
    kept = []
    for before, after in pairs:
        incomplete = before.endswith(":") or after.endswith(":")
        if after and before != after and not incomplete:
            kept.append((before, after))
    for before, after in kept:
        if before and any(other == before and output != after for other, output in kept):
            return []
    return sorted(set(kept), key=kept.index)
