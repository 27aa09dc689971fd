"""Self-Instruct and Alpaca: prompt, both parsers, filters, instances, the resumable file."""

import json
import random
from contextlib import suppress
from functools import partial

import pytest
from command_lines import with_options

from ch07.commands.cli import main
from ch07.data.entries import load_entries
from ch07.evaluation.metrics import rouge_l
from ch07.generation.completion import Completion, CompletionError, scripted
from ch07.systems.synthetic_data import self_instruct_stages as stages
from ch07.systems.synthetic_data.novelty_filter import NoveltyPool
from ch07.systems.synthetic_data.resumable_jsonl import (
    Limits,
    ResumableJsonl,
    count_reasons,
    grow_file,
)
from ch07.systems.synthetic_data.row_generators import (
    SelfInstructSettings,
    generate_tasks,
    load_seeds,
)
from ch07.systems.synthetic_data.self_instruct import (
    ALPACA_BLACKLIST,
    SELF_INSTRUCT_BLACKLIST,
    post_process_response,
    rejection_reason,
    stop_strings,
    tasks_prompt,
)
from ch07.utils.errors import DataError


@pytest.fixture(autouse=True)
def skip_fsync(monkeypatch):
    """Power failures are not tested here, and a hundred flushes take seconds."""
    monkeypatch.setattr("os.fsync", lambda handle: None)


def test_the_prompt_has_the_examples_and_the_next_header():
    examples = [
        {"instruction": " Add  the\nnumbers:: ", "input": "2 and 3", "output": "5"},
        {"instruction": "Name a colour:", "input": "", "output": "Red"},
        {"instruction": "Say: hello", "input": "in\nFrench:", "output": "Bonjour\n"},
    ]
    prompt = tasks_prompt(examples, n_total=7)
    requirements, numbered_tasks = prompt.split("###\n", 1)
    assert requirements.count("7") == 2 + 1 and "{" not in requirements  # one is a list number
    assert numbered_tasks == (
        "1. Instruction: Add the numbers\n1. Input:\n2 and 3\n1. Output:\n5\n"
        "###\n2. Instruction: Name a colour\n2. Input:\n<noinput>\n2. Output:\nRed\n"
        "###\n3. Instruction: Say: hello\n3. Input:\nin\nFrench:\n3. Output:\nBonjour\n\n"
        "###\n4. Instruction:"
    )
    with pytest.raises(ValueError, match="at least one example"):
        tasks_prompt([])


# --- the two parsers on the same answers -----------------------------------------------------

