r"""Instructions from instructions: the prompt, the parser and the filters of Stanford Alpaca.

The one idea: a few tasks that people wrote are shown to a model in a numbered form, and it goes on
with the numbers; what it writes is text like any other, so each task is cut out with care, and
thrown away, with its reason, if it isn't whole or isn't wanted.

Sources: Stanford Alpaca, `encode_prompt` and `post_process_gpt3_response` of
generate_instruction.py; Self-Instruct (Wang et al. 2023, section 2.2), `post_process_gpt3_response`
of bootstrap_instructions.py. The original parser is `strict=False`. It cuts at every "###" and
looks for a number anywhere, so that merged tasks, cut answers and stray digits come through.
The words of the prompt's list of wishes are this project's own. Knows nothing of files or models.
"""

import re
import string
from dataclasses import dataclass

NO_INPUT = "<noinput>"
SELF_INSTRUCT_WORDS = (
    "image images graph graphs picture pictures file files map maps draw plot".split()
)
SELF_INSTRUCT_WORDS += ["go to"]
ALPACA_WORDS = [*SELF_INSTRUCT_WORDS, "video", "audio", "music", "flowchart", "diagram"]
FEWEST = 4
MOST = 150  # words of an instruction

WISHES = """\
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
    """A task that isn't used: its instruction, or what there is of it, and why."""

    instruction: str
    reason: str


def encode_prompt(examples, n_total=20):
    r"""The prompt: what is wished for, the examples from 1 on, and the beginning of the next.

    An empty input is written <noinput>; of an instruction, white space is evened out and a colon at
    its end goes, as in the original. ValueError without examples.

    >>> one = {"instruction": "Name the  colour:", "input": "", "output": "Red"}
    >>> print(encode_prompt([one]).split("tasks:\n")[1])
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
        raise ValueError("there must be an example at least")
    prompt = WISHES.format(n_total=n_total) + "\n"
    for k, example in enumerate(examples, start=1):
        instruction = re.sub(r"\s+", " ", example["instruction"]).strip().rstrip(":")
        prompt += f"###\n{k}. Instruction: {instruction}\n"
        prompt += f"{k}. Input:\n{example.get('input') or NO_INPUT}\n"
        prompt += f"{k}. Output:\n{example['output']}\n"
    return prompt + f"###\n{len(examples) + 1}. Instruction:"


def stop_strings(n_total=20, strict=True):
    """Where an answer should end: before the task after the last.

    The original's are kept for `strict=False`, although "20." also ends an answer at "in 2020.".
    """
    return [f"\n{n_total + 1}. Instruction:"] if strict else [f"\n{n_total}", f"{n_total}."]


def post_process_response(n, completion, strict=True, blacklist=ALPACA_WORDS, unicode=True):
    """(rows, rejected): the tasks in an answer to a prompt with `n` examples, in order.

    A row is a dict with "instruction", "input" and "output"; each other task is a `Rejected`. An
    answer that ended by "length" loses its last task, which is most likely cut.
    """
    parse = _strict if strict else _loose
    rows, rejected = [], []
    for task in parse(n, completion):
        if isinstance(task, dict):
            reason = reason_against(task["instruction"], blacklist, unicode)
            task = task if reason is None else Rejected(task["instruction"], reason)
        (rows if isinstance(task, dict) else rejected).append(task)
    return rows, rejected


def reason_against(instruction, blacklist=ALPACA_WORDS, unicode=True):
    """Why an instruction isn't wanted, or None: the originals' rules, in their order.

    With `unicode`, a Chinese or Japanese character counts as a word, and an instruction may begin
    with a letter of any script; on ASCII text it makes no difference.

    >>> reason_against("Draw a map."), reason_against("Explain what a mapping is.")
    ('too short', None)
    """
    n_words = len((_spaced(instruction) if unicode else instruction).split())
    if n_words < FEWEST or n_words > MOST:
        return "too short" if n_words < FEWEST else "too long"
    if any(re.search(rf"\b({word})\b", instruction, re.IGNORECASE) for word in blacklist):
        return "asks for what text can't do"
    if instruction.startswith("Write a program"):
        return "begins with Write a program"
    if instruction[0] in string.punctuation:
        return "begins with punctuation"
    if not unicode and not instruction[0].isascii():
        return "begins with no ASCII letter"
    return None


def _spaced(text):
    return re.sub("([\u3040-\u30ff\u3400-\u9fff])", r" \1 ", text)


# --- the two parsers ----------------------------------------------------------------------------
PARTS = ("Instruction", "Input", "Output")
_HEADER = re.compile(r"^[ \t]*(\d{1,9})\.[ \t]+(Instruction|Input|Output):", re.MULTILINE)
_SEPARATOR = re.compile(r"(\n|^)[ \t]*##+[ \t]*$")


def _loose(n, completion):
    """The original's: chunks between any two "###", numbers found anywhere."""
    chunks = f"{n + 1}. Instruction:{completion.text}".split("###")
    if completion.finish_reason == "length" and chunks.pop().strip():
        yield Rejected("", "cut off")
    for number, chunk in enumerate(chunks, start=n + 1):
        pieces = re.split(rf"{number}\.\s+(?:Instruction|Input|Output):", chunk)
        if len(pieces) == 4:
            yield _row(*pieces[1:])
        elif chunk.strip():
            yield Rejected(chunk.strip()[:200], "not in the form")


def _strict(n, completion):
    """Headers only at the start of a line; one number for a task, and the next for the next.

    A chat model may say the first header once more, although the prompt ended with it.
    """
    text = completion.text
    if not re.match(rf"[\s#]*{n + 1}\.[ \t]+Instruction:", text):
        text = f"{n + 1}. Instruction:{text}"
    headers = list(_HEADER.finditer(text))
    starts = [i for i, header in enumerate(headers) if header[2] == "Instruction"]
    ends = [*starts[1:], len(headers)]
    for start, end in zip(starts, ends, strict=True):
        follower = headers[end] if end < len(headers) else None
        stop = follower.start() if follower else len(text)
        parts = headers[start:end]
        fields = [
            text[part.end() : after].strip()
            for part, after in zip(parts, [*(p.start() for p in parts[1:]), stop], strict=True)
        ]
        fields[-1] = _SEPARATOR.sub("", fields[-1]).strip()
        problem = _problem(parts, fields, follower, completion.finish_reason)
        yield _row(*fields) if problem is None else Rejected(fields[0][:200], problem)


def _problem(parts, fields, follower, finish_reason):
    """Why a task isn't whole, or None."""
    numbers = {part[1] for part in parts}
    if follower is None and finish_reason == "length":
        return "cut off"
    if tuple(part[2] for part in parts) != PARTS or len(numbers) > 1:
        return "not in the form"
    if follower is not None and int(follower[1]) != int(parts[0][1]) + 1:
        return "not followed by the next number"  # so nobody knows where its output ends
    if not fields[2]:
        return "empty output"
    return None


def _row(instruction, text, output):
    text = text.strip()
    return {
        "instruction": instruction.strip(),
        "input": "" if text.lower() == NO_INPUT else text,
        "output": output.strip(),
    }
