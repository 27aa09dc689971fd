"""Self-Instruct in stages: prompts, parsers, filters and a whole run give what the scripts give."""

import random

import pytest
from generation_oracles import (
    SELF_INSTRUCT_WORDS,
    classification_instances,
    generation_instances,
    is_novel,
    listed_instructions,
    why_filtered,
)

from ch07.generation.completion import Completion, finished_completion
from ch07.systems.synthetic_data import self_instruct_stages as stages
from ch07.systems.synthetic_data.novelty_filter import NoveltyPool
from ch07.systems.synthetic_data.self_instruct import SELF_INSTRUCT_BLACKLIST, rejection_reason
from ch07.systems.synthetic_data.staged_row_generator import (
    StagesSettings,
    generate_tasks_in_stages,
)

STOP = ["\n\n", "\n16", "16.", "16 ."]  # in bootstrap_instructions.py
LIST_NUMBERS = [
    *["\n10. ", "\n11 . ", "\n9.  ", "\n12\n. ", "\n\u0661\u0662. "],
    *["\n10.", "\n 10. ", "\n10  . ", "10. ", "\n. ", "\n1a. ", "\n3) "],
]
PLAIN = "tell me why rain falls so hard on hills in spring and say how snow is made".split()
WORDS = [
    *PLAIN,
    *["name", "TELL me", "the sea", "in Peru", "ask NASA", "write a program", "Write A Program"],
    *["draw", "a map", "mapping", "go to", "music", "- say", "(x)", "Über", "ǆ", "ßa", "ΑΣ"],
    *["in 2016.", "16", "16 . then", "now:", "word " * 150, "", " ", "\n", "\t", "\u2003"],
]


def random_list(draw):
    """An answer to a list of instructions; most of it is in the form."""
    text = ""
    for _ in range(draw.randrange(6)):
        text += " ".join(draw.choices(WORDS, k=draw.randrange(1, 8)))
        text += draw.choice(LIST_NUMBERS[:2] * 4 + LIST_NUMBERS)
    return text


def original_instructions(text, finish_reason):
    """What the script's `post_process_gpt3_response` returns."""
    listed = listed_instructions(text, finish_reason)
    return [one for one in listed if why_filtered(one, SELF_INSTRUCT_WORDS) is None]


# --- stage 1 --------------------------------------------------------------------------------------


def test_the_list_in_a_prompt_has_the_scripts_layout():
    draw = random.Random(0)
    for _ in range(300):
        examples = [" ".join(draw.choices(WORDS, k=3)) for _ in range(draw.randrange(1, 9))]
        header, *lines = stages.instructions_prompt(examples).split("\n")
        expected = []
        for number, example in enumerate(examples, start=1):
            expected.append(f"{number}. {' '.join(example.split()).rstrip(':')}")
        assert lines == [*expected, f"{len(examples) + 1}."] and header.endswith(":")


def test_the_instructions_of_a_list_are_the_scripts():
    draw = random.Random(1)
    n_kept = 0
    for _ in range(1500):
        text = random_list(draw)
        reason = draw.choice(["stop", "stop", "stop", "length"])
        parsed = stages.parse_instructions(Completion(text, reason), original=True)
        assert parsed == listed_instructions(text, reason), text
        kept = [i for i in parsed if not rejection_reason(i, SELF_INSTRUCT_BLACKLIST, False)]
        assert kept == original_instructions(text, reason), text
        n_kept += len(kept)
    assert n_kept > 500


def test_the_filters_are_the_scripts_in_its_order():
    draw = random.Random(2)
    reasons = set()
    for _ in range(2000):
        instruction = " ".join(draw.choices(WORDS, k=draw.randrange(2, 8))).strip().capitalize()
        expected = why_filtered(instruction, SELF_INSTRUCT_WORDS)
        assert rejection_reason(instruction, SELF_INSTRUCT_BLACKLIST, False) == expected
        reasons.add(expected)
    assert len(reasons) == 7, "each of the six reasons, and none"
    assert sorted(SELF_INSTRUCT_BLACKLIST) == sorted(SELF_INSTRUCT_WORDS)