ONE, TWO = "Name a city in France", "Add these two numbers"
FOUR = f" {ONE}\n4. Input:\n<noinput>\n4. Output:\nLyon\n"
FIVE = f"5. Instruction: {TWO}\n5. Input:\n2, 3\n5. Output:\n5\n"
GOOD = [(ONE, "", "Lyon"), (TWO, "2, 3", "5")]
IN_FRONT = [(f"Here: {ONE}", "", "Lyon")]
MERGED = f"Lyon\n##\n{FIVE.strip()}"
CASES = {  # answer, finish reason, rows of the original parser, rows of the strict one
    "a good pair": (FOUR + "###\n" + FIVE, "stop", GOOD, GOOD),
    "cut by the limit": (FOUR + "###\n" + FIVE, "length", GOOD[:1], GOOD[:1]),
    "cut after a separator": (FOUR + "###\n", "length", GOOD[:1], []),
    "separator of two signs": (FOUR + "##\n" + FIVE, "stop", [(ONE, "", MERGED)], GOOD),
    "no separator": (FOUR + FIVE, "stop", [(ONE, "", "Lyon\n" + FIVE.strip())], GOOD),
    "heading in the output": (
        FOUR.replace("Lyon", "### Answer\nLyon") + "###\n" + FIVE,
        "stop",
        [(ONE, "", "")],
        [(ONE, "", "### Answer\nLyon"), GOOD[1]],
    ),
    "signs within a line": (
        FOUR.replace("Lyon", "Use ### here") + "###\n" + FIVE,
        "stop",
        [(ONE, "", "Use")],
        [(ONE, "", "Use ### here"), GOOD[1]],
    ),
    "a header within a line": (
        FOUR.replace("Lyon", "See 4. Input: above") + "###\n" + FIVE,
        "stop",
        GOOD[1:],
        [(ONE, "", "See 4. Input: above"), GOOD[1]],
    ),
    "another number": (
        FOUR.replace("4. Input", "14. Input").replace("4. Output", "14. Output"),
        "stop",
        [(f"{ONE}\n1", "<noinput>\n1", "Lyon")],
        [],
    ),
    "empty output": (FOUR.replace("Lyon", ""), "stop", [(ONE, "", "")], []),
    "any case of no input": (FOUR.replace("noinput", "NoInput"), "stop", GOOD[:1], GOOD[:1]),
    "a number left out": (
        FOUR + "###\n" + FIVE.replace("5.", "6."),
        "stop",
        GOOD[:1],
        [(TWO, "2, 3", "5")],
    ),
    "no output": (FOUR.replace("4. Output:\n", "") + "###\n" + FIVE, "stop", GOOD[1:], GOOD[1:]),
    "output before input": (
        f" {ONE}\n4. Output:\nLyon\n4. Input:\n<noinput>",
        "stop",
        [(ONE, "Lyon", "<noinput>")],
        [],
    ),
    "a task quoted in an output": (
        FOUR.replace("Lyon", "So:\n1. Instruction: sing\n2. Input: x") + "###\n" + FIVE,
        "stop",
        [(ONE, "", "So:\n1. Instruction: sing\n2. Input: x"), GOOD[1]],
        GOOD[1:],
    ),
    "the header said once more": ("\n###\n4. Instruction:" + FOUR, "stop", [], GOOD[:1]),
    "text in front": (" Here:" + FOUR, "stop", IN_FRONT, IN_FRONT),
    "nothing": ("", "stop", [], []),
    "nonsense": ("banana banana", "length", [], []),
}


@pytest.mark.parametrize("name", CASES)
def test_both_parsers_on_well_and_badly_formed_answers(name):
    text, reason, original, ours = CASES[name]
    for strict, expected in ((False, original), (True, ours)):
        rows, rejected = post_process_response(3, Completion(text, reason), strict, unicode=False)
        assert [tuple(row.values()) for row in rows] == expected, strict
        assert rows or rejected or (not strict and not text.strip()), (
            "nothing is dropped without a reason"
        )


def test_only_the_originals_stop_string_cuts_an_answer_at_a_year():
    output = "It opened in 2020. Then it closed."
    complete = scripted(lambda prompt: FOUR.replace("Lyon", output))
    for strict, expected in ((False, "It opened in 20"), (True, output)):
        answer = complete("?", stop=stop_strings(20, strict))
        rows, _ = post_process_response(3, answer, strict)
        assert answer.finish_reason == "stop" and rows[0]["output"] == expected


LONG = "word " * 149 + "end"


@pytest.mark.parametrize(
    ("instruction", "reason"),
    [
        ("Name a city", "too short"),
        ("Name a French city", None),
        (LONG, None),
        (LONG + " more", "too long"),
        ("Describe the image below please", "asks for what text can't do"),
        ("Describe what MAPS are for", "asks for what text can't do"),
        ("Say where to go to on Sunday", "asks for what text can't do"),
        ("Explain what a mapping is", None),
        ("Write a profile of the drawer", None),
        ("Explain how to Go Together now", None),
        ("Write a program that adds numbers", "begins with Write a program"),
        ("write a program that adds numbers", None),
        ("Please Write a program for me", None),
        ("- Name a French city", "begins with punctuation"),
        ("Übersetze den Satz ins Englische", "begins with no ASCII letter"),
        ("Name a city, in 中文 please", None),
    ],
)
def test_filters_reject_what_the_originals_reject(instruction, reason):
    for blacklist in (ALPACA_BLACKLIST, SELF_INSTRUCT_BLACKLIST):
        assert rejection_reason(instruction, blacklist, unicode=False) == reason
    ours = None if reason == "begins with no ASCII letter" else reason
    assert rejection_reason(instruction) == ours


