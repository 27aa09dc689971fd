r"""Self-Instruct as in Stanford Alpaca: the prompt, the parser and the filters.

The one idea: a model sees a few numbered tasks written by people, and continues the numbering. Its
answer is free text, so each task in it is parsed with care, and rejected, with a reason, if it is
incomplete or unwanted.

Sources: Stanford Alpaca, `encode_prompt` and `post_process_gpt3_response` of
generate_instruction.py; Self-Instruct (Wang et al. 2023, section 2.2), `post_process_gpt3_response`
of bootstrap_instructions.py. `strict=False` is the original parser: it splits at every "###" and
finds numbers anywhere, so that merged tasks, cut answers and stray digits pass. The wording of the
prompt's requirements is this project's own, and the original's ban on the end-of-text token (a bias
on its logit) is omitted, since not every server has it. Knows nothing of files or models.
"""

import re
import string
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from ch07.generation.completion import Completion
from ch07.utils.errors import InputError

NO_INPUT = "<noinput>"
SELF_INSTRUCT_BLACKLIST = (
    *"image images graph graphs picture pictures file files map maps draw plot".split(),
    "go to",
)
ALPACA_BLACKLIST = (*SELF_INSTRUCT_BLACKLIST, "video", "audio", "music", "flowchart", "diagram")
MIN_INSTRUCTION_WORDS = 4
MAX_INSTRUCTION_WORDS = 150
MAX_LOGGED_CHARACTERS = 200  # of a rejected task

REQUIREMENTS = """\
Please write {n_total} different tasks for a language model, each with an instruction, an input and
an output.
1. No verb should open two instructions.
2. Some instructions ask a question, some give an order.
3. Tasks are of many kinds: to write, to sort into classes, to rewrite, to calculate, to explain.
4. A text model alone can do the task: it sees, hears and opens nothing, and calls nobody.
5. Everything is in the language of the first tasks.
6. An instruction has one or two sentences.
7. The input is a true example, with no gaps left to fill in, and of at most 100 words. Where an
instruction needs none, it is <noinput>.
8. The output does what the instruction asks, in at most 100 words.

The {n_total} tasks:"""


@dataclass(frozen=True)
class Rejected:
    """A rejected task: its instruction, or as much of it as there is, and the reason."""

    instruction: str
    reason: str


def tasks_prompt(examples: Sequence[dict[str, Any]], n_total: int = 20) -> str:
    r"""The prompt: the requirements, the examples, numbered from 1, and the next task's header.

    Stanford Alpaca calls this `encode_prompt`. As there, an empty input becomes <noinput>, white
    space in an instruction is normalized, and a colon at its end is removed. ValueError without
    examples.

    >>> one = {"instruction": "Name the  colour:", "input": "", "output": "Red"}
    >>> print(tasks_prompt([one]).split("tasks:\n")[1])
    ###
    1. Instruction: Name the colour
    1. Input:
    <noinput>
    1. Output:
    Red
    ###
    2. Instruction:
    """
    if not examples:
        raise InputError("at least one example is needed")
    prompt = REQUIREMENTS.format(n_total=n_total) + "\n"
    for k, example in enumerate(examples, start=1):
        instruction = re.sub(r"\s+", " ", example["instruction"]).strip().rstrip(":")
        prompt += f"###\n{k}. Instruction: {instruction}\n"
        prompt += f"{k}. Input:\n{example.get('input') or NO_INPUT}\n"
        prompt += f"{k}. Output:\n{example['output']}\n"
    return prompt + f"###\n{len(examples) + 1}. Instruction:"


def stop_strings(n_total: int = 20, strict: bool = True) -> list[str]:
    """The stop strings of a request: the answer ends before task `n_total` + 1.

    `strict=False` gives the original's, although "20." also stops an answer at "in 2020.".
    """
    if strict:
        return [f"\n{n_total + 1}. Instruction:"]
    return [f"\n{n_total}", f"{n_total}."]


def post_process_response(
    n_examples: int,
    completion: Completion,
    strict: bool = True,
    *,
    blacklist: Iterable[str] = ALPACA_BLACKLIST,
    unicode: bool = True,
) -> tuple[list[dict[str, str]], list[Rejected]]:
    """(rows, rejected): the tasks in the answer to a prompt with `n_examples` examples, in order.

    A row is a dict with "instruction", "input" and "output"; every other task is a `Rejected`. An
    answer that ended at the length limit loses its last task, which is most likely cut.
    """
    parse: Callable[[int, Completion], Iterator[dict[str, str] | Rejected]]
    parse = _parse_strictly if strict else _parse_as_original
    rows: list[dict[str, str]] = []
    rejected: list[Rejected] = []
    for task in parse(n_examples, completion):
        if isinstance(task, Rejected):
            rejected.append(task)
            continue
        reason = rejection_reason(task["instruction"], blacklist, unicode)
        if reason is None:
            rows.append(task)
        else:
            rejected.append(Rejected(task["instruction"], reason))
    return rows, rejected