def test_the_stop_strings_are_the_scripts():
    assert stages.instructions_stop(original=True) == STOP
    assert stages.CLASSIFICATION_STOP == ["\n", "Task"]
    assert stages.INSTANCES_STOP == ["Example 6", "Task:"]


# --- stage 2 --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "yes"),
    [
        *[("Yes", True), (" yes", True), ("YES\t", True), ("\n Yes \n", True)],
        *[("yEs", False), ("Yes.", False), ("Yes, it is", False), ("No", False), ("", False)],
    ],
)
def test_three_spellings_of_yes_are_accepted(answer, yes):
    assert stages.is_classification(Completion(answer)) == yes


# --- stages 3 and 4 -------------------------------------------------------------------------------

LETTERS = "abcdefghijklmnopqrstuvwxyz"
PIECES = [
    *["Example 1\n", "Example 2.", "Example", "Example\n3", "Examples ", "example 4\n"],
    *["Output:", "Output 1 :", "Output\n2:", "output:", "Outputs:", "Output 1 2:"],
    *[
        "Input:",
        "Input 2:",
        "Input\t:",
        "Inputs:",
        "x",
        "x",
        "y",
        "y:",
        "a\nb",
        "",
        " ",
        "\n",
        "\n",
    ],
]
LABEL_PIECES = ["Class label:", "Class label:", "class label:", " good\n", "bad", "\n", "x\n", "x",
                "Text: it is\n", ":", "\r\n", " "]  # fmt: skip


@pytest.mark.parametrize(
    ("pieces", "parse", "expected_of"),
    [
        (PIECES, stages.parse_instances, generation_instances),
        (LABEL_PIECES, stages.parse_labelled_instances, classification_instances),
    ],
    ids=["generation", "classification"],
)
def test_the_instances_of_random_answers_are_the_scripts(pieces, parse, expected_of):
    draw = random.Random(3)
    n_found = 0
    for _ in range(3000):
        text = "".join(draw.choices(pieces, k=draw.randrange(1, 16)))
        reason = draw.choice(["stop", "stop", "length"])
        assert parse(Completion(text, reason)) == expected_of(text, reason), text
        n_found += len(expected_of(text, reason))
    assert n_found > 1000


def test_the_instances_of_well_formed_answers_are_the_scripts():
    draw = random.Random(4)
    sizes = set()
    for _ in range(500):
        pairs = [(draw.choice(LETTERS), draw.choice("xy")) for _ in range(draw.randrange(8))]
        examples = [f"Example {i}\nText: {x}\nOutput: {y}\n" for i, (x, y) in enumerate(pairs)]
        labelled = [f"Class label: {y}\nText: {x}\n" for x, y in pairs]
        outputs = {text: {y for x, y in pairs if x == text} for text, _ in pairs}
        contradictory = any(len(some) > 1 for some in outputs.values())
        expected = [] if contradictory else [(f"Text: {x}", y) for x, y in dict.fromkeys(pairs)]
        assert stages.parse_instances(Completion("".join(examples))) == expected
        assert stages.parse_labelled_instances(Completion("".join(labelled))) == expected
        assert generation_instances("".join(examples), "stop") == expected
        assert classification_instances("".join(labelled), "stop") == expected
        sizes.add(len(expected))
    assert sizes == set(range(8))


# --- a whole run ----------------------------------------------------------------------------------

SEEDS = [f"Seed task {name} in two or three words" for name in "abcdefghijkl"]


def instances_text(instruction):
    """A random answer to the request for instances; labels for some, nothing usable for others."""
    draw = random.Random(instruction)
    form = draw.choice(["Example {}\nOutput: {}\n", "Class label: {1}\nText {0}.\n", "{1}"])
    return "".join(form.format(i, draw.choice("abc")) for i in range(draw.randrange(9)))


def is_labelled(instruction):
    return instances_text(instruction).startswith("Class")