def test_the_two_blacklists_differ_by_five_words():
    alpaca_only = ["video", "audio", "music", "flowchart", "diagram"]
    for word in [*SELF_INSTRUCT_BLACKLIST, *alpaca_only]:
        text = f"Tell me about the {word.title()}, please"
        assert rejection_reason(text, ALPACA_BLACKLIST) == "asks for what text can't do"
        assert (rejection_reason(text, SELF_INSTRUCT_BLACKLIST) is None) == (word in alpaca_only)


def test_chinese_instructions_pass_only_with_unicode():
    assert rejection_reason("写一首关于春天的诗。") is None
    assert rejection_reason("写诗") == "too short"
    assert rejection_reason("写一首关于春天的诗。", unicode=False) == "too short"


# --- the original's instances -------------------------------------------------------------------


SEVEN = "".join(f"Example {i}\nOutput: {'abcdefg'[i]}\n" for i in range(7))


@pytest.mark.parametrize(
    ("text", "reason", "pairs"),
    [
        ("Example 1\nx\nOutput: a\nExample 2\nx\nOutput: b\nExample 3\ny\nOutput: c", "stop", []),
        ("Example 1\nOutput: a\nExample 2\nOutput: b", "stop", [("", "a"), ("", "b")]),
        (
            "Example 1\nx:\nOutput: a\nExample 2\ny\nOutput: b:\nExample 3\nz\nOutput: c",
            "stop",
            [("z", "c")],
        ),
        ("Example 1\nx\nOutput: a\nExample 2\ny\nOutput: b", "length", [("x", "a")]),
        (SEVEN, "stop", [("", letter) for letter in "abcdefg"]),
        ("Example 1\nsame\nOutput: same\nExample 2\nx\nOutput:", "stop", []),
        ("Example 1\nx\nOutput: a\nExample 2\nx\nOutput: a", "stop", [("x", "a")]),
        ("Input: x\nOutput 1 : a\nInput: y", "stop", [("x", "a")]),
        ("Example 1\njust this", "stop", [("", "just this")]),
        ("just this", "stop", []),
    ],
)
def test_contradictory_and_incomplete_instances_are_dropped(text, reason, pairs):
    assert stages.parse_instances(Completion(text, reason)) == pairs


def test_labelled_instances_have_their_label_first():
    text = "Class label: good\nI like it.\nTruly.\nClass label: bad\nNo.\nClass label:"
    expected = [("I like it.\nTruly.", "good"), ("No.", "bad")]
    assert stages.parse_labelled_instances(Completion(text)) == expected
    assert stages.parse_labelled_instances(Completion(text, "length")) == expected
    assert stages.parse_labelled_instances(Completion("good")) == []
    assert [stages.is_classification(Completion(t)) for t in (" yes\n", "YES", "yEs", "")] == [
        True,
        True,
        False,
        False,
    ]


def test_a_list_of_instructions_is_split_at_its_numbers():
    text = " Name a city\n10 . Use the API  in 2016.\n\n11. "
    assert stages.parse_instructions(Completion(text)) == ["Name a city", "Use the API in 2016."]
    lower_cased = ["Name a city", "Use the api in 2016."]
    assert stages.parse_instructions(Completion(text), original=True) == lower_cased
    assert stages.parse_instructions(Completion(text, "length")) == []


# --- the resumable file --------------------------------------------------------------------------

SEEDS, SHA256 = load_seeds()
SETTINGS = SelfInstructSettings("stub", SHA256, seed=5)


def numbered(*tasks):
    """An answer in the expected format, from the fourth task on."""
    parts = [
        f"{k}. Instruction: {instruction}\n{k}. Input:\n<noinput>\n{k}. Output:\n{output}\n"
        for k, (instruction, output) in enumerate(tasks, start=4)
    ]
    return "###\n".join(parts).removeprefix("4. Instruction:")