def rejection_reason(
    instruction: str, blacklist: Iterable[str] = ALPACA_BLACKLIST, unicode: bool = True
) -> str | None:
    """Why an instruction is rejected, or None: the originals' rules, in their order.

    With `unicode`, each Chinese or Japanese character counts as a word, and an instruction may
    begin with a letter of any script; for ASCII text it makes no difference.

    >>> rejection_reason("Draw a map."), rejection_reason("Explain what a mapping is.")
    ('too short', None)
    """
    n_words = len((_spaced(instruction) if unicode else instruction).split())
    if n_words < MIN_INSTRUCTION_WORDS:
        return "too short"
    if n_words > MAX_INSTRUCTION_WORDS:
        return "too long"
    if any(re.search(rf"\b({word})\b", instruction, re.IGNORECASE) for word in blacklist):
        return "asks for what text can't do"
    if instruction.startswith("Write a program"):
        return "begins with Write a program"
    if instruction[0] in string.punctuation:
        return "begins with punctuation"
    if not unicode and not instruction[0].isascii():
        return "begins with no ASCII letter"
    return None


def _spaced(text: str) -> str:
    """The text with spaces around each Chinese or Japanese character."""
    return re.sub("([\u3040-\u30ff\u3400-\u9fff])", r" \1 ", text)


# --- the two parsers ----------------------------------------------------------------------------
PART_NAMES = ("Instruction", "Input", "Output")
_HEADER = re.compile(r"^[ \t]*(\d{1,9})\.[ \t]+(Instruction|Input|Output):", re.MULTILINE)
_HEADER_AFTER_NUMBER = re.compile(r"\.\s+(?:Instruction|Input|Output):")
_SEPARATOR = re.compile(r"(\n|^)[ \t]*##+[ \t]*$")


def _parse_as_original(
    n_examples: int, completion: Completion
) -> Iterator[dict[str, str] | Rejected]:
    """The original parser: chunks between any two "###", numbers found anywhere."""
    chunks = f"{n_examples + 1}. Instruction:{completion.text}".split("###")
    if completion.finish_reason == "length" and chunks.pop().strip():
        yield Rejected("", "cut off")
    for number, chunk in enumerate(chunks, start=n_examples + 1):
        pieces = split_at_headers(chunk, str(number))
        if len(pieces) == 4:
            yield _row(*pieces[1:])
        elif chunk.strip():
            yield Rejected(chunk.strip()[:MAX_LOGGED_CHARACTERS], "not in the form")


def split_at_headers(chunk: str, number: str) -> list[str]:
    """A chunk, split at each header with this number; one pattern serves all numbers."""
    pieces = []
    start = 0
    for header in _HEADER_AFTER_NUMBER.finditer(chunk):
        if chunk.endswith(number, start, header.start()):
            pieces.append(chunk[start : header.start() - len(number)])
            start = header.end()
    return [*pieces, chunk[start:]]


def _parse_strictly(n_examples: int, completion: Completion) -> Iterator[dict[str, str] | Rejected]:
    """The strict parser: headers start a line, and each task has one number, the next in order.

    A chat model may repeat the first header, although the prompt ended with it.
    """
    text = completion.text
    first_number = n_examples + 1
    if not re.match(rf"[\s#]*{first_number}\.[ \t]+Instruction:", text):
        text = f"{first_number}. Instruction:{text}"
    headers = list(_HEADER.finditer(text))
    starts = [i for i, header in enumerate(headers) if header[2] == "Instruction"]
    ends = [*starts[1:], len(headers)]
    for start, end in zip(starts, ends, strict=True):
        task_headers = headers[start:end]
        next_header = headers[end] if end < len(headers) else None
        field_ends = [header.start() for header in task_headers[1:]]
        field_ends.append(next_header.start() if next_header else len(text))
        fields = [
            text[header.end() : field_end].strip()
            for header, field_end in zip(task_headers, field_ends, strict=True)
        ]
        fields[-1] = _SEPARATOR.sub("", fields[-1]).strip()
        problem = _problem(task_headers, fields, next_header, completion.finish_reason)
        if problem is None:
            yield _row(*fields)
        else:
            yield Rejected(fields[0][:MAX_LOGGED_CHARACTERS], problem)


def _problem(
    task_headers: Sequence[re.Match[str]],
    fields: Sequence[str],
    next_header: re.Match[str] | None,
    finish_reason: str,
) -> str | None:
    """Why a task is incomplete, or None."""
    numbers = {header[1] for header in task_headers}
    if next_header is None and finish_reason == "length":
        return "cut off"
    if tuple(header[2] for header in task_headers) != PART_NAMES or len(numbers) > 1:
        return "not in the form"
    if next_header is not None and int(next_header[1]) != int(task_headers[0][1]) + 1:
        return "not followed by the next number"  # so it is unclear where the output ends
    if not fields[2]:
        return "empty output"
    return None


def _row(instruction: str, input_text: str, output: str) -> dict[str, str]:
    input_text = input_text.strip()
    return {
        "instruction": instruction.strip(),
        "input": "" if input_text.lower() == NO_INPUT else input_text,
        "output": output.strip(),
    }
