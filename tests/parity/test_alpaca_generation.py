"""Alpaca's prompt, parser, filters and novelty test: `strict=False` keeps what the script keeps."""

import random

import pytest
from generation_oracles import ALPACA_WORDS, alpaca_tasks, is_novel, why_filtered

from ch07.generation.completion import Completion
from ch07.systems.synthetic_data.novelty_filter import NoveltyPool
from ch07.systems.synthetic_data.row_generators import SelfInstructSettings, generate_tasks
from ch07.systems.synthetic_data.self_instruct import (
    ALPACA_BLACKLIST,
    post_process_response,
    rejection_reason,
    stop_strings,
    tasks_prompt,
)

STARTS = [
    *["Name", "Tell me", "Explain", "Sort all", "Write a program", "write a program"],
    *["Draw", "- Say", "(Say", "Über"],
]
MIDDLES = [
    *["the sea", "a mapping", "maps_of", "some Go together", "the map", "no IMAGE", "go to"],
    *["a go  to", "music's"],
]
ENDS = ["of all", "in one word.", "file-name", "for video2", "é diagram", "now", "", "中文"]


def random_instruction(draw):
    words = [draw.choice(STARTS), draw.choice(MIDDLES), draw.choice(ENDS)]
    if draw.random() < 0.1:
        words += ["word"] * draw.choice([140, 145, 146, 147, 148, 160])
    return draw.choice([" ", " ", "\n"]).join(words).strip()


def test_the_filters_are_the_scripts_in_its_order():
    draw = random.Random(0)
    reasons = set()
    for _ in range(2000):
        instruction = random_instruction(draw)
        expected = why_filtered(instruction, ALPACA_WORDS)
        assert rejection_reason(instruction, unicode=False) == expected, instruction
        reasons.add(expected)
    assert len(reasons) == 7, "each of the six reasons, and none"
    assert sorted(ALPACA_BLACKLIST) == sorted(ALPACA_WORDS)


# --- the prompt -----------------------------------------------------------------------------------


def layout(examples):
    """The prompt after the requirements: seven lines per example, then the next header."""
    lines = []
    for number, example in enumerate(examples, start=1):
        words = example["instruction"].split()
        lines += ["###", f"{number}. Instruction: {' '.join(words).rstrip(':')}"]
        lines += [f"{number}. Input:", example["input"] or "<noinput>"]
        lines += [f"{number}. Output:", example["output"]]
    return "\n".join([*lines, "###", f"{len(examples) + 1}. Instruction:"])


def test_the_prompt_has_the_scripts_layout():
    draw = random.Random(1)
    odd = [
        "a  b",
        " x\n",
        "list::",
        "a :",
        "###",
        "",
        "<noinput>",
        "5. Input:\nno",
        "{n_total}",
        "é",
    ]
    for _ in range(300):
        examples = []
        for _ in range(draw.randrange(1, 6)):
            texts = [" ".join(draw.choices(odd, k=draw.randrange(3))) for _ in range(3)]
            examples.append(dict(zip(("instruction", "input", "output"), texts, strict=True)))
        requirements, newline, tasks = tasks_prompt(examples).partition("\n###\n")
        assert requirements.endswith("\n\nThe 20 tasks:")
        assert newline[1:] + tasks == layout(examples)


def test_the_stop_strings_are_the_scripts():
    assert set(stop_strings(20, strict=False)) == {"\n20", "20."}


# --- the parser -----------------------------------------------------------------------------------

HEADERS = ["{k}. Instruction:", "{k}. Input:", "{k}. Output:"]
ODD_HEADERS = [
    *["{k}.Input:", "{k}.\n Output:", "1{k}. Input:", "{k}0. Output:", "{k}. input:"],
    *["{k}.\u00a0Instruction:", "{k} . Input:", "{k}. Inputs:", "x{k}. Output:"],
]
SEPARATORS = ["###\n", "###", "\n###\n", "##\n", "####\n", "###\n###\n", ""]
FIELDS = [
    *["", "\n", "\n<noinput>\n", " <NoInput> ", "\n<noinput>.\n", "\n:\n", "\r\nx\r\n"],
    *["\nuse ### here\n", "\nIn 2020. Then\n", "\n20\n", "\nsee 5. Input: above\n"],
]