def test_new_rows_are_kept_and_others_are_rejected_with_a_reason(tmp_path):
    seeds = [*SEEDS]
    seeds[0] = {**seeds[0], "instruction": "Name three large cities in the north of France now"}
    answer = numbered(
        ("Explain why the sea is salty", "Rivers carry salt."),
        ("Name three large cities in the south of France now", "Nice"),  # 9 of 10 words
        ("Draw a circle with a ruler", "o"),
        ("List four rivers of Asia", "Indus"),
        ("Say something that is never", ""),
    )
    file = ResumableJsonl(tmp_path / "new.jsonl", SETTINGS)
    complete = scripted([Completion(answer, "length")])
    assert grow_file(file, request_maker(file, complete, seeds), Limits(2)) is None
    assert [row["instruction"] for row in file.rows] == [
        "Explain why the sea is salty",
        "List four rivers of Asia",
    ]
    assert count_reasons(file.requests) == {
        "asks for what text can't do": 1,
        "cut off": 1,
        "too near to another": 1,
    }
    (near,) = (r for r in file.requests[0]["rejected"] if "nearest" in r)
    assert near["nearest"] == seeds[0]["instruction"] and near["score"] == pytest.approx(0.9)
    for row in file.rows:
        assert (row["backend"], row["request"], len(row["seeds"])) == ("stub", 0, 3)
        assert row["score"] == rouge_l(row["instruction"], row["nearest"]) <= 0.7
    assert set(file.rows[0]["seeds"]) <= {seed["id"] for seed in seeds}
    assert len(load_entries(tmp_path / "new.jsonl")) == 2, "the file is valid training data"


def test_a_score_of_exactly_0_7_is_still_new(tmp_path):
    seeds = [{**seed, "instruction": "a b c d e f g h i j"} for seed in SEEDS]
    for last, kept in (("x y z", 1), ("h y z", 0)):
        file = ResumableJsonl(tmp_path / f"{last}.jsonl", SETTINGS)
        complete = scripted([numbered((f"a b c d e f g {last}", "x"))])
        grow_file(file, request_maker(file, complete, seeds), Limits(1, patience=1))
        assert len(file.rows) == kept
        assert [row["score"] for row in file.rows] == [0.7] * kept


def request_maker(file, complete, seeds=SEEDS):
    """The function that makes the next request for a file."""
    pool = NoveltyPool([row["instruction"] for row in [*seeds, *file.rows]], file.settings.unicode)
    return partial(
        generate_tasks, complete=complete, seeds=seeds, pool=pool, settings=file.settings
    )


WORDS = "apple bridge cloud dance engine forest".split()


def random_answer(prompt):
    """A model whose answer depends on the prompt alone; some of its tasks are duplicates."""
    draw = random.Random(prompt)
    return numbered(*((" ".join(draw.sample(WORDS, k=5)), "é" * draw.randrange(4)) for _ in "abc"))


def run(path, number, stop_after=10**6):
    """Make up to `number` rows, but fail after `stop_after` requests; returns the file."""
    file = ResumableJsonl(path, SETTINGS)
    remaining = iter(range(stop_after))

    def complete(prompt, **options):
        if next(remaining, None) is None:
            raise CompletionError("stopped")
        return scripted(random_answer)(prompt, **options)

    with suppress(CompletionError):
        grow_file(file, request_maker(file, complete), Limits(number))
    return file


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture(scope="module")
def complete_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("complete")
    file = run(folder / "new.jsonl", 12)
    assert len(file.rows) >= 12 and count_reasons(file.requests)["too near to another"] > 0
    return folder


def test_a_run_stopped_after_any_request_resumes_to_the_same_file(tmp_path, complete_folder):
    n = len(ResumableJsonl(complete_folder / "new.jsonl", SETTINGS).requests)
    for k in range(n):
        path = tmp_path / str(k) / "new.jsonl"
        path.parent.mkdir()
        run(path, 12, stop_after=k)
        run(path, 12)
        assert contents(path.parent) == contents(complete_folder), k


