"""A stranger's paths and links: nothing is written or deleted outside the folder that was named.

Files that are whole or not there, and folders that hold another run, are in test_checkpoint.py,
test_survival.py and test_export.py.
"""

import os

import pytest
import torch
from strangers import SHAPE, a_run, altered, refused

from ch07.commands.cli import main
from ch07.models.saved_run import save_model
from ch07.runs import run_folder
from ch07.runs.checkpoint import save_checkpoint
from ch07.runs.run_lock import run_lock
from ch07.utils.atomic_files import write_json, write_tensors
from gpt_model import GPTModel
from train_loop import TrainState, make_optimizer

posix = pytest.mark.skipif(os.name != "posix", reason="links as POSIX has them")


@pytest.mark.parametrize(
    "name", ["../x.safetensors", "/etc/passwd", "a/../../x", "..", "", "a\0b", 5]
)
def test_an_index_names_files_of_its_own_folder(tmp_path, capsys, name):
    index = tmp_path / "in" / "model.safetensors.index.json"
    index.parent.mkdir()
    write_tensors(tmp_path / "x.safetensors", {"wte.weight": torch.ones(2, 2)})
    write_json(index, {"weight_map": {"wte.weight": name}})
    refused(capsys, "finetune", "--model", index.parent)


def listed(folder):
    """Every file below a folder, with what is in it."""
    return {p: p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_a_runs_paths_write_nothing_elsewhere(tmp_path, number_data, monkeypatch):
    """options.out and the like of a stranger; `--like` and `--resume` write where they are told."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "gold").write_text("gold", encoding="utf-8")
    options = {"out": str(tmp_path / "precious"), "data": "../../x", "model": "../../x"}
    options |= {"max_steps": 1, "batch_size": 4}
    folder = altered(a_run(tmp_path / "run"), options=options)
    before = listed(tmp_path)
    assert main(["finetune", "--resume", "--out", str(folder)]) == 1
    assert main(["finetune", "--like", str(folder)]) == 1
    now = {path: data for path, data in listed(tmp_path).items() if path.name != ".lock"}
    assert now == before


@pytest.mark.parametrize("name", ["../../x", "/tmp/x", "..\\x", "\x00"])
def test_names_of_families_and_splits_become_no_paths(tmp_path, capsys, name, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder, data = a_run(tmp_path / "run"), tmp_path / "data.json"
    row = {"instruction": "a", "input": "", "output": "b", "family": name}
    write_json(data, [row])
    before = listed(tmp_path)
    assert main(["evaluate", str(folder), "--data", str(data)]) == 0
    write_json(data, [row | {"split": name}])
    assert "'split' is" in refused(capsys, "finetune", "--data", data)
    assert {p for p in listed(tmp_path)} == set(before)


@posix
@pytest.mark.parametrize("name", [".lock", "checkpoint", ".config.json.1.new"])
def test_links_in_a_run_lead_to_no_harm(tmp_path, name, capsys):
    precious = tmp_path / "precious"
    save_checkpoint(precious, *stepped(), TrainState(step=99))
    folder = a_run(tmp_path / "run")
    target = precious if name == "checkpoint" else precious / "step-00000099" / "state.json"
    (folder / name).symlink_to(target)
    before = listed(precious)
    if name in (".lock", "checkpoint"):
        assert "is a link" in refused(capsys, "finetune", "--resume", "--out", folder)
    else:
        with run_lock(folder):
            assert not (folder / name).is_symlink()
    assert listed(precious) == before


def stepped():
    model = GPTModel({**SHAPE, "vocab_size": 7})
    return model, make_optimizer(model.parameters())


@posix
@pytest.mark.parametrize(
    "name", ["step-00000005", "step-00000099", ".new-step-00000005", ".new-x", "step-00000005/x"]
)
def test_links_in_checkpoint_lead_to_no_deletion(tmp_path, name):
    precious, folder = tmp_path / "precious", tmp_path / "checkpoint"
    save_checkpoint(precious, *stepped(), TrainState(step=99))
    before = listed(precious)
    (folder / name).parent.mkdir(parents=True)
    (folder / name).symlink_to(precious / "step-00000099")
    for step in (5, 6, 7):
        save_checkpoint(folder, *stepped(), TrainState(step=step))
    assert listed(precious) == before
    real = {p.name for p in folder.iterdir() if not p.is_symlink()}
    assert real == {"step-00000006", "step-00000007"}


@posix
def test_a_new_file_takes_the_place_of_a_link_not_of_what_it_leads_to(tmp_path):
    gold, folder = tmp_path / "gold", a_run(tmp_path / "run")
    gold.write_text("gold", encoding="utf-8")
    for name in (run_folder.MODEL, run_folder.METRICS):
        (folder / name).unlink(missing_ok=True)
        (folder / name).symlink_to(gold)
    save_model(folder, GPTModel(SHAPE))
    run_folder.save_metrics(folder, [])
    assert gold.read_text("utf-8") == "gold"
    assert (
        not (folder / run_folder.MODEL).is_symlink()
        and not (folder / run_folder.METRICS).is_symlink()
    )