def random_task(draw, k):
    """A task, most often in the form, with number k."""
    headers = list(HEADERS)
    if draw.random() < 0.2:
        headers[draw.randrange(3)] = draw.choice(ODD_HEADERS)
    if draw.random() < 0.1:
        draw.shuffle(headers)
    if draw.random() < 0.1:
        headers.insert(draw.randrange(4), draw.choice(HEADERS))
    if draw.random() < 0.1:
        headers.pop()
    text = ""
    for i, header in enumerate(headers):
        field = f" {random_instruction(draw)}\n" if i == 0 else draw.choice(FIELDS)
        text += header.format(k=k) + field
    return text


def random_answer(draw, n_examples):
    text = ""
    number = n_examples + 1
    for _ in range(draw.randrange(5)):
        text += random_task(draw, number)
        text += draw.choice(SEPARATORS[:1] * 5 + SEPARATORS)
        number += draw.choice([1, 1, 1, 1, 1, 0, 2])
    return text.removeprefix(f"{n_examples + 1}. Instruction:")


def test_the_parser_finds_the_scripts_rows():
    draw = random.Random(2)
    n_rows = 0
    for _ in range(1500):
        n_examples = draw.choice([1, 3, 3, 9])
        text = random_answer(draw, n_examples)
        reason = draw.choice(["stop", "length"])
        tasks = list(alpaca_tasks(n_examples, text, reason))
        expected = [t for t in tasks if why_filtered(t["instruction"], ALPACA_WORDS) is None]
        rows, rejected = post_process_response(
            n_examples, Completion(text, reason), strict=False, unicode=False
        )
        assert rows == expected, text
        n_rows += len(rows)
        filtered = [why_filtered(t["instruction"], ALPACA_WORDS) for t in tasks]
        reasons = [r.reason for r in rejected if r.reason not in ("cut off", "not in the form")]
        assert reasons == [reason for reason in filtered if reason], text
    assert n_rows > 200


# --- the novelty test -----------------------------------------------------------------------------

SEEDS = [
    {"id": "one", "instruction": "a b c d e f g h i j", "input": "", "output": "x"},
    {"id": "two", "instruction": "Name three large cities of France.", "input": "", "output": "x"},
    {"id": "three", "instruction": "k l m n o p q", "input": "", "output": "x"},
]


@pytest.mark.parametrize(
    ("instruction", "new"),
    [
        ("a b c d e f g x y z", True),  # 0.7
        ("a b c d e f g h y z", False),  # 0.8
        ("k l m n o p q r s t u v w", False),  # 0.7000000000000001
        ("name THREE, large cities of... Spain", False),  # punctuation and case don't count
        ("j i h g f e d c b a", True),  # the order does
    ],
)
def test_a_task_is_new_up_to_a_score_of_0_7(instruction, new):
    known = [seed["instruction"] for seed in SEEDS]
    assert is_novel(instruction, known) == new
    assert [row["instruction"] for row in kept_rows([instruction])] == [instruction] * new


def test_a_request_keeps_what_the_script_keeps():
    """Each task is compared with the seeds and with all that were kept before it."""
    draw = random.Random(3)
    n_kept = n_similar = 0
    for _ in range(100):
        instructions = [random_letters(draw) for _ in range(draw.randrange(1, 9))]
        expected = []
        for instruction in instructions:
            if why_filtered(instruction, ALPACA_WORDS):
                continue
            if is_novel(instruction, [seed["instruction"] for seed in SEEDS] + expected):
                expected.append(instruction)
            else:
                n_similar += 1
        assert [row["instruction"] for row in kept_rows(instructions)] == expected
        n_kept += len(expected)
    assert min(n_kept, n_similar) > 50


def random_letters(draw):
    """Letters, most of them in the order of the alphabet, so that many texts are similar."""
    letters = sorted(draw.sample("abcdefghijkl", k=draw.choice([3, 7, 10, 10])))
    if draw.random() < 0.5:
        i, j = draw.sample(range(len(letters)), 2)
        letters[i], letters[j] = letters[j], letters[i]
    return " ".join(letters)


def kept_rows(instructions):
    """The rows that one request adds, if its answer holds these instructions."""
    tasks = [f"{k}. Instruction: {instruction}\n{k}. Input:\n<noinput>\n{k}. Output:\nx\n"
             for k, instruction in enumerate(instructions, start=4)]  # fmt: skip
    answer = "###\n".join(tasks).removeprefix("4. Instruction:")
    settings = SelfInstructSettings("stub", "", strict=False, unicode=False)
    rows, _ = generate_tasks(
        0,
        complete=lambda prompt, **options: Completion(answer),
        seeds=SEEDS,
        pool=NoveltyPool([seed["instruction"] for seed in SEEDS], unicode=False),
        settings=settings,
    )
    return rows