ROW_OF_REQUEST = b'{"instruction": "my own precious row", "output": "kept?", "request": %d}\n'


def test_rows_of_an_unlogged_request_are_generated_again(tmp_path, complete_folder):
    """A crash between writing rows and their request leaves such rows."""
    for name, data in contents(complete_folder).items():
        (tmp_path / name).write_bytes(data)
    n = len(ResumableJsonl(tmp_path / "new.jsonl", SETTINGS).requests)
    with open(tmp_path / "new.jsonl", "ab") as file:
        file.write(ROW_OF_REQUEST % n)
    run(tmp_path / "new.jsonl", 12)
    assert contents(complete_folder)["new.jsonl"] in contents(tmp_path)["new.jsonl"]


def test_a_lone_surrogate_survives_as_a_json_escape(tmp_path):
    file = ResumableJsonl(tmp_path / "new.jsonl", SETTINGS)
    row = {"instruction": "Name it.", "request": 0, "id": "\ud83d"}
    file.append([row], {"request": 0, "accepted": 1, "rejected": []})
    assert ResumableJsonl(tmp_path / "new.jsonl", SETTINGS).rows == [row]


def _cuts(data):
    """Cut positions: after the first byte, before the last, and some between."""
    return range(1, len(data), max(1, (len(data) - 2) // 3)) if data else [0]


def test_a_run_killed_at_any_byte_resumes_to_the_same_file(tmp_path, complete_folder):
    """Rows are written before their request: a crash leaves a prefix of one of the two."""
    rows, log = (contents(complete_folder)[name] for name in ("new.jsonl", "new.requests.jsonl"))
    n_rows, states = 0, [(b"", log[: log.index(b"\n") // 2])]
    lines = log.splitlines(keepends=True)
    ends = [0, *(i + 1 for i, byte in enumerate(rows) if byte == ord("\n"))]
    for k, line in enumerate(lines[1:], start=1):
        before, n_more = b"".join(lines[:k]), json.loads(line)["accepted"]
        part = rows[ends[n_rows] : ends[n_rows + n_more]]
        n_rows += n_more
        states += [(rows[: ends[n_rows - n_more] + cut], before) for cut in _cuts(part)]
        states += [(rows[: ends[n_rows]], before + line[:cut]) for cut in _cuts(line)]
    for some in states:
        for name, data in zip(("new.jsonl", "new.requests.jsonl"), some, strict=True):
            (tmp_path / name).write_bytes(data)
        run(tmp_path / "new.jsonl", 12)
        assert contents(tmp_path) == contents(complete_folder)


def test_a_smaller_file_is_a_prefix_of_a_larger_one(tmp_path, complete_folder):
    run(tmp_path / "new.jsonl", 4)
    for name, data in contents(tmp_path).items():
        assert contents(complete_folder)[name].startswith(data) and len(data) < len(
            contents(complete_folder)[name]
        )
    run(tmp_path / "new.jsonl", 12)
    assert contents(tmp_path) == contents(complete_folder)


def test_it_makes_no_more_requests_than_allowed_those_before_a_resume_included(tmp_path):
    """What was paid for before an interruption counts."""
    prompts = []
    for allowed in (2, 2, 5):
        file = ResumableJsonl(tmp_path / "new.jsonl", SETTINGS)
        complete = scripted(lambda prompt: prompts.append(prompt) or "banana")
        limits = Limits(5, patience=9, max_requests=allowed)
        given_up = grow_file(file, request_maker(file, complete), limits)
        assert given_up == f"{allowed} requests made, as --max-requests allows"
        assert len(prompts) == len(file.requests) == allowed


def test_it_gives_up_after_fruitless_requests_and_asks_no_more(tmp_path):
    prompts = []
    for _ in range(2):
        file = ResumableJsonl(tmp_path / "new.jsonl", SETTINGS)
        complete = scripted(lambda prompt: prompts.append(prompt) or "banana")
        given_up = grow_file(file, request_maker(file, complete), Limits(5, patience=3))
        assert given_up == "the last 3 requests gave no new row"
    assert len(prompts) == 3 and count_reasons(file.requests) == {"not in the form": 3}


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("new.jsonl", lambda data: data.split(b"\n", 1)[1], "was changed since"),
        ("new.jsonl", lambda data: b"{}\n" + data, "was not written by this command"),
        ("new.jsonl", lambda data: b"[\n" + data, "a line that is not JSON"),
        ("new.jsonl", lambda data: b"\xff\n" + data, "a line that is not JSON"),
        ("new.jsonl", lambda data: data + b'{"mine": 1}', "ends in a line that this command"),
        ("new.jsonl", lambda data: data + b"[1, 2", "ends in a line that this command"),
        ("new.jsonl", lambda data: data + ROW_OF_REQUEST % 77, "was changed since"),
        ("new.jsonl", lambda data: data.replace(b'"instruction"', b'"x"'), "was not written by"),
        ("new.jsonl", lambda data: data.replace(b'"request": 0', b'"request": "0"'), "was not wri"),
        ("new.requests.jsonl", lambda data: data.rsplit(b"\n", 3)[0] + b"\n", "was changed since"),
        ("new.requests.jsonl", lambda data: data.replace(b'"rejected"', b'"r"'), "was not written"),
        ("new.requests.jsonl", lambda data: data.replace(b'"accepted"', b'"a"'), "was not written"),
        ("new.requests.jsonl", lambda data: data.replace(b'"reason"', b'"r"'), "was not written"),
        ("new.requests.jsonl", lambda data: b"", "already exists, without new"),
        ("new.requests.jsonl", lambda data: b"1\n", "was started by another command"),
        ("new.requests.jsonl", lambda data: data.replace(b'"seed": 5', b'"seed": 6'), "seed 6"),
    ],
)
def test_a_changed_file_is_refused_and_left_alone(tmp_path, complete_folder, name, change, message):
    for other, data in contents(complete_folder).items():
        (tmp_path / other).write_bytes(change(data) if other == name else data)
    before = contents(tmp_path)
    with pytest.raises(DataError, match=message):
        run(tmp_path / "new.jsonl", 20)
    assert contents(tmp_path) == before


@pytest.mark.parametrize("name", ["new.jsonl", "new.requests.jsonl"])
@pytest.mark.parametrize("data", [b"[1, 2]", b'{"instruction": "mine"}', b"x\n", b"1\n2"])
def test_a_file_of_another_origin_is_left_alone(tmp_path, name, data):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(DataError, match=r"choose another"):
        run(tmp_path / "new.jsonl", 3)
    assert contents(tmp_path) == {name: data}


def test_the_seed_tasks_are_diverse_and_pass_every_filter():
    seeds = SEEDS
    assert len(seeds) >= 30 and len({seed["family"] for seed in seeds}) >= 30
    assert sum(seed["input"] == "" for seed in seeds) >= 5
    pool = NoveltyPool()
    for seed in seeds:
        assert rejection_reason(seed["instruction"], unicode=False) is None
        assert pool.nearest(seed["instruction"])[1] <= 0.7
        pool.add(seed["instruction"])
    assert len({seed["id"] for seed in seeds}) == len(seeds)


# --- the command --------------------------------------------------------------------------------


def script(tmp_path, *answers):
    path = tmp_path / "script.json"
    path.write_text(json.dumps(answers), encoding="utf-8")
    return ["self-instruct", "--backend", f"scripted:{path}", "--out", str(tmp_path / "new.jsonl")]


FIRST_ANSWER = numbered(("Explain why the sea is salty", "Rivers."), ("Draw a circle with it", "o"))
SECOND_ANSWER = numbered(
    ("Explain why the sea is so salty", "x"), ("List four rivers of Asia", "Indus")
)


def test_the_command_reports_and_resumes(tmp_path, capsys):
    command = script(tmp_path, FIRST_ANSWER, SECOND_ANSWER)
    assert main([*command, "--number", "1"]) == 0
    assert "1 request: 1 row kept, 1 rejected" in capsys.readouterr().out
    assert main([*command, "--number", "2"]) == 0, "the script's second answer"
    captured = capsys.readouterr()
    assert "2 requests: 2 rows kept, 2 rejected" in captured.out and "1 of 2 rows" in captured.err
    assert "too near (0.92): Explain why the sea is so salty" in captured.out
    assert main([*command, "--number", "3"]) == 1
    captured = capsys.readouterr()
    assert (
        "the script has no more answers" in captured.err
        and "has 2 rows: the same command" in captured.err
    )
    assert main([*command, "--number", "2", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "rows": 2,
        "wanted": 2,
        "requests": 2,
        "enough": True,
        "rejected": {"asks for what text can't do": 1, "too near to another": 1},
    }


def test_the_command_says_why_it_gave_up(tmp_path, capsys):
    command = script(tmp_path, *["banana \x1b[31m"] * 9)
    assert main([*command, "--patience", "2"]) == 1
    captured = capsys.readouterr()
    assert "2  not in the form" in captured.out and "Given up: the last 2 requests" in captured.out
    assert "\x1b" not in captured.out + captured.err


def test_a_number_of_thousands_of_digits_is_not_a_header(tmp_path, capsys):
    big = numbered(("Explain why the sea is salty", "Rivers.")) + "\n" + "9" * 5000
    command = script(tmp_path, big + ". Instruction: foo", FIRST_ANSWER)
    assert main([*command, "--number", "1"]) == 0


def test_dropped_seeds_are_reported(tmp_path, capsys):
    seeds = [{**seed, "output": seed["output"] or "x"} for seed in SEEDS[:4]]
    path = tmp_path / "seeds.json"
    path.write_text(json.dumps([*seeds, {**seeds[0], "output": ""}]), encoding="utf-8")
    main([*script(tmp_path, FIRST_ANSWER), "--number", "1", "--seeds", str(path)])
    assert "seeds: " in capsys.readouterr().err


def test_an_unwritable_file_is_found_before_any_request(tmp_path, capsys, monkeypatch):
    command = script(tmp_path, FIRST_ANSWER, SECOND_ANSWER)
    assert main([*command, "--number", "1"]) == 0
    monkeypatch.setattr("os.access", lambda path, right: not str(path).endswith("new.jsonl"))
    assert main([*command, "--number", "2"]) == 1
    error_text = capsys.readouterr().err
    assert "can't be written to" in error_text and "request 2" not in error_text


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--out", "nowhere/x.jsonl"], 2, "a folder that exists"),
        (["--out", "."], 2, "can't be written"),
        (["--backend", ""], 2, "the backend is empty"),
        (["--backend", "scripted:"], 2, "the backend is empty"),
        (["--backend", "nowhere"], 1, "not a run folder"),
        (["--backend", "scripted:nowhere"], 1, "nowhere: No such file"),
        (["--backend", "http://example.org", "--model", "m"], 2, "over http"),
        (["--backend", "https://me:secret@example.org", "--model", "m"], 2, "a password"),
        (["--backend", "https://example.org"], 2, "needs --model"),
        (["--seeds", "nowhere.json"], 1, "nowhere.json: No such file"),
        (["--seeds", "two.json"], 1, "1 tasks, but a prompt needs 3"),
    ],
)
def test_bad_arguments_give_one_line_and_no_file(
    tmp_path, capsys, monkeypatch, arguments, code, message
):
    command = script(tmp_path, "x")
    monkeypatch.chdir(tmp_path)
    row = {"instruction": "x", "output": "y"}
    (tmp_path / "two.json").write_text(json.dumps([row]), encoding="utf-8")
    assert main(with_options(command, *arguments)) == code
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: ") and message in error and "secret" not in error
    assert not (tmp_path / "new.jsonl").exists()