class Writer:
    """A model that answers each stage's prompts; it remembers what it was asked."""

    def __init__(self, lists):
        self.lists = lists  # (text, finish reason) of each answer to stage 1
        self.shown = []

    def __call__(self, prompt, stop, **options):
        if prompt.endswith("\n9."):
            self.shown.append([line.split(". ", 1)[1] for line in prompt.split("\n")[1:-1]])
            return finished_completion(*self.lists[len(self.shown) - 1], stop)
        instruction = prompt.rsplit("Task: ", 1)[1].split("\n", 1)[0]
        if prompt.endswith("Classification:"):
            return Completion("Yes" if is_labelled(instruction) else "No")
        return Completion(instances_text(instruction))


def original_run(lists):
    """What bootstrap_instructions.py accepts, per answer; texts are cut at its stop strings."""
    accepted = []
    known = list(SEEDS)
    for text, reason in lists:
        cuts = [text.index(stop) for stop in STOP if stop in text]
        if cuts:
            text, reason = text[: min(cuts)], "stop"
        new = []
        for instruction in original_instructions(text, reason):
            if is_novel(instruction, known):
                new.append(instruction)
                known.append(instruction)
        accepted.append(new)
    return accepted


def run(lists, **settings):
    """(the prompts' lists, the rows, the log) of one request per answer to stage 1."""
    writer = Writer(lists)
    pool = NoveltyPool(SEEDS, unicode=False)
    rows = []
    requests = []
    for k in range(len(lists)):
        new_rows, request = generate_tasks_in_stages(
            k,
            complete=writer,
            seeds=[{"instruction": seed} for seed in SEEDS],
            pool=pool,
            requests=requests,
            settings=StagesSettings("stub", "", unicode=False, **settings),
        )
        rows += new_rows
        requests.append(request)
    return writer.shown, rows, requests


@pytest.fixture(scope="module")
def lists():
    draw = random.Random(5)
    return [(random_list(draw), draw.choice(["stop"] * 5 + ["length"])) for _ in range(200)]


def test_a_run_accepts_the_instructions_that_the_script_accepts(lists):
    _, rows, requests = run(lists, original=True)
    expected = original_run(lists)
    assert [request["new_instructions"] for request in requests] == expected
    accepted = [instruction for new in expected for instruction in new]
    assert len(accepted) > 50
    instances = {instruction: [] for instruction in accepted}
    for row in rows:
        instances[row["instruction"]].append((row["input"], row["output"]))
    for instruction, found in instances.items():
        parse = classification_instances if is_labelled(instruction) else generation_instances
        usable = parse(instances_text(instruction), "stop")
        assert len(found) == min(5, len(usable)) and set(found) <= set(usable)
    assert {len(found) for found in instances.values()} >= {0, 1, 5}


def test_each_prompt_shows_two_machine_instructions_at_most(lists):
    """As many as there are of those accepted before, whether or not they have a row."""
    shown, rows, requests = run(lists, original=True)
    with_row = {row["instruction"].rstrip(":") for row in rows}
    machine = []
    seen = set()
    for examples, request in zip(shown, requests, strict=True):
        of_machine = [one for one in examples if one not in SEEDS]
        assert len(set(examples)) == len(examples) == 8
        assert set(of_machine) <= set(machine) and len(of_machine) == min(2, len(machine))
        machine += [one.rstrip(":") for one in request["new_instructions"]]
        seen |= set(of_machine)
    assert seen & with_row and seen - with_row


def test_without_a_year_only_the_spelling_differs_by_default(lists):
    """The filters decide alike, and ROUGE ignores case; names keep their capital letters."""
    without_year = [(text.replace("16", "15"), reason) for text, reason in lists]
    _, _, original = run(without_year, original=True)
    _, _, ours = run(without_year)
    for one, two in zip(original, ours, strict=True):
        assert one["new_instructions"] == [i.capitalize() for i in two["new_instructions"]]
    kept = [instruction for request in ours for instruction in request["new_instructions"]]
    assert any("NASA" in instruction for instruction in kept)
    assert not any(instruction.lower().startswith("write a program") for instruction in kept)
