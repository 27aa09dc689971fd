"""Safe to point at a stranger's file: nothing in it runs, climbs out, blows up or hangs.

More of this stands elsewhere: pickles that are no weights, headers that lie, pipes and a deep
config in test_pretrained.py; names and redirects from a server in test_hub_download.py; faulty
rows and random bytes in test_entries.py; shapes that no model has and altered runs in
test_run_folder.py; damaged checkpoints in test_checkpoint.py; altered results in test_export.py.
Paths and links are in test_links.py, what is sent to a terminal in test_terminal.py, random files
in test_fuzz.py.
"""

import json
import os
import pickle
import shutil
import threading
import time
from pathlib import Path

import pytest
import strangers
import torch
from strangers import SHAPE, a_run, altered, refused

from ch07.data import opened_file
from ch07.data.entries import load_entries
from ch07.models.hf_export import export_hf
from ch07.models.saved_run import save_model
from ch07.runs import run_folder
from ch07.runs.checkpoint import save_checkpoint
from ch07.utils.atomic_files import read_json, sha256_of, write_json, write_tensors
from ch07.utils.errors import DataError
from gpt_model import GPTModel
from train_loop import TrainState, make_optimizer

posix = pytest.mark.skipif(os.name != "posix", reason="pipes as POSIX has them")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A run and a folder for transformers, to copy."""
    place = tmp_path_factory.mktemp("made")
    a_run(place / "run")
    export_hf(GPTModel(SHAPE), place / "hf")
    return place


@pytest.fixture
def runs(made, tmp_path):
    return Path(shutil.copytree(made / "run", tmp_path / "run"))


@pytest.fixture
def hf_folder(made, tmp_path):
    return Path(shutil.copytree(made / "hf", tmp_path / "hf"))


# --- programs in weights ------------------------------------------------------------------------


class Evil:
    """Makes a file when it is unpickled as Python does it."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return open, (str(self.marker), "w")


def pickled(form, marker, path):
    if form == "plain":
        path.write_bytes(pickle.dumps(Evil(marker)))
    else:
        state = {"model_state_dict": {"tok_emb.weight": torch.ones(2)}, "more": Evil(marker)}
        torch.save(state, path, _use_new_zipfile_serialization=form == "zip")


@pytest.mark.parametrize("form", ["plain", "zip", "old"])
@pytest.mark.parametrize(
    "name", ["gpt2.pth", "pytorch_model.bin", "model.safetensors", "run", "checkpoint"]
)
def test_a_program_in_a_pickle_never_runs(made, tmp_path, capsys, form, name):
    marker, folder = tmp_path / "it ran", tmp_path / "folder"
    command = ["finetune", "--model", folder]
    if name == "run":
        shutil.copytree(made / "run", folder)
        pickled(form, marker, folder / run_folder.MODEL)
        altered(folder)
        command = ["respond", folder, "Name a colour."]
    elif name == "checkpoint":
        model = GPTModel({**SHAPE, "vocab_size": 7})
        save_checkpoint(folder, model, make_optimizer(model.parameters()), TrainState(step=1))
        pickled(form, marker, folder / "step-00000001" / "model.safetensors")
        command = ["finetune", "--resume", "--out", folder]
    else:
        folder.mkdir()
        (folder / "config.json").write_text('{"n_head": 2}', encoding="utf-8")
        pickled(form, marker, folder / name)
        command[-1] = folder / name if name == "gpt2.pth" else folder
    refused(capsys, *command)
    assert not marker.exists()


def test_the_program_would_run_if_it_were_let(tmp_path):
    pickle.loads(pickle.dumps(Evil(tmp_path / "it ran"))).close()
    assert (tmp_path / "it ran").exists()


# --- bombs --------------------------------------------------------------------------------------


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="Linux tells the peak")
def test_bombs_end_in_a_sentence_and_not_in_memory(tmp_path, run_command):
    """Each in a process of its own; a second of computing is usual, 300 MB the limit."""
    done = run_command(strangers.__file__, tmp_path)
    found = json.loads(done.stdout)
    assert len(found) == 35, done.stderr
    for name, end in found.items():
        assert end["code"] == 1 and end["said"].startswith("error: "), (name, end)
        assert end["said"].count("\n") <= 12 and len(end["said"]) < 3000, name
        assert end["grown"] < strangers.HUGE, (name, end["grown"])
        assert end["seconds"] < 3, (name, end["seconds"])


