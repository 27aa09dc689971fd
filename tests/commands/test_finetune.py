"""The main job, small: it learns, it survives an interruption bit for bit, it says what it does."""

import json
import os
import shutil
import subprocess
import sys

import pytest
import torch

from ch07.commands.cli import main
from ch07.runs import new_run_folder, run_folder
from ch07.runs.samples import read_samples
from ch07.utils.atomic_files import read_json, read_tensors

SHORT = ["--eval-freq", "10", "--dtype", "float32"]


def test_learning_happened(run, number_data):
    history = [
        json.loads(line) for line in (run / run_folder.METRICS).read_text("utf-8").splitlines()
    ]
    assert history[-1]["train_loss"] < 0.2 < 9 < history[0]["train_loss"]
    assert history[-1]["val_loss"] < 1 < history[0]["val_loss"]
    scores = read_json(run / run_folder.SCORES)
    assert scores["exact_match"] >= 0.6 and scores["stopped"] >= 0.9, "nothing right at the start"
    from gpt_model import MODEL_SIZES, GPTModel

    start = GPTModel(MODEL_SIZES["gpt2-tiny"], torch.Generator().manual_seed(1))
    trained = read_tensors(run / run_folder.MODEL)
    for name, weight in start.named_parameters():
        assert not torch.equal(weight, trained[name]), f"{name} did not move"


def test_the_held_out_score_rose(run, number_data, tmp_path, capsys):
    """Measured, not assumed: the same weights before training get nothing right."""
    common = ["--data", str(number_data), "--seed", "1", "--lr", "1e-30", "--max-steps", "1"]
    assert main(["finetune", *common, "--out", str(tmp_path / "start")]) == 0
    before, after = (read_json(folder / run_folder.SCORES) for folder in (tmp_path / "start", run))
    assert before["n"] == after["n"] and before["exact_match"] == 0
    assert after["exact_match_interval"][0] > before["exact_match_interval"][1]


def test_the_run_folder_holds_what_it_promises(run, number_data):
    promised = (
        "CONFIG",
        "MODEL",
        "METRICS",
        "SAMPLES",
        "PLOT",
        "RESPONSES",
        "SCORES",
        "CHECKPOINT",
    )
    assert {p.name for p in run.iterdir() if p.name != ".lock"} == {
        getattr(run_folder, name) for name in promised
    }
    config = read_json(run / run_folder.CONFIG)
    assert config["options"]["seed"] == 1 and config["options"]["data"] == str(number_data)
    assert config["prompt_style"]["name"] == "book" and len(config["facts"]["data_sha256"]) == 64
    responses = read_json(run / run_folder.RESPONSES)
    assert (
        len(responses) == config["facts"]["rows"]["test"] == read_json(run / run_folder.SCORES)["n"]
    )
    assert {"instruction", "input", "output", "model_response", "stopped"} == set(responses[0])
    line = json.loads((run / run_folder.METRICS).read_text("utf-8").splitlines()[-1])
    assert set(line) == {"step", "epoch", "tokens_seen", "train_loss", "val_loss", "lr", "seconds"}
    scores = read_json(run / run_folder.SCORES)
    assert {
        "n",
        "exact_match",
        "token_f1",
        "rouge_l",
        "stopped",
        "families",
        "train_seconds",
    } <= set(scores)


def test_each_evaluation_shows_losses_and_an_answer_and_changes_no_bit(
    number_data, tmp_path, capsys
):
    """The answer comes from the model in training; the run is the same without it, bit for bit."""
    common = ["--data", str(number_data), "--seed", "1", "--max-steps", "4", "--batch-size", "8"]
    common += ["--eval-freq", "2", "--dtype", "float32"]
    assert main(["finetune", *common, "--out", str(tmp_path / "shown")]) == 0
    said = capsys.readouterr().err
    lines = (tmp_path / "shown" / run_folder.METRICS).read_text("utf-8").splitlines()
    history = [json.loads(line) for line in lines]
    samples = read_samples(tmp_path / "shown")
    for record, sample in zip(history, samples, strict=True):
        line = f"step {record['step']} of 4: training loss {record['train_loss']:.3f}, "
        line += f"validation loss {record['val_loss']:.3f}"
        assert line in said and f"\n  {sample['question']} -> " in said
        assert record["step"] == sample["step"]
    assert [record["step"] for record in history] == [0, 2, 4]
    assert len({sample["question"] for sample in samples}) == 1, "always the same"
    stored = read_json(tmp_path / "shown" / run_folder.RESPONSES)
    asked = {f"{row['instruction']} {row['input']}".strip() for row in stored}
    assert samples[0]["question"] not in asked, "a validation row, none of the test rows"

    silent = ["--sample-tokens", "0", "--out", str(tmp_path / "silent")]
    assert main(["finetune", *common, *silent]) == 0
    said = capsys.readouterr().err
    assert "step 4 of 4: training loss" in said and " -> " not in said
    assert not (tmp_path / "silent" / run_folder.SAMPLES).exists()
    weights = [(tmp_path / name / run_folder.MODEL).read_bytes() for name in ("shown", "silent")]
    assert weights[0] == weights[1]


