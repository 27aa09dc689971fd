"""Runs on disk: loaded as they were saved; whatever is not a run is refused in one sentence."""

import json

import pytest
import torch

from ch07.models.saved_run import load_run, save_model
from ch07.runs import run_folder
from ch07.runs.new_run_folder import new_run_folder
from ch07.utils.atomic_files import write_json
from ch07.utils.errors import RunFolderError
from gpt_model import GPTModel

MODEL = {
    "vocab_size": 50257, "context_length": 8, "emb_dim": 8, "n_heads": 2, "n_layers": 1,
    "drop_rate": 0.0, "qkv_bias": True, "tied_head": True,
}  # fmt: skip
STYLE = {"name": "mine", "with_input": "{instruction}: {input}\n", "no_input": "{instruction}\n"}


def make(folder, **changes):
    model = GPTModel(MODEL | {"tied_head": changes.pop("tied_head", True)})
    config = {"options": {}, "model": vars(model.config), "prompt_style": STYLE}
    config |= {"settings": {}, "facts": {}}
    folder.mkdir(exist_ok=True)
    write_json(folder / run_folder.CONFIG, config | changes)
    save_model(folder, model)
    return model


def test_dropout_may_be_the_whole_number_0(tmp_path):
    make(tmp_path, model={**MODEL, "drop_rate": 0})
    assert load_run(tmp_path).model.config.drop_rate == 0


@pytest.mark.parametrize("name", ["n_layers", "n_heads", "emb_dim"])
@pytest.mark.parametrize("value", [0, -2, 10**9])
def test_a_shape_that_no_model_can_have_is_refused(tmp_path, name, value):
    make(tmp_path)
    config = json.loads((tmp_path / run_folder.CONFIG).read_text("utf-8"))
    config["model"][name] = value
    write_json(tmp_path / run_folder.CONFIG, config)
    with pytest.raises(RunFolderError):
        load_run(tmp_path)


@pytest.mark.parametrize("tied", [True, False])
def test_the_same_bits_and_the_same_prompt_come_back(tmp_path, tied):
    model = make(tmp_path, tied_head=tied)
    run = load_run(tmp_path)
    assert run.style.prompt({"instruction": "a", "input": "b"}) == "a: b\n"
    assert (run.model.out_head.weight is run.model.tok_emb.weight) == tied
    for a, b in zip(model.parameters(), run.model.parameters(), strict=True):
        assert torch.equal(a, b)
    ids = torch.arange(6)[None]
    assert torch.equal(run.model(ids), model.eval()(ids)) and not run.model.training


@pytest.mark.parametrize(
    "fault",
    [
        "nothing",
        "no model",
        "half config",
        "no style",
        "cut",
        "text",
        "flipped bit",
        "other meaning",
        "no object",
        "other shape",
        "unknown field",
    ],
)
def test_a_folder_that_is_not_a_finished_run_is_refused(tmp_path, fault):
    make(tmp_path)
    config = json.loads((tmp_path / run_folder.CONFIG).read_text("utf-8"))
    model = tmp_path / run_folder.MODEL
    match fault:
        case "nothing":
            (tmp_path / run_folder.CONFIG).unlink()
        case "no model":
            model.unlink()
        case "half config":
            (tmp_path / run_folder.CONFIG).write_text('{"model": ', encoding="utf-8")
        case "no style":
            write_json(
                tmp_path / run_folder.CONFIG,
                {k: v for k, v in config.items() if k != "prompt_style"},
            )
        case "cut":
            model.write_bytes(model.read_bytes()[:-50])
        case "flipped bit":
            data = bytearray(model.read_bytes())
            data[-7] ^= 64
            model.write_bytes(data)
        case "text":
            model.write_text("<html>not found</html>", encoding="utf-8")
        case "other shape":
            make(tmp_path, model=config["model"] | {"emb_dim": 16})
        case "other meaning":  # fits the weights, but is not what they were trained with
            write_json(
                tmp_path / run_folder.CONFIG, config | {"model": config["model"] | {"n_heads": 4}}
            )
        case "no object":
            write_json(tmp_path / run_folder.CONFIG, config | {"settings": []})
        case "unknown field":
            make(tmp_path, model=config["model"] | {"rotary": True})
    with pytest.raises(RunFolderError, match=str(tmp_path.name)):
        load_run(tmp_path)


def test_a_new_run_never_uses_the_folder_of_another(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert [str(new_run_folder()) for _ in range(3)] == ["runs/1", "runs/2", "runs/3"]
    assert new_run_folder("mine").is_dir()
    assert new_run_folder("mine").is_dir(), "an empty folder may be used"
    make(tmp_path / "mine")
    with pytest.raises(RunFolderError, match="holds another run"):
        new_run_folder("mine")


@pytest.mark.parametrize(
    ("config", "command"),
    [
        ({"options": {"text": True}}, "pretrain"),
        ({"options": {}, "preference": {}}, "prefer"),
        ({"options": {"text": False}}, "finetune"),
        ({"options": None}, "finetune"),
        ([], "finetune"),
    ],
)
def test_a_run_is_resumed_by_the_command_that_started_it(tmp_path, config, command):
    """Whatever the folder is called."""
    folder = tmp_path / "finetune-pretrain-prefer"
    folder.mkdir()
    write_json(folder / run_folder.CONFIG, config)
    assert run_folder.command_of_run(folder) == command
    expected = f"python -m ch07 {command} --resume --out {folder}"
    assert run_folder.resume_command(folder) == expected


def test_half_a_character_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(ValueError, match="half a character"):
        write_json(tmp_path / "x.json", {"data": "\udcff"})
    assert not any(tmp_path.iterdir())
