"""Two runs side by side: equal to the bit, or the first step and the setting that differ."""

import json
import shutil

import pytest
import torch

from ch07.commands.cli import main
from ch07.runs import run_folder
from ch07.utils.atomic_files import read_json, read_tensors, write_json, write_tensors


@pytest.fixture
def copy(run, tmp_path):
    return shutil.copytree(run, tmp_path / "copy")


def compared(capsys, one, two):
    code = main(["compare", str(one), str(two), "--json"])
    return code, json.loads(capsys.readouterr().out)


def test_a_run_is_the_same_as_its_copy(run, copy, capsys):
    config = read_json(copy / run_folder.CONFIG)
    config["options"] |= {"out": "elsewhere", "checkpoint_minutes": 1.0, "data": "moved.json"}
    write_json(copy / run_folder.CONFIG, config)
    assert compared(capsys, run, copy)[0] == 0
    assert main(["compare", str(run), str(copy)]) == 0
    assert capsys.readouterr().out.startswith("the same run: settings, numbers, weights and answ")


def test_a_run_of_an_older_version_lacks_options_and_differs_in_none(run, copy, capsys):
    config = read_json(copy / run_folder.CONFIG)
    for name in ("rows", "corrected", "residual_dropout", "beta2"):
        del config["options"][name]
    write_json(copy / run_folder.CONFIG, config)
    assert compared(capsys, run, copy)[0] == 0
    del config["options"]["shared_beginning"]  # older versions read each row's beginning
    write_json(copy / run_folder.CONFIG, config)
    code, found = compared(capsys, run, copy)
    assert code == 1
    assert [setting["name"] for setting in found["settings"]] == ["options.shared_beginning"]


def test_the_first_step_that_differs_and_the_setting_are_named(run, copy, capsys):
    config = read_json(copy / run_folder.CONFIG)
    config["options"]["lr"] = 0.5
    config["facts"]["versions"]["torch"] = "1.0"
    write_json(copy / run_folder.CONFIG, config)
    lines = (copy / run_folder.METRICS).read_text("utf-8").splitlines()
    records = [json.loads(line) for line in lines]
    last_equal, first = records[1]["step"], records[2]["step"]
    records[2]["val_loss"] += 1e-15
    records[3]["train_loss"] += 1
    for record in records[1:]:
        record["seconds"] += 5  # time is no number of the run
    run_folder.save_metrics(copy, records)
    code, found = compared(capsys, run, copy)
    assert code == 1 and not found["same"]
    names = {setting["name"] for setting in found["settings"]}
    assert names == {"options.lr", "facts.versions.torch"}
    assert (found["numbers"]["first"], found["numbers"]["last_equal"]) == (first, last_equal)
    assert list(found["numbers"]["values"]) == ["val_loss"]
    assert not found["weights"]["differ"] and not found["answers"]["differ"]
    assert main(["compare", str(run), str(copy)]) == 1
    out = capsys.readouterr().out
    assert f"the first step that differs is {first}: val_loss" in out
    assert "options.lr: 0.0025 and 0.5" in out and f"(step {last_equal} was still equal)" in out


def test_weights_and_answers_that_differ_are_counted(run, copy, capsys):
    tensors = read_tensors(copy / run_folder.MODEL)
    tensors["final_norm.bias"][0] += 0.25
    write_tensors(copy / run_folder.MODEL, tensors)
    answers = read_json(copy / run_folder.RESPONSES)
    answers[3]["model_response"] = "\x1b[31mred"
    write_json(copy / run_folder.RESPONSES, answers)
    code, found = compared(capsys, run, copy)
    assert code == 1 and found["weights"]["tensors"] == ["final_norm.bias"]
    assert found["weights"]["largest"] == pytest.approx(0.25) and found["answers"]["entries"] == 1
    assert main(["compare", str(run), str(copy)]) == 1
    out = capsys.readouterr().out
    assert "1 of" in out and r"\x1b[31mred" in out and "\x1b" not in out