def test_evaluate_gives_the_scores_of_the_run(run, capsys):
    assert main(["evaluate", str(run), "--json"]) == 0
    again = json.loads(capsys.readouterr().out)
    assert read_json(run / run_folder.SCORES) == again | {
        "train_seconds": read_json(run / run_folder.SCORES)["train_seconds"]
    }
    assert main(["evaluate", str(run)]) == 0
    assert "exact match  95 % interval" in capsys.readouterr().out


def test_evaluate_takes_another_file(run, number_data, capsys):
    assert main(["evaluate", str(run), "--data", str(number_data), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["n"] == 140


def test_respond_gives_the_answer_of_the_run(run, capsys):
    entry = read_json(run / run_folder.RESPONSES)[0]
    assert main(["respond", str(run), entry["instruction"], "--input", entry["input"]]) == 0
    assert capsys.readouterr().out == entry["model_response"] + "\n"


def test_respond_says_why_it_stopped_early(run, capsys):
    assert main(["respond", str(run), "Write 7 as a word.", "--max-new-tokens", "0"]) == 0
    captured = capsys.readouterr()
    assert captured.out == "\n" and "limit of new tokens" in captured.err
    assert main(["respond", str(run), "Write 7 as a word.", "--temperature", "1e-30"]) == 0
    assert main(["respond", str(run), "  "]) == 1
    assert main(["respond", str(run), "long " * 2000]) == 1
    assert "this model reads at most 1024" in capsys.readouterr().err


def test_chat_answers_line_by_line(run, run_command):
    lines = (
        "Write 7 as a word.\n\n/prompt\nSpell out the number. | 7\n/fly\n"
        + "long " * 2000
        + "\n"
        + "x" * 100_001
        + "\n/quit\nx\n"
    )
    done = run_command("-m", "ch07", "chat", run, input=lines)
    assert done.returncode == 0
    assert len(done.stdout.splitlines()) == 2
    assert "### Input:\n7\n\n### Response:" in done.stderr
    assert "no command /fly" in done.stderr and "reads at most 1024" in done.stderr
    assert "more than 100,000 characters" in done.stderr, "said, and the talk goes on"


def test_a_pipe_that_closes_ends_quietly(run, number_data):
    command = f"{sys.executable} -m ch07 evaluate {run} --json | true"
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONUNBUFFERED"}
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, env=environment)
    assert done.stderr == ""


def test_a_run_that_moved_goes_on(number_data, uninterrupted, tmp_path, capsys):
    moved = tmp_path / "elsewhere.json"
    moved.write_bytes(number_data.read_bytes())
    assert main(["finetune", "--resume", "--out", str(uninterrupted), "--data", str(moved)]) == 0


@pytest.mark.parametrize("text", ["[1]", "null", '[{"instruction": "a"}]', "["])
def test_damaged_responses_are_said(run, tmp_path, capsys, text):
    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    (copy / run_folder.RESPONSES).write_text(text, encoding="utf-8")
    assert main(["evaluate", str(copy)]) == 1
    assert run_folder.RESPONSES in capsys.readouterr().err


def test_a_run_can_start_from_a_run(run, number_data, tmp_path):
    arguments = ["--model", str(run), "--data", str(number_data), "--out", str(tmp_path / "next")]
    assert main(["finetune", *arguments, "--max-steps", "2", *SHORT, "--seed", "1"]) == 0
    assert len(read_json(tmp_path / "next" / run_folder.CONFIG)["facts"]["start_sha256"]) == 64
    first = json.loads((tmp_path / "next" / run_folder.METRICS).read_text("utf-8").splitlines()[0])
    assert first["train_loss"] < 0.5, "it starts where the other ended"
    assert read_json(tmp_path / "next" / run_folder.CONFIG)["options"]["model"] == str(run)


def test_a_folder_that_holds_a_run_is_not_overwritten(run, number_data, capsys):
    before = (run / run_folder.MODEL).read_bytes()
    assert main(["finetune", "--data", str(number_data), "--out", str(run)]) == 1
    assert "holds another run" in capsys.readouterr().err
    assert (run / run_folder.MODEL).read_bytes() == before


def steps(number_data, folder, *more):
    return [
        sys.executable, "-m", "ch07", "finetune", "--data", str(number_data), "--out", str(folder),
        "--max-steps", "20", "--seed", "2", *SHORT, *more,
    ]  # fmt: skip


@pytest.fixture(scope="session")
def uninterrupted(number_data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole") / "run"
    assert main(steps(number_data, folder)[3:]) == 0
    return folder


def compare(one, two):
    a, b = (read_tensors(folder / run_folder.MODEL) for folder in (one, two))
    assert all(torch.equal(a[name], b[name]) for name in a)
    a, b = (
        [
            json.loads(x) | {"seconds": 0}
            for x in (f / run_folder.METRICS).read_text("utf-8").splitlines()
        ]
        for f in (one, two)
    )
    assert a == b
    assert read_json(one / run_folder.RESPONSES) == read_json(two / run_folder.RESPONSES)


def test_a_resume_with_other_settings_or_data_is_refused(
    uninterrupted, number_data, tmp_path, capsys
):
    resume = ["finetune", "--resume", "--out", str(uninterrupted)]
    assert main([*resume, "--lr", "0.5", "--epochs", "9"]) == 2
    error = capsys.readouterr().err
    assert "lr was" in error and "now 0.5" in error and "epochs was" in error
    config = read_json(uninterrupted / run_folder.CONFIG)
    copy = tmp_path / "copy"
    copy.mkdir()
    other = tmp_path / "other.json"
    other.write_text(number_data.read_text("utf-8").replace("nine", "ten"), encoding="utf-8")
    config["options"] |= {"data": str(other)}
    (copy / run_folder.CONFIG).write_text(json.dumps(config), encoding="utf-8")
    assert main(["finetune", "--resume", "--out", str(copy)]) == 1
    assert "its data_sha256 was" in capsys.readouterr().err
    config["options"] |= {"data": str(number_data)}
    for part, name, value in (
        ("prompt_style", "no_input", "other"),
        ("settings", "peak_lr", 0.125),
        ("model", "n_layers", 9),
    ):
        other = config | {part: config[part] | {name: value}}
        (copy / run_folder.CONFIG).write_text(json.dumps(other), encoding="utf-8")
        assert main(["finetune", "--resume", "--out", str(copy)]) == 1
        assert f"its {name} was {value!r}" in capsys.readouterr().err


def tiny_file(tmp_path, n):
    rows = [{"instruction": f"Say {i}.", "input": "", "output": str(i)} for i in range(n)]
    path = tmp_path / "few.json"
    path.write_text(json.dumps(rows), encoding="utf-8")
    return path


@pytest.mark.parametrize("n", [1, 3])
def test_few_rows_train_all_the_same(tmp_path, capsys, n):
    folder = tmp_path / "run"
    arguments = ["--data", str(tiny_file(tmp_path, n)), "--out", str(folder), "--epochs", "2"]
    assert main(["finetune", *arguments, *SHORT]) == 0
    captured = capsys.readouterr()
    assert captured.err.count("no validation rows") == 1
    assert captured.err.count("no held-out rows") == 1
    history = [
        json.loads(line) for line in (folder / run_folder.METRICS).read_text("utf-8").splitlines()
    ]
    assert [record["step"] for record in history] == [0, 2] and history[1]["val_loss"] is None
    assert (folder / run_folder.PLOT).exists() and not (folder / run_folder.SCORES).exists()


def test_what_a_limit_destroys_is_said_before_training(tmp_path, capsys):
    path = tiny_file(tmp_path, 3)
    common = ["finetune", "--data", str(path), "--epochs", "1", *SHORT]
    assert main([*common, "--allowed-max-length", "10", "--out", str(tmp_path / "a")]) == 1
    error = capsys.readouterr().err
    assert "the whole answer is cut off at 10 tokens: row" in error
    assert "--skip-bad-rows" in error
    assert (
        main(
            [*common, "--allowed-max-length", "10", "--skip-bad-rows", "--out", str(tmp_path / "b")]
        )
        == 1
    )
    assert "no row is left to train on" in capsys.readouterr().err
    rows = json.loads(path.read_text("utf-8"))
    rows[1]["output"] = "word " * 1100
    path.write_text(json.dumps(rows), encoding="utf-8")
    assert main([*common, "--out", str(tmp_path / "c")]) == 1
    assert "1 row can't be learned from" in capsys.readouterr().err
    assert main([*common, "--skip-bad-rows", "--out", str(tmp_path / "d")]) == 0
    assert (
        "left out: more tokens than the model's context of 1024 (1: row 2 of 11"
        in capsys.readouterr().err
    )
    assert main([*common, "--allowed-max-length", "100", "--out", str(tmp_path / "e")]) == 0
    assert "cut at 100 tokens, end-of-text lost (1: row 2 of 11" in capsys.readouterr().err
    for name in "abc":
        assert not (tmp_path / name).exists(), "a run that can't start leaves no folder"


def test_the_books_split_tells_its_overlap(tmp_path, capsys):
    rows = [{"instruction": f"Say {i % 18}.", "output": str(i)} for i in range(20)]
    path = tmp_path / "leak.json"
    path.write_text(json.dumps(rows), encoding="utf-8")
    arguments = [
        "--data",
        str(path),
        "--split",
        "book",
        "--epochs",
        "1",
        "--out",
        str(tmp_path / "r"),
    ]
    assert main(["finetune", *arguments, *SHORT]) == 0
    error = capsys.readouterr().err
    assert "1 of 2 test prompts are also in training" in error
    assert "1 of 1 validation prompts are also in training" in error


def test_a_limit_beyond_the_context_is_the_context(tmp_path, capsys):
    path = tiny_file(tmp_path, 3)
    rows = json.loads(path.read_text("utf-8"))
    rows[1]["output"] = "word " * 1500
    path.write_text(json.dumps(rows), encoding="utf-8")
    arguments = ["--data", str(path), "--allowed-max-length", "2000", "--epochs", "1"]
    assert main(["finetune", *arguments, "--out", str(tmp_path / "run"), *SHORT]) == 0
    error = capsys.readouterr().err
    assert error.count("allowed_max_length exceeds the model's context; using 1024") == 1
    assert "cut at 1024 tokens, end-of-text lost (1: row 2" in error
    kept = read_json(tmp_path / "run" / run_folder.CONFIG)["facts"]["findings"]
    assert any("cut at 1024 tokens, end-of-text lost (1: row 2" in line for line in kept), (
        "what was cut is kept"
    )


def test_a_prompt_that_can_never_be_read_is_found_before_training(tmp_path, capsys):
    path = tiny_file(tmp_path, 3)
    rows = json.loads(path.read_text("utf-8"))
    rows[2] |= {"input": "word " * 1100, "split": "test"}
    path.write_text(json.dumps(rows), encoding="utf-8")
    arguments = ["--data", str(path), "--allowed-max-length", "100", "--loss-on", "all"]
    assert main(["finetune", *arguments, "--out", str(tmp_path / "run"), *SHORT]) == 1
    assert "the prompt alone exceeds the model's context of 1024: row 3" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_files_own_split_is_used_and_its_overlap_told(tmp_path, capsys):
    rows = [{"instruction": "Say 1.", "output": "1"}, {"instruction": "Say 2.", "output": "2"}]
    rows += [{"instruction": "say  1.", "output": "1", "split": "test"}]
    path = tmp_path / "own.json"
    path.write_text(json.dumps(rows), encoding="utf-8")
    arguments = ["--data", str(path), "--out", str(tmp_path / "run"), "--epochs", "1"]
    assert main(["finetune", *arguments, *SHORT]) == 0
    error = capsys.readouterr().err
    assert "using the file's `split` field" in error
    assert "1 of 1 test prompts are also in training" in error


def test_a_folder_that_is_not_empty_is_left_alone(tmp_path, capsys):
    (tmp_path / "notes.txt").write_text("mine", encoding="utf-8")
    assert main(["finetune", "--data", str(tiny_file(tmp_path, 3)), "--out", str(tmp_path)]) == 1
    assert "is not empty" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["finetune", "pretrain", "prefer"])
def test_a_name_that_no_file_could_hold_is_refused_at_once(tmp_path, capsys, command, monkeypatch):
    monkeypatch.chdir(tmp_path)
    arguments = ["runs/1"] if command == "prefer" else []
    assert main([command, *arguments, "--out", "bad\udcff"]) == 1
    assert "isn't a name in UTF-8: choose another --out" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_full_disk_is_said_before_training(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(
        new_run_folder.shutil, "disk_usage", lambda folder: type("Usage", (), {"free": 10**6})
    )
    arguments = ["--data", str(tiny_file(tmp_path, 3)), "--out", str(tmp_path / "run")]
    assert main(["finetune", *arguments]) == 1
    assert "the run may need 294 MB, but 1 MB are free" in capsys.readouterr().err
    assert not (tmp_path / "run" / run_folder.CONFIG).exists()


@pytest.mark.skipif(os.name != "posix", reason="a shell's pipe")
def test_a_run_whose_pipe_closes_goes_on_to_its_end(number_data, uninterrupted, tmp_path):
    command = " ".join(steps(number_data, tmp_path / "run"))
    script = f"({command} 2>&1 >/dev/null; echo $? > {tmp_path}/code) | head -1"
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True)
    assert done.stdout.count("\n") == 1 and done.stderr == ""
    assert (tmp_path / "code").read_text("utf-8") == "0\n"
    compare(uninterrupted, tmp_path / "run")


def test_a_run_like_another_is_the_same_to_the_bit(uninterrupted, tmp_path, capsys):
    assert main(["finetune", "--like", str(uninterrupted), "--out", str(tmp_path / "again")]) == 0
    assert f"like {uninterrupted}\n" in capsys.readouterr().err
    compare(uninterrupted, tmp_path / "again")


def test_a_run_like_another_says_what_differs(uninterrupted, number_data, tmp_path, capsys):
    like = ["finetune", "--like", str(uninterrupted), "--max-steps", "2"]
    assert main([*like, "--out", str(tmp_path / "short"), "--seed", "5"]) == 0
    said = capsys.readouterr().err
    assert "except options.seed was 2, now 5; options.max_steps was 20, now 2" in said
    config = read_json(uninterrupted / run_folder.CONFIG)
    config["facts"] |= {"data_sha256": "0" * 64, "start_sha256": "1", "tokenizer": "other"}
    config["facts"]["versions"]["torch"] = "2.0.0"
    other = tmp_path / "other"
    other.mkdir()
    (other / run_folder.CONFIG).write_text(json.dumps(config), encoding="utf-8")
    like[2] = str(other)
    assert main([*like, "--out", str(tmp_path / "new")]) == 1
    error = capsys.readouterr().err
    for part in ("data_sha256 was '0000", "start_sha256 was '1'", "tokenizer was 'other'"):
        assert part in error
    assert not (tmp_path / "new").exists()
    for name in ("start_sha256", "tokenizer"):  # a resume refuses them too
        copy = tmp_path / f"resume-{name}"
        copy.mkdir()
        changed = read_json(uninterrupted / run_folder.CONFIG)
        changed["facts"][name] = "other"
        (copy / run_folder.CONFIG).write_text(json.dumps(changed), encoding="utf-8")
        assert main(["finetune", "--resume", "--out", str(copy)]) == 1
        assert f"its {name} was 'other'" in capsys.readouterr().err


def test_other_versions_are_told(uninterrupted, tmp_path, capsys):
    config = read_json(uninterrupted / run_folder.CONFIG)
    config["facts"]["versions"]["torch"] = "2.0.0"
    (tmp_path / run_folder.CONFIG).write_text(json.dumps(config), encoding="utf-8")
    like = ["finetune", "--like", str(tmp_path), "--max-steps", "1"]
    assert main([*like, "--out", str(tmp_path / "new")]) == 0
    assert "may differ: torch was '2.0.0', now" in capsys.readouterr().err
