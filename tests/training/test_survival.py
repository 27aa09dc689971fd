"""Runs that die: killed at any moment, the disk full, a file damaged, two at a time."""

import json
import os
import random
import shutil

import pytest
import torch
from command_lines import with_options
from crashes import Forks

from ch07.commands.cli import main
from ch07.config import FinetuneOptions
from ch07.runs import run_folder
from ch07.runs.run_lock import run_lock
from ch07.training import run_plan
from ch07.training.run_plan import build_plan
from ch07.utils.atomic_files import read_json, write_json

pytestmark = pytest.mark.skipif(os.name != "posix", reason="forks and kills need POSIX")
STEPS = 16


@pytest.fixture(scope="module")
def place(tmp_path_factory, number_data):
    """A folder with a model so small that a whole run takes seconds."""
    from ch07.models.hf_export import export_hf
    from gpt_model import GPTConfig, GPTModel

    folder = tmp_path_factory.mktemp("survival")
    shape = {"vocab_size": 50257, "context_length": 128, "emb_dim": 8, "n_heads": 2, "n_layers": 1}
    export_hf(GPTModel(GPTConfig(**shape), torch.Generator().manual_seed(0)), folder / "model")
    return folder


@pytest.fixture(scope="module")
def forks(place):
    forks = Forks(place / "log")
    yield forks
    forks.close()


@pytest.fixture(scope="module")
def arguments(place, number_data):
    return [
        "finetune", "--data", number_data, "--model", place / "model", "--batch-size", "16",
        "--epochs", "2", "--eval-freq", "7", "--checkpoint-minutes", "0", "--lr", "0.01",
        "--dtype", "float32",
    ]  # fmt: skip


@pytest.fixture(scope="module")
def whole(place, forks, arguments):
    """The same run, never stopped."""
    assert forks([*arguments, "--out", place / "whole"]) == 0, forks.said()
    return place / "whole"


@pytest.fixture(scope="module")
def operations(whole, forks):
    """How many operations on the disk a whole run makes."""
    return forks.counted()


def same(one, two):
    """All that a run leaves, but for its seconds, is the same to the bit."""
    for name in (run_folder.MODEL, run_folder.RESPONSES, run_folder.SAMPLES):
        assert (one / name).read_bytes() == (two / name).read_bytes(), name
    a, b = ((folder / run_folder.METRICS).read_text("utf-8").splitlines() for folder in (one, two))
    assert [json.loads(x) | {"seconds": 0} for x in a] == [
        json.loads(x) | {"seconds": 0} for x in b
    ]
    a, b = (read_json(folder / run_folder.SCORES) | {"train_seconds": 0} for folder in (one, two))
    assert a == b


def begun_or_resumed(arguments, folder):
    """What a person would type: begin, or go on where something was begun."""
    if (folder / run_folder.CONFIG).exists() or any(
        (folder / run_folder.CHECKPOINT).glob("step-*")
    ):
        return ["finetune", "--resume", "--out", folder]
    return [*arguments, "--out", folder]


def test_thirty_kills_lose_nothing_but_time(place, forks, arguments, whole):
    """kill -9, half at random operations on the disk or half-way through one, half at any time."""
    dice, folder, kills = random.Random(0), place / "killed", 0
    while kills < 30:
        fault, at = ("kill", dice.randint(1, 45)) if kills % 2 else ("time", dice.randint(1, 300))
        code = forks(begun_or_resumed(arguments, folder), fault, at)
        if code == 0:  # this machine was faster than the kill: on with a new run
            same(whole, folder)
            shutil.rmtree(folder)
        else:
            assert code == -9, f"kill {kills}: {forks.said()[-2000:]}"
            kills += 1
    assert "resuming from step" in forks.said()
    assert forks(begun_or_resumed(arguments, folder)) == 0, forks.said()[-2000:]
    same(whole, folder)
    left = [*folder.glob(".*.new"), *(folder / run_folder.CHECKPOINT).glob(".new-*")]
    assert not left, "what a killed run left half-written is cleaned away"