@posix
@pytest.mark.parametrize("first", ["reader", "writer"])
def test_a_pipe_that_somebody_writes_to_is_read(tmp_path, number_data, monkeypatch, first):
    """`--data <(...)`, or a pipe with a name: the words come when they come."""
    monkeypatch.setattr(opened_file, "WRITER_SECONDS", 60.0)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)

    data = number_data.read_bytes()
    written = []

    def write():
        if first == "reader":
            time.sleep(0.2)
        with open(pipe, "wb") as file:  # waits for the reader
            written.append(file.write(data))

    writing = threading.Thread(target=write, daemon=True)
    writing.start()
    if first == "writer":
        time.sleep(0.2)  # if that is too short, the reader waits
    assert load_entries(pipe) == load_entries(number_data)
    writing.join(60)
    assert written == [len(data)]


@posix
def test_a_pipe_that_nobody_writes_to_is_given_up(tmp_path, monkeypatch):
    monkeypatch.setattr(opened_file, "WRITER_SECONDS", 0.1)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(DataError, match="no process writes to"):
        load_entries(tmp_path / "pipe")


# --- shapes and prompts -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *[(name, 10**30) for name in ("vocab_size", "context_length", "emb_dim", "n_heads")],
        *[("emb_dim", v) for v in (10**9, 0, -8, "8", "%300000000d", 8.0, None, [8], True)],
        *[("n_layers", v) for v in (10**6, 1000, 0, "1", True)],
        *[("n_heads", v) for v in (0, -2, 3, "2")],
        *[("context_length", v) for v in (2**40, 2**63, 0)],
        *[("drop_rate", v) for v in (2, -1, "0.1", float("1e400"), None)],
        *[(name, v) for name in ("qkv_bias", "tied_head") for v in ("no", 1, [])],
        ("rotary", True),
    ],
)
def test_a_runs_shape_is_looked_at_before_it_is_built(runs, capsys, name, value):
    text = json.dumps(read_json(runs / run_folder.CONFIG))
    values = SHAPE | {name: value}
    sized = text.replace(json.dumps(SHAPE), json.dumps(values))
    assert sized != text
    (runs / run_folder.CONFIG).write_text(sized, encoding="utf-8")
    config = json.loads(sized)
    config["model_sha256"] = run_folder.model_checksum(config, sha256_of(runs / run_folder.MODEL))
    (runs / run_folder.CONFIG).write_text(json.dumps(config), encoding="utf-8")
    for command in (["respond", runs, "a"], ["finetune", "--model", runs]):
        assert len(refused(capsys, *command)) < 1000


@pytest.mark.parametrize(
    "changes",
    [
        *[{"n_layer": v} for v in (10**6, 10**30, 1000, 0, -1, "1", True, None, [])],
        *[{"n_head": v} for v in (10**9, 0, -2, 3, "2", 2.0, None, [])],
        *[{name: 2**40} for name in ("n_positions", "n_embd", "vocab_size", "n_inner")],
        *[{name: "../../x"} for name in ("model_type", "activation_function", "n_inner")],
        {"tie_word_embeddings": "../x"},
    ],
)
def test_a_folders_shape_is_looked_at_before_it_is_built(hf_folder, capsys, changes):
    config = read_json(hf_folder / "config.json") | changes
    write_json(hf_folder / "config.json", config)
    assert len(refused(capsys, "finetune", "--model", hf_folder)) < 1000


@pytest.mark.parametrize("which", ["with_input", "no_input"])
@pytest.mark.parametrize(
    "template",
    [
        "{instruction.__class__}", "{instruction[0]}", "{0}", "{}", "{output}", "{", "}", "{a}b}",
        "{instruction!r}", "{instruction:>999999999}", "{input:{instruction}}", 5, None, [], {},
    ],
)  # fmt: skip
def test_a_strangers_prompt_is_refused_when_the_run_is_loaded(runs, capsys, which, template):
    altered(runs, prompt_style={which: template})
    for command in (["respond", runs, "a"], ["finetune", "--model", runs]):
        assert "can't be read" in refused(capsys, *command)


