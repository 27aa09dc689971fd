"""kill -9 at any operation: what a command writes is whole or absent, and again the same.

For `finetune`, see tests/training/test_survival.py.
"""

import json
import os
import random
import shutil

import pytest
from crashes import Forks

from ch07.runs import run_folder

pytestmark = pytest.mark.skipif(os.name != "posix", reason="forks and kills need POSIX")
MOST_KILLS = 6  # of each command, at operations drawn by chance; SURVIVAL=1 kills at each
FEWER_KILLS = {"pretrain": 2, "prefer": 3, "doctor": 3, "grid": 3}  # of those that take longer
TASKS = (
    "Name a fruit that grows in cold countries.",
    "How many legs do two spiders and a cat have together?",
    "Rewrite this sentence so that it sounds friendlier.",
    "Explain why leaves turn yellow.",
)
ANSWERS = [f" {task}\n4. Input:\n<noinput>\n4. Output:\nYes" for task in TASKS]


@pytest.fixture(scope="module")
def place(tmp_path_factory, few_answers):
    """A small model, a run, data and scripts, which no command changes."""
    from ch07.models.hf_export import export_hf
    from gpt_model import GPTConfig, GPTModel

    folder = tmp_path_factory.mktemp("kills")
    shape = {"vocab_size": 50257, "context_length": 128, "emb_dim": 8, "n_heads": 2, "n_layers": 1}
    export_hf(GPTModel(GPTConfig(**shape), torch_generator()), folder / "model")
    shutil.copy(few_answers, folder / "data.json")
    pairs = [
        {"instruction": f"Say {i}.", "input": "", "chosen": f"It is {i}.", "rejected": f"{i}"}
        for i in range(20)
    ]
    (folder / "pairs.json").write_text(json.dumps(pairs), encoding="utf-8")
    (folder / "script.json").write_text(json.dumps(ANSWERS), encoding="utf-8")
    questions = [text for i in range(4) for text in (f"Why is {'xyzw'[i]} so {i}?", f"So {i}.")]
    (folder / "dialogue.json").write_text(json.dumps(questions), encoding="utf-8")
    (folder / "text.txt").write_text("The cat sat on the mat. " * 400, encoding="utf-8")
    return folder


def torch_generator():
    import torch

    return torch.Generator().manual_seed(0)


@pytest.fixture(scope="module")
def forks(place):
    forks = Forks(place / "log")
    yield forks
    forks.close()


@pytest.fixture(scope="module")
def trained(place, forks):
    """A run that the commands start from."""
    short = ["--max-steps", "2", "--batch-size", "4", "--dtype", "float32"]
    command = ["finetune", "--model", place / "model", "--data", place / "data.json", *short]
    assert forks([*command, "--out", place / "run"]) == 0, forks.said()
    return place / "run"


STEPS = ["--max-steps", "3", "--eval-freq", "1", "--checkpoint-minutes", "0"]
SCRIPTED = ["--number", "3", "--patience", "4"]
COMMANDS = {  # words in capitals are places
    "export": ["export", "RUN", "NEW"],
    "export into a folder": ["export", "RUN", "NEW"],
    "prefer": ["prefer", "RUN", "PAIRS", "--out", "NEW", "--batch-size", "4", *STEPS],
    "pretrain": ["pretrain", "--corpus", "TEXT", "--out", "NEW", "--batch-size", "2", *STEPS],
    "self-instruct": ["self-instruct", "--backend", "scripted:SCRIPT", "--out", "NEW", *SCRIPTED],
    "magpie": ["magpie", "--backend", "scripted:DIALOGUE", "--out", "NEW", *SCRIPTED],
    "reflect": ["reflect", "DATA", "NEW", "--backend", "scripted:LONG"],
    "curate": ["curate", "DATA", "NEW", "--keep", "20"],
    "prepare-data": ["prepare-data", "DATA", "NEW"],
    "doctor": ["doctor", "DATA", "--write-clean", "NEW", "--max-steps", "2"],
    "api-calls": ["api-calls", "--write", "NEW"],
    "tokenize": ["tokenize", "DATA", "NEW"],
    "grid": ["grid", "DATA", "--png", "NEW"],
}
FILE_SUFFIX = {"grid": ".png", "self-instruct": ".jsonl", "magpie": ".jsonl", "reflect": ".jsonl"}


def filled_in(words, place, new):
    places = {
        "RUN": place / "run",
        "NEW": new,
        "DATA": place / "data.json",
        "PAIRS": place / "pairs.json",
        "TEXT": place / "text.txt",
        "scripted:SCRIPT": f"scripted:{place / 'script.json'}",
        "scripted:DIALOGUE": f"scripted:{place / 'dialogue.json'}",
        "scripted:LONG": f"scripted:{place / 'long.json'}",
    }
    return [str(places.get(word, word)) for word in words]


def content(path):
    """What is at a path: the bytes of a file, or of each file in a folder that isn't hidden."""
    if path.is_file():
        return path.read_bytes()
    found = {}
    for file in sorted(path.rglob("*")):
        name = str(file.relative_to(path))
        if file.is_file() and not name.startswith("."):
            found[name] = file.read_bytes()
    for name in (run_folder.METRICS, run_folder.CONFIG, run_folder.SCORES):
        found.pop(name, None)  # seconds and names of folders are in them
    return {name: data for name, data in found.items() if "checkpoint" not in name}


def again(name, words, new):
    """What a person would type after a kill."""
    if name in ("prefer", "pretrain") and (new / run_folder.CONFIG).exists():
        return [name, "--resume", "--out", str(new)]
    return words


def new_place(name, folder):
    """Where a command writes: always under the same name, which a model's card repeats."""
    folder.mkdir()
    new = folder / f"new{FILE_SUFFIX.get(name, '')}"
    if name == "export into a folder":
        new.mkdir()
    return new


@pytest.mark.parametrize("name", COMMANDS)
def test_what_a_killed_command_leaves_is_whole_or_absent(name, place, forks, trained, request):
    if name == "reflect":
        n = len(json.loads((place / "data.json").read_text(encoding="utf-8")))
        answers = [f"It is bad. [Better Answer] {i} [End]" for i in range(n)]
        (place / "long.json").write_text(json.dumps(answers), encoding="utf-8")
    folder = place / name.replace(" ", "-")
    folder.mkdir()
    whole = new_place(name, folder / "whole")
    assert forks(filled_in(COMMANDS[name], place, whole)) == 0, forks.said()[-2000:]
    expected = content(whole)
    operations = forks.counted()
    numbers = list(range(1, operations + 1))
    most = FEWER_KILLS.get(name, MOST_KILLS)
    if "SURVIVAL" not in os.environ and len(numbers) > most:
        numbers = sorted(random.Random(name).sample(numbers, most))
    for number in numbers:
        new = new_place(name, folder / str(number))
        words = filled_in(COMMANDS[name], place, new)
        assert forks(words, "kill", number) == -9, (number, forks.said()[-2000:])
        grows = name in ("prefer", "pretrain", "self-instruct", "magpie", "reflect")
        if not grows and new.exists() and name != "export into a folder":
            assert content(new) == expected, number
            if new.is_dir():
                shutil.rmtree(new)
            else:
                new.unlink()
        if name == "export into a folder" and (new / "config.json").exists():
            assert content(new) == expected, number
            continue
        code = forks(again(name, words, new))
        assert code == 0, (number, forks.said()[-2000:])
        assert content(new) == expected, number
        left = [path.name for path in new.parent.glob(".*.new")]
        left += [path.name for path in new.glob(".*.new")] if new.is_dir() else []
        assert not left, number