@pytest.mark.parametrize("fault", ["full", "interrupt", "kill"])
def test_a_fault_at_any_operation_ends_in_words(place, forks, arguments, whole, operations, fault):
    """A full disk, a second Ctrl-C, a kill at operation N; SURVIVAL=7 tries each seventh of all."""
    stride = os.environ.get("SURVIVAL")
    one = random.Random(fault).randint(1, operations // 2)
    numbers = range(1, operations + 1, int(stride)) if stride else [one]
    for number in numbers:
        folder, said = place / f"{fault}-{number}", len(forks.said())
        code = forks([*arguments, "--out", folder], fault, number)
        words = forks.said()[said:]
        if fault == "full" and code == 0 and forks.counted() < number:
            assert number > operations // 2
            break  # a full disk still deletes, and deletions aren't counted then
        assert code == {"full": 1, "interrupt": 130, "kill": -9}[fault], (number, words)
        assert "Traceback" not in words
        assert fault != "full" or "No space left on device" in words
        if fault != "kill" and (folder / run_folder.CONFIG).exists():
            assert "python -m ch07 finetune --resume --out" in words, (number, words)
            assert fault != "interrupt" or "stopped immediately" in words
        assert forks(begun_or_resumed(arguments, folder)) == 0, (number, forks.said()[-2000:])
        same(whole, folder)
        shutil.rmtree(folder)


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_run_that_is_asked_to_stop_keeps_all_it_has(
    place, forks, arguments, whole, operations, name, capsys
):
    """In the midst of a checkpoint that is written; or, with SIGTERM, long before one is due."""
    folder, said = place / name, len(forks.said())
    late, at = ([], operations // 2) if name != "SIGTERM" else (["--checkpoint-minutes", "99"], 12)
    assert forks(with_options(arguments, *late, "--out", folder), name, at) == 130
    words = forks.said()[said:]
    assert f"python -m ch07 finetune --resume --out {folder}" in words and "Traceback" not in words
    assert (folder / run_folder.PLOT).exists() and run_folder.read_metrics(folder)
    step = max((folder / run_folder.CHECKPOINT).glob("step-*")).name
    assert (
        f"stopped after step {int(step[5:])};" in words and not (folder / run_folder.MODEL).exists()
    )
    assert main(["respond", str(folder), "x"]) == 1
    assert "has not finished" in capsys.readouterr().err
    assert forks(["finetune", "--resume", "--out", folder]) == 0
    assert "resuming from step" in forks.said()[said:]
    same(whole, folder)


def copied(whole, folder):
    shutil.copytree(whole, folder)
    (folder / run_folder.MODEL).unlink()
    return folder


def resume(folder):
    return main(["finetune", "--resume", "--out", str(folder)])


@pytest.mark.parametrize("damage", ["missing", "cut", "empty", "flipped"])
def test_a_damaged_config_comes_back_from_the_checkpoint(whole, tmp_path, damage, capsys):
    folder = copied(whole, tmp_path / "run")
    path = folder / run_folder.CONFIG
    text = path.read_bytes()
    if damage == "missing":
        path.unlink()
    else:
        flipped = text.replace(b"{\n", b"[\n", 1)
        path.write_bytes({"cut": text[:200], "empty": b"", "flipped": flipped}[damage])
    assert resume(folder) == 0
    assert f"using its copy in the checkpoint of step {STEPS}" in capsys.readouterr().err
    assert path.read_bytes() == (whole / run_folder.CONFIG).read_bytes()
    same(whole, folder)


def test_a_config_that_was_altered_is_refused_with_what_differs(whole, tmp_path, capsys):
    """A batch size stands nowhere else: other batches would come, and nobody would see why."""
    folder = copied(whole, tmp_path / "run")
    config = read_json(folder / run_folder.CONFIG)
    config["options"]["batch_size"] = 8
    write_json(folder / run_folder.CONFIG, config)
    assert resume(folder) == 1
    error = capsys.readouterr().err
    assert "was altered since the run started: options.batch_size was 16, now 8" in error


def test_a_checkpoint_whose_state_was_altered_is_passed_over(whole, tmp_path, capsys):
    folder = copied(whole, tmp_path / "run")
    state = max((folder / run_folder.CHECKPOINT).glob("step-*")) / "state.json"
    text = state.read_text("utf-8")
    assert f'"step": {STEPS},' in text
    state.write_text(text.replace(f'"step": {STEPS},', '"step": 12,'), encoding="utf-8")
    assert resume(folder) == 0
    said = capsys.readouterr().err
    assert "skipped" in said and f"resuming from step {STEPS - 1}" in said
    same(whole, folder)


def test_a_second_process_on_one_folder_is_refused(whole, tmp_path, forks, arguments):
    folder = copied(whole, tmp_path / "run")
    with run_lock(folder):
        for command in (["finetune", "--resume", "--out", folder], [*arguments, "--out", folder]):
            said = len(forks.said())
            assert forks(command) == 1
            assert "another" in forks.said()[said:]
        assert "another process is training in" in forks.said()
    assert resume(folder) == 0
    (tmp_path / "new").mkdir()
    with run_lock(tmp_path / "new"):
        assert forks([*arguments, "--out", tmp_path / "new"]) == 1
    assert not (tmp_path / "new" / run_folder.CONFIG).exists()


def test_a_folder_that_cannot_be_written_to_is_said_before_training(
    whole, tmp_path, arguments, capsys, monkeypatch
):
    monkeypatch.setattr(
        "ch07.utils.paths.os.access", lambda path, mode: False
    )  # root may write anywhere
    folder = copied(whole, tmp_path / "run")
    assert resume(folder) == 1
    assert main([*map(str, arguments), "--out", str(tmp_path / "new")]) == 1
    errors = capsys.readouterr().err.splitlines()
    said = "can't be written to: permission is missing, or the disk is read-only"
    assert [line.endswith(said) for line in errors] == [
        True,
        True,
    ]
    assert not (tmp_path / "new").exists()


def test_a_clock_that_jumps_back_changes_nothing(place, arguments, whole, tmp_path, monkeypatch):
    now = iter(range(10**9, 0, -1000))
    monkeypatch.setattr("time.time", lambda: next(now))
    assert main([*map(str, arguments), "--out", str(tmp_path / "run")]) == 0
    same(whole, tmp_path / "run")
    seconds = [
        json.loads(line)["seconds"]
        for line in (tmp_path / "run" / run_folder.METRICS).read_text("utf-8").splitlines()
    ]
    assert seconds == sorted(seconds) and seconds[0] >= 0


def test_numbers_that_are_not_finite_end_the_run_with_its_rows(
    whole, arguments, tmp_path, capsys, monkeypatch
):
    """The batch is named by its rows in the file, and no checkpoint holds NaN."""
    calls, real = [], run_plan.sum_loss_with_shared_beginning

    def poisoned(*args, **kwargs):
        loss, n = real(*args, **kwargs)
        calls.append(loss.requires_grad)
        return (loss * float("nan") if sum(calls) == 3 else loss), n

    monkeypatch.setattr(run_plan, "sum_loss_with_shared_beginning", poisoned)
    assert main([*map(str, arguments), "--out", str(tmp_path / "run")]) == 1
    error = capsys.readouterr().err
    assert "after step 2: loss or gradient is not finite" in error
    rows = error.split("Its batch: ")[1].split(". ")[0].split(", ")
    config = read_json(tmp_path / "run" / run_folder.CONFIG)
    plan = build_plan(FinetuneOptions(**config["options"]), lambda text: None)
    third = list(plan.train_loader.batch_sampler)[2]
    entries = [plan.rows.datasets["train"].data[i] for i in third]
    file = plan.rows.file
    assert [file.entries[file.places.index(row)] for row in rows] == entries
    read = read_json(config["options"]["data"])
    assert read[int(rows[0].removeprefix("row ")) - 1]["output"] == entries[0]["output"]
    assert error.endswith("step-00000002 is complete\n") and "--like" in error
    assert "resume with" not in error, "it would fail again"
    monkeypatch.undo()
    assert resume(tmp_path / "run") == 0
    same(whole, tmp_path / "run")


def test_resume_touches_nothing_but_a_run(tmp_path, capsys):
    (tmp_path / ".notes.new").write_text("precious", encoding="utf-8")
    for folder in (tmp_path, tmp_path / "nowhere" / "run"):
        assert resume(folder) == 1
        assert "is not a run folder" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == [".notes.new"]


def test_a_finished_run_without_checkpoints_is_not_trained_again(whole, tmp_path, capsys):
    folder = shutil.copytree(whole, tmp_path / "run")
    shutil.rmtree(folder / run_folder.CHECKPOINT)
    assert resume(folder) == 1
    assert "has finished, and has no checkpoint to resume from" in capsys.readouterr().err
    same(whole, folder)


def test_a_run_that_died_before_its_seal_has_not_finished(whole, tmp_path, capsys):
    folder = shutil.copytree(whole, tmp_path / "run")
    config = read_json(folder / run_folder.CONFIG)
    del config["model_sha256"]
    write_json(folder / run_folder.CONFIG, config)
    assert main(["respond", str(folder), "x"]) == 1
    assert "has not finished" in capsys.readouterr().err
    assert resume(folder) == 0
    same(whole, folder)


def test_no_whole_checkpoint_is_said_without_a_circle(whole, tmp_path, capsys):
    folder = copied(whole, tmp_path / "run")
    for state in (folder / run_folder.CHECKPOINT).glob("*/state.json"):
        state.write_text("{", encoding="utf-8")
    assert resume(folder) == 1
    error = capsys.readouterr().err
    assert "no checkpoint is intact" in error and "--resume" not in error
    assert f"Start again: python -m ch07 finetune --like {folder}" in error