@pytest.mark.parametrize(
    ("part", "values"),
    [
        ("prompt_style", {"name": ["book"]}),
        ("prompt_style", {"extra": "x"}),
        ("facts", {"versions": ["x"]}),
        *[("options", {name: [5]}) for name in ("data", "model", "epochs", "loss_on", "seed")],
        ("options", {"seed": 1.5}),
        ("options", {"model": 5}),
        ("options", {"lr": "0.1"}),
        *[("options", {name: True}) for name in ("epochs", "batch_size", "seed", "beta2", "lr")],
        *[("settings", {"peak_lr": v}) for v in ("x", None, -1, 0, True, [])],
        *[("settings", {"num_epochs": v}) for v in (0, 1.5, "2", None)],
        *[("settings", {"dtype": v}) for v in ("float16", None, [], True)],
        *[("facts", {"rows": v}) for v in ([], {"train": -1}, {"train": True}, {"train": "x"})],
        *[("facts", {"versions": {"threads": v}}) for v in ("x", 0, -1, 10**30, True, [])],
        *[("facts", {"conversations": {"turns": v, "system": True}}) for v in ("x", 0, True, [])],
        ("facts", {"conversations": {"turns": 2, "system": "x"}}),
        ("facts", {"data_sha256": 5}),
        ("facts", {"tokenizer": None}),
    ],
)
def test_what_isnt_of_the_kind_that_is_written(runs, capsys, part, values):
    altered(runs, **{part: values})
    for command in (["finetune", "--like", runs], ["compare", runs, runs]):
        assert "config.json can't be read" in refused(capsys, *command)


def test_half_a_character_in_a_config(runs, capsys):
    config = read_json(runs / run_folder.CONFIG)
    config["facts"]["findings"] = ["\ud83d"]
    (runs / run_folder.CONFIG).write_text(json.dumps(config), encoding="utf-8")
    assert "half a character" in refused(capsys, "compare", runs, runs)


@pytest.mark.parametrize("n_tokens", [50256, 50258, 50304, 10])
def test_a_run_has_as_many_tokens_as_its_tokenizer(tmp_path, capsys, number_data, n_tokens):
    """Else ids would mean nothing, or have no token."""
    shape = {**SHAPE, "vocab_size": n_tokens}
    folder = a_run(tmp_path / "run")
    config = read_json(folder / run_folder.CONFIG)
    write_json(folder / run_folder.CONFIG, {**config, "model": shape})
    save_model(folder, GPTModel(shape))
    for command in (
        ["respond", folder, "Name a colour."],
        ["chat", folder],
        ["evaluate", folder, "--data", number_data],
        ["grid", number_data, "--run", folder],
        ["export", folder, tmp_path / "exported"],
        ["prefer", folder, "--out", tmp_path / "new"],
        ["finetune", "--model", folder, "--out", tmp_path / "new"],
    ):
        error = refused(capsys, *command)
        assert f"{n_tokens:,} tokens, but its tokenizer (gpt2) has 50,257" in error, command
        assert error.count("\n") == 1


# --- headers ------------------------------------------------------------------------------------

ONE = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}


@pytest.mark.parametrize(
    "lie",
    [
        *[{"dtype": v} for v in ("F33", "", 5, None, "../x")],
        *[{"shape": v} for v in ([2**62, 2**62], [2**63], [-1], [1.5], 1, None, [10**30])],
        *[{"data_offsets": v} for v in ([0, 2**62], [8, 4], [-4, 0], [0], [4, 8], None)],
        {"dtype": "BOOL", "data_offsets": [0, 1]},
    ],
)
def test_a_header_that_lies_about_sizes_offsets_or_kinds(tmp_path, runs, capsys, lie):
    path = tmp_path / "model.safetensors"
    command = strangers.header(json.dumps({"wte.weight": ONE | lie}), path)
    assert "model.safetensors" in refused(capsys, *command)
    shutil.copy(path, runs / run_folder.MODEL)
    altered(runs)
    refused(capsys, "respond", runs, "a")
    refused(capsys, "compare", runs, runs)


def test_embeddings_without_numbers(tmp_path, capsys):
    write_tensors(tmp_path / "x.safetensors", {
        "wte.weight": torch.ones(5, 0), "wpe.weight": torch.ones(5, 0)
    })  # fmt: skip
    assert "holds empty embeddings" in refused(
        capsys, "finetune", "--model", tmp_path / "x.safetensors"
    )