def test_the_tensors_of_an_adapter_are_compared_too(run, copy, tmp_path, capsys):
    same = shutil.copytree(copy, tmp_path / "same")
    for folder, value in ((copy, 1.0), (same, 1.5)):
        (folder / run_folder.ADAPTER).mkdir()
        adapter = {"lora_A.weight": torch.full((2, 2), value)}
        write_tensors(folder / run_folder.ADAPTER / run_folder.ADAPTER_WEIGHTS, adapter)
    code, found = compared(capsys, copy, same)
    assert code == 1 and found["weights"]["tensors"] == ["lora_A.weight"]
    assert found["weights"]["largest"] == 0.5
    assert found["weights"]["of"] == len(read_tensors(run / run_folder.MODEL)) + 1
    code, found = compared(capsys, run, copy)
    assert code == 1 and found["weights"]["tensors"] == ["lora_A.weight"], "only one has it"


def test_evaluations_at_other_steps_are_compared_where_both_have_one(run, copy, capsys):
    records = run_folder.read_metrics(copy)
    run_folder.save_metrics(copy, records[::2])
    code, found = compared(capsys, run, copy)
    assert code == 1 and "first" not in found["numbers"]
    assert found["numbers"]["shared"] == len(records[::2])


def test_an_unfinished_run_is_compared_as_far_as_it_went(run, copy, capsys):
    for name in (run_folder.MODEL, run_folder.RESPONSES):
        (copy / name).unlink()
    code, found = compared(capsys, run, copy)
    assert code == 1 and found["weights"]["missing"] == [str(copy)]
    assert main(["compare", str(run), str(copy)]) == 1
    assert f"weights: not compared, since a run has not finished: {copy}" in capsys.readouterr().out
    code, found = compared(capsys, copy, copy)
    assert code == 1 and not found["same"], "equal as far as they went isn't the same run"


def test_other_questions_are_not_compared(run, copy, capsys):
    answers = read_json(copy / run_folder.RESPONSES)
    answers[0]["instruction"] = "Something else?"
    write_json(copy / run_folder.RESPONSES, answers)
    assert main(["compare", str(run), str(copy)]) == 1
    assert "answers: not compared, since the questions differ" in capsys.readouterr().out


@pytest.mark.parametrize("text", ["{", "[1]", '{"a": 1}', "\x00"])
def test_damaged_metrics_are_said(run, copy, capsys, text):
    (copy / run_folder.METRICS).write_text(text, encoding="utf-8")
    assert main(["compare", str(run), str(copy)]) == 1
    assert f"{run_folder.METRICS} can't be read" in capsys.readouterr().err
    assert main(["compare", str(run), str(copy / "nowhere")]) == 1
    assert "is not a run folder" in capsys.readouterr().err


def test_logged_losses_come_again_from_the_saved_weights(run, capsys):
    assert main(["evaluate", str(run), "--losses", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    last = run_folder.read_metrics(run)[-1]
    for name in ("train_loss", "val_loss"):
        assert found[name] == {"logged": last[name], "now": last[name], "equal": True}
    assert main(["evaluate", str(run), "--losses"]) == 0
    assert capsys.readouterr().out.count(": equal\n") == 2


def test_losses_of_other_data_are_refused(run, number_data, tmp_path, capsys):
    rows = json.loads(number_data.read_text("utf-8"))
    other = tmp_path / "other.json"
    other.write_text(json.dumps(rows[:-1]), encoding="utf-8")
    assert main(["evaluate", str(run), "--losses", "--data", str(other)]) == 1
    assert "data_sha256 was" in capsys.readouterr().err


def test_runs_without_answers_can_be_the_same(run, copy, tmp_path, capsys):
    """As runs on plain text, or on pairs, are; only one without answers is another matter."""
    (copy / run_folder.RESPONSES).unlink()
    code, found = compared(capsys, run, copy)
    assert code == 1 and not found["same"]
    other = shutil.copytree(copy, tmp_path / "other")
    code, found = compared(capsys, copy, other)
    assert code == 0 and found["same"]
    assert main(["compare", str(copy), str(other)]) == 0
    assert "no answers" in capsys.readouterr().out
