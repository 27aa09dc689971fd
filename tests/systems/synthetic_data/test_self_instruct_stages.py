"""Self-Instruct in stages: a list of tasks, the kind of each, its examples; and how it goes on."""

import json

import pytest

from ch07.commands.cli import main
from ch07.data.entries import load_entries
from ch07.generation.completion import Completion, PromptRejected, PromptTooLong, scripted
from ch07.systems.synthetic_data import self_instruct_stages as stages
from ch07.systems.synthetic_data.row_generators import load_seeds
from ch07.systems.synthetic_data.self_instruct import SELF_INSTRUCT_WORDS, reason_against

LISTED = """ Explain why the sea is salty.
10. Draw a circle with a ruler.
11. Is the message angry, sad or happy?
12. Explain why the sea is so salty.
13. Tell a joke about a cat that sings."""
SALTY = "Example 1\nOutput: Rivers carry salt into it.\n"
MOODS = "Class label: sad\nMy dog is gone.\nClass label: happy\nThe sun is out!\n"
FIRST = [LISTED, " No", SALTY, " Yes", MOODS, " No", "nothing of the kind"]
SECOND = [" Name three rivers of Asia.", "No", "Example 1\nOutput: Indus, Ganges, Mekong\n"]
ANSWERS = FIRST + SECOND


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(monkeypatch):
    monkeypatch.setattr("os.fsync", lambda handle: None)


def command(tmp_path, *more, answers=ANSWERS, out=None):
    path = tmp_path / "script.json"
    path.write_text(json.dumps(list(answers)), encoding="utf-8")
    out = str(out or tmp_path / "new.jsonl")
    return ["self-instruct", "--stages", "--backend", f"scripted:{path}", "--out", out, *more]


def lines(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_each_task_gets_its_kind_and_its_examples(tmp_path, capsys):
    assert main(command(tmp_path, "--number", "3")) == 0
    rows = lines(tmp_path / "new.jsonl")
    assert [(r["instruction"], r["input"], r["output"], r["classification"]) for r in rows] == [
        ("Explain why the sea is salty.", "", "Rivers carry salt into it.", False),
        ("Is the message angry, sad or happy?", "My dog is gone.", "sad", True),
        ("Is the message angry, sad or happy?", "The sun is out!", "happy", True),
    ]
    assert all(row["request"] == 0 and row["nearest"] for row in rows)
    shown = capsys.readouterr().out
    for reason in ("asks for what text can't do", "too near to another", "no example that can be"):
        assert f"1  {reason}" in shown
    assert len(load_entries(tmp_path / "new.jsonl")) == 3, "can be trained on"


def test_it_goes_on_and_shows_two_tasks_of_its_own(tmp_path, monkeypatch):
    prompts = []
    real = stages.instructions_prompt
    monkeypatch.setattr(stages, "instructions_prompt", lambda s: prompts.append(s) or real(s))
    assert main(command(tmp_path, "--number", "3")) == 0
    assert main(command(tmp_path, "--number", "4")) == 0
    one, two = prompts
    people = {seed["instruction"] for seed in load_seeds()[0]}
    assert len(one) == len(two) == 8 and set(one) <= people
    own = {row["instruction"] for row in lines(tmp_path / "new.jsonl")[:3]}
    assert set(two) - people == own and len(set(two)) == 8
    assert lines(tmp_path / "new.jsonl")[3]["instruction"] == "Name three rivers of Asia."
    whole = tmp_path / "whole.jsonl"
    assert main(command(tmp_path, "--number", "4", out=whole)) == 0
    for end in (".jsonl", ".requests.jsonl"):
        name = whole.name.replace(".jsonl", end)
        assert (tmp_path / f"new{end}").read_bytes() == (tmp_path / name).read_bytes()


def test_how_each_stage_is_asked(tmp_path, monkeypatch):
    """The list is drawn, its kinds and examples are not."""
    asked, answers = [], scripted(ANSWERS)

    def complete(prompt, **how):
        asked.append((prompt, how))
        return answers(prompt, **how)

    monkeypatch.setattr("ch07.commands.generate_data.open_backend", lambda *given, **how: complete)
    assert main(command(tmp_path, "--number", "1", "--seed", "4")) == 0
    first, kind, examples, _, labels = (how for _, how in asked[:5])
    assert (first["temperature"], first["top_p"], first["max_new_tokens"]) == (0.7, 0.5, 1024)
    assert first["stop"] == ["\n\n", "\n16."] and first["seed"] == 4
    assert (kind["temperature"], kind["max_new_tokens"], kind["stop"]) == (0, 3, ["\n", "Task"])
    assert examples == {**kind, "max_new_tokens": 350, "stop": ["Example 6", "Task:"]} == labels
    prompts = [prompt for prompt, _ in asked]
    assert prompts[1] == stages.kind_prompt("Explain why the sea is salty.")
    assert prompts[2] == stages.instances_prompt("Explain why the sea is salty.", False)
    assert prompts[4] == stages.instances_prompt("Is the message angry, sad or happy?", True)


def test_a_task_that_cannot_be_asked_about_is_left_out_and_the_next_is_asked(
    tmp_path, monkeypatch, capsys
):
    told = {"one": PromptTooLong("300 tokens"), "two": PromptRejected("status 400")}
    listed = " Say one of five.\n10. Say two of five.\n11. Say three of five."
    lists = iter([listed, PromptRejected("status 400"), " Say four words about the sea."])

    def complete(prompt, **how):
        if prompt.startswith("Different tasks"):
            answer = next(lists)
        else:
            task = prompt.rsplit("Task: Say ", 1)[1].split()[0]
            answer = told.get(task, "Example 1\nOutput: yes")
        if isinstance(answer, Exception):
            raise answer
        return Completion(answer)

    monkeypatch.setattr("ch07.commands.generate_data.open_backend", lambda *given, **how: complete)
    assert main(command(tmp_path, "--number", "2")) == 0
    assert [r["instruction"] for r in lines(tmp_path / "new.jsonl")] == [
        "Say three of five.",
        "Say four words about the sea.",
    ]
    shown = capsys.readouterr().out
    assert "3 requests" in shown and "1  too long for the model" in shown
    assert "2  refused by the server" in shown, "one of them is a list"


def test_what_the_prompts_show_is_what_the_readers_read():
    """Each prompt's own examples, taken for an answer, are read whole; their tasks are wanted."""
    for prompt, read in (
        (stages.INPUT_FIRST, stages.read_instances),
        (stages.LABEL_FIRST, stages.read_labelled_instances),
    ):
        for part in prompt.split("Task: ")[1:-1]:
            task, answer = part.split("\n", 1)
            assert reason_against(task, SELF_INSTRUCT_WORDS) is None, task
            found = read(Completion(answer))
            assert len(found) == max(answer.count("Output:"), answer.count("Class label:")) > 0
    kinds = stages.KINDS.split("Classification: ")[1:]
    assert [stages.is_classification(Completion(kind.split("\n")[0])) for kind in kinds] == [
        True, False, True, False, True, False
    ]  # fmt: skip


def test_braces_in_a_task_are_text(tmp_path):
    assert "{x} {instruction}" in stages.kind_prompt("{x} {instruction}")


def test_the_two_originals_are_not_mixed(tmp_path, capsys):
    assert main(command(tmp_path, "--original")) == 2
    assert "give one of them" in capsys.readouterr().err
    assert main(command(tmp_path, "--number", "1")) == 0
    assert main([word for word in command(tmp_path, "--number", "1") if word != "--stages"]) == 1
    assert "was begun by another command" in capsys.readouterr().err
