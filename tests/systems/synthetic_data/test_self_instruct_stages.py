"""Self-Instruct in stages: instructions, classification, instances; resuming."""

import json
import random

import pytest

from ch07.commands.cli import main
from ch07.data.entries import load_entries
from ch07.generation.completion import Completion, PromptRejected, PromptTooLong, scripted
from ch07.systems.synthetic_data import self_instruct_stages as stages
from ch07.systems.synthetic_data.row_generators import load_seeds
from ch07.systems.synthetic_data.self_instruct import SELF_INSTRUCT_BLACKLIST, rejection_reason

INSTRUCTIONS = """ Explain why the sea is salty.
10. Draw a circle with a ruler.
11. Is the message angry, sad or happy?
12. Explain why the sea is so salty.
13. Tell a joke about a cat that sings."""
SALTY = "Example 1\nOutput: Rivers carry salt into it.\n"
MOODS = "Class label: sad\nMy dog is gone.\nClass label: happy\nThe sun is out!\n"
FIRST_REQUEST = [INSTRUCTIONS, " No", SALTY, " Yes", MOODS, " No", "nothing of the kind"]
SECOND_REQUEST = [" Name three rivers of Asia.", "No", "Example 1\nOutput: Indus, Ganges, Mekong\n"]
ANSWERS = FIRST_REQUEST + SECOND_REQUEST


@pytest.fixture(autouse=True)
def skip_fsync(monkeypatch):
    monkeypatch.setattr("os.fsync", lambda handle: None)


def command(tmp_path, *arguments, answers=ANSWERS, out=None):
    path = tmp_path / "script.json"
    path.write_text(json.dumps(list(answers)), encoding="utf-8")
    out = str(out or tmp_path / "new.jsonl")
    return ["self-instruct", "--stages", "--backend", f"scripted:{path}", "--out", out, *arguments]


def lines(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_each_instruction_gets_its_kind_and_its_instances(tmp_path, capsys):
    assert main(command(tmp_path, "--number", "3")) == 0
    rows = lines(tmp_path / "new.jsonl")
    assert [(r["instruction"], r["input"], r["output"], r["classification"]) for r in rows] == [
        ("Explain why the sea is salty.", "", "Rivers carry salt into it.", False),
        ("Is the message angry, sad or happy?", "My dog is gone.", "sad", True),
        ("Is the message angry, sad or happy?", "The sun is out!", "happy", True),
    ]
    assert all(row["request"] == 0 and row["nearest"] for row in rows)
    output = capsys.readouterr().out
    for reason in ("asks for what text can't do", "too near to another", "no example that can be"):
        assert f"1  {reason}" in output
    assert output.count("too near (") == 1, "a task without an example is near to nothing"
    assert len(load_entries(tmp_path / "new.jsonl")) == 3, "the file is valid training data"


def test_a_resumed_run_shows_two_machine_instructions(tmp_path, monkeypatch):
    prompts = []
    real = stages.instructions_prompt
    monkeypatch.setattr(stages, "instructions_prompt", lambda s: prompts.append(s) or real(s))
    assert main(command(tmp_path, "--number", "3")) == 0
    assert main(command(tmp_path, "--number", "4")) == 0
    one, two = prompts
    seed_instructions = {seed["instruction"] for seed in load_seeds()[0]}
    assert len(one) == len(two) == 8 and set(one) <= seed_instructions
    machine_instructions = {row["instruction"] for row in lines(tmp_path / "new.jsonl")[:3]}
    assert set(two) - seed_instructions == machine_instructions and len(set(two)) == 8
    assert lines(tmp_path / "new.jsonl")[3]["instruction"] == "Name three rivers of Asia."
    whole = tmp_path / "whole.jsonl"
    assert main(command(tmp_path, "--number", "4", out=whole)) == 0
    for end in (".jsonl", ".requests.jsonl"):
        name = whole.name.replace(".jsonl", end)
        assert (tmp_path / f"new{end}").read_bytes() == (tmp_path / name).read_bytes()


def test_each_stage_has_its_own_options(tmp_path, monkeypatch):
    """Only the list of instructions is sampled; the later stages are greedy."""
    requests = []
    answers = scripted(ANSWERS)

    def complete(prompt, **options):
        requests.append((prompt, options))
        return answers(prompt, **options)

    monkeypatch.setattr(
        "ch07.commands.generate_data.open_backend", lambda *args, **kwargs: complete
    )
    assert main(command(tmp_path, "--number", "1", "--seed", "4")) == 0
    first, kind, examples, _, labels = (options for _, options in requests[:5])
    assert (first["temperature"], first["top_p"], first["max_new_tokens"]) == (0.7, 0.5, 1024)
    assert first["stop"] == ["\n\n", "\n16.", "\n16 ."] and first["seed"] == 4
    assert (kind["temperature"], kind["max_new_tokens"], kind["stop"]) == (0, 3, ["\n", "Task"])
    assert examples == {**kind, "max_new_tokens": 350, "stop": ["Example 6", "Task:"]}
    assert labels == {**examples, "max_new_tokens": 300}
    prompts = [prompt for prompt, _ in requests]
    assert prompts[1] == stages.classification_prompt("Explain why the sea is salty.")
    assert prompts[2] == stages.instances_prompt("Explain why the sea is salty.", False)
    assert prompts[4] == stages.instances_prompt("Is the message angry, sad or happy?", True)


def test_a_refused_or_overlong_instruction_is_skipped(tmp_path, monkeypatch, capsys):
    errors = {"one": PromptTooLong("300 tokens"), "two": PromptRejected("status 400")}
    listed = " Say one of five.\n10. Say two short jokes.\n11. Say three kind words."
    lists = iter([listed, PromptRejected("status 400"), " Say four words about the sea."])

    def complete(prompt, **options):
        if prompt.startswith("Different tasks"):
            answer = next(lists)
        else:
            task = prompt.rsplit("Task: Say ", 1)[1].split()[0]
            answer = errors.get(task, "Example 1\nOutput: yes")
        if isinstance(answer, Exception):
            raise answer
        return Completion(answer)

    monkeypatch.setattr(
        "ch07.commands.generate_data.open_backend", lambda *args, **kwargs: complete
    )
    assert main(command(tmp_path, "--number", "2")) == 0
    assert [r["instruction"] for r in lines(tmp_path / "new.jsonl")] == [
        "Say three kind words.",
        "Say four words about the sea.",
    ]
    output = capsys.readouterr().out
    assert "3 requests" in output and "1  too long for the model" in output
    assert "2  refused by the server" in output, "one of them is a request for instructions"


def test_the_parsers_accept_the_prompts_own_examples():
    """All examples of a prompt are parsed, and none of its instructions is rejected."""
    for prompt, parse in (
        (stages.INPUT_FIRST_PROMPT, stages.parse_instances),
        (stages.OUTPUT_FIRST_PROMPT, stages.parse_labelled_instances),
    ):
        for part in prompt.split("Task: ")[1:-1]:
            task, answer = part.split("\n", 1)
            assert rejection_reason(task, SELF_INSTRUCT_BLACKLIST) is None, task
            found = parse(Completion(answer))
            assert len(found) == max(answer.count("Output:"), answer.count("Class label:")) > 0
    kinds = stages.CLASSIFICATION_PROMPT.split("Classification: ")[1:]
    assert [stages.is_classification(Completion(kind.split("\n")[0])) for kind in kinds] == [
        True, False, True, False, True, False
    ]  # fmt: skip


def test_braces_in_an_instruction_are_ordinary_text(tmp_path):
    assert "{x} {instruction}" in stages.classification_prompt("{x} {instruction}")


def test_a_file_made_in_stages_is_not_continued_otherwise(tmp_path, capsys):
    assert main(command(tmp_path, "--number", "1")) == 0
    assert main([word for word in command(tmp_path, "--number", "1") if word != "--stages"]) == 1
    assert "was started by another command" in capsys.readouterr().err
    assert main(command(tmp_path, "--number", "1", "--original")) == 1
    assert "was started with original False, but now it is True" in capsys.readouterr().err


# --- instructions without an example --------------------------------------------------------------

NEAR_DUPLICATE = " Tell a joke about a dog that sings.\n10. Name three rivers of Asia."
LATER_ANSWERS = [
    *FIRST_REQUEST,
    *[NEAR_DUPLICATE, "No", "nothing either"],
    *[" Count the vowels in my name.", "No", "Example 1\nAnna\nOutput: 2\n"],
]
WITHOUT_EXAMPLE = ["Tell a joke about a cat that sings.", "Name three rivers of Asia."]


@pytest.fixture
def prompts(monkeypatch):
    """The lists of instructions shown so far; a request that is repeated is listed once."""
    shown = {}
    real = stages.instructions_prompt
    monkeypatch.setattr(
        stages, "instructions_prompt", lambda s: shown.setdefault(tuple(s)) or real(s)
    )
    return shown


def test_an_instruction_without_an_example_counts_as_known(tmp_path, prompts):
    assert main(command(tmp_path, "--number", "4", answers=LATER_ANSWERS)) == 0
    rows = lines(tmp_path / "new.jsonl")
    assert not {row["instruction"] for row in rows} & set(WITHOUT_EXAMPLE)
    log = lines(tmp_path / "new.requests.jsonl")[1:]
    assert [request["new_instructions"] for request in log] == [
        [
            "Explain why the sea is salty.",
            "Is the message angry, sad or happy?",
            WITHOUT_EXAMPLE[0],
        ],
        [WITHOUT_EXAMPLE[1]],
        ["Count the vowels in my name."],
    ]
    near, no_example = log[1]["rejected"]
    assert near["reason"] == "too near to another" and near["nearest"] == WITHOUT_EXAMPLE[0]
    assert no_example["reason"] == "no example that can be used"
    known = {*log[0]["new_instructions"], *log[1]["new_instructions"]}
    assert [len(set(shown) & known) for shown in prompts] == [0, 2, 2]


def test_a_run_in_stages_stopped_after_any_answer_resumes_to_the_same_file(tmp_path, prompts):
    """With the same prompts: also those instructions are shown that have no row."""
    whole = tmp_path / "whole.jsonl"
    assert main(command(tmp_path, "--number", "4", answers=LATER_ANSWERS, out=whole)) == 0
    expected = list(prompts)
    assert set(expected[2]) & set(WITHOUT_EXAMPLE)
    for n in range(len(LATER_ANSWERS)):
        prompts.clear()
        out = tmp_path / f"{n}.jsonl"
        assert main(command(tmp_path, "--number", "4", answers=LATER_ANSWERS[:n], out=out)) == 1
        assert main(command(tmp_path, "--number", "4", answers=LATER_ANSWERS, out=out)) == 0
        assert list(prompts) == expected
        for end in (".jsonl", ".requests.jsonl"):
            assert out.with_suffix(end).read_bytes() == whole.with_suffix(end).read_bytes(), n


def test_a_run_in_stages_killed_while_it_writes_resumes_to_the_same_file(tmp_path):
    """A request's rows may be there without its line in the log, or with part of it."""
    assert main(command(tmp_path, "--number", "4", answers=LATER_ANSWERS)) == 0
    file = tmp_path / "new.jsonl"
    log = tmp_path / "new.requests.jsonl"
    rows = file.read_bytes().splitlines(keepends=True)
    settings, *requests = log.read_bytes().splitlines(keepends=True)
    for k, request in enumerate(requests):
        written = [row for row in rows if json.loads(row)["request"] <= k]
        for n_bytes in (0, 1, len(request) // 2, len(request) - 1):
            file.write_bytes(b"".join(written))
            log.write_bytes(settings + b"".join(requests[:k]) + request[:n_bytes])
            assert main(command(tmp_path, "--number", "4", answers=LATER_ANSWERS)) == 0
            assert file.read_bytes() == b"".join(rows)
            assert log.read_bytes() == settings + b"".join(requests)


@pytest.mark.parametrize("instructions", ['"Sing."', "[1]", "null"])
def test_a_log_with_other_things_than_instructions_is_refused(tmp_path, capsys, instructions):
    assert main(command(tmp_path, "--number", "3")) == 0
    log = tmp_path / "new.requests.jsonl"
    settings, request = log.read_text(encoding="utf-8").splitlines()
    start, rest = request.split('"new_instructions": ', 1)
    request = f'{start}"new_instructions": {instructions}, {rest[rest.index("]") + 3 :]}'
    assert json.loads(request)["accepted"] == 3
    log.write_text(f"{settings}\n{request}\n", encoding="utf-8")
    assert main(command(tmp_path, "--number", "4")) == 1
    assert "was not written by this command" in capsys.readouterr().err


# --- as the original ------------------------------------------------------------------------------


def test_the_originals_stop_strings_and_spelling_on_request(tmp_path):
    """They cut a list at a year, and make a name lower-case."""
    listed = " tell me who ruled Peru in 2016.\n10. Name three rivers of Asia."
    answers = [listed, *["No", "Example 1\nOutput: yes"] * 2]
    assert main(command(tmp_path, "--number", "2", answers=answers)) == 0
    assert [row["instruction"] for row in lines(tmp_path / "new.jsonl")] == [
        "Tell me who ruled Peru in 2016.",
        "Name three rivers of Asia.",
    ]
    out = tmp_path / "original.jsonl"
    assert main(command(tmp_path, "--original", "--number", "1", answers=answers, out=out)) == 0
    assert [row["instruction"] for row in lines(out)] == ["Tell me who ruled peru in 20"]
    settings = lines(tmp_path / "original.requests.jsonl")[0]
    assert settings["original"] is True and settings["unicode"] is False


def test_of_more_than_five_instances_five_are_drawn(tmp_path):
    seven = [("", letter) for letter in "abcdefg"]
    drawn = {tuple(stages.draw_instances(seven, random.Random(seed))) for seed in range(300)}
    assert len(drawn) == 21, "all ways to choose five of seven"
    assert all(list(some) == sorted(set(some)) and len(some) == 5 for some in drawn)
    assert stages.draw_instances(seven[:5], random.Random(1)) == seven[:5]
    assert stages.draw_instances([], random.Random(1)) == []
    listed = "".join(f"Class label: {letter}\nThe letter {letter}.\n" for letter in "abcdefg")
    answers = [" Which letter of the seven is it?", "Yes", listed]
    assert main(command(tmp_path, "--number", "1", answers=answers)) == 0
    rows = lines(tmp_path / "new.jsonl")
    assert len({row["output"] for row in rows}) == len(rows) == stages.MAX_INSTANCES
