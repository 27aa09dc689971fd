"""Checkpoints: complete or not there, verified when read, the last two kept."""

import hashlib
import json
import shutil
from dataclasses import asdict
from pathlib import Path

import pytest
import torch

from ch07.runs import checkpoint as module
from ch07.runs.checkpoint import (
    CheckpointError,
    load_checkpoint,
    newest_intact_checkpoint,
    save_checkpoint,
)
from ch07.utils.atomic_files import (
    CHECKSUM_KEY,
    read_json,
    read_tensors,
    sha256_of,
    write_bytes,
    write_json,
    write_tensors,
)
from ch07.utils.errors import InputError
from gpt_model import GPTModel
from train_loop import TrainState, make_optimizer

RECORD = {
    "step": 0, "epoch": 0.0, "tokens_seen": 0, "lr": 0.0, "seconds": 0.0,
    "train_loss": 3.0, "val_loss": None,
}  # fmt: skip
CONFIG = {"vocab_size": 30, "context_length": 8, "emb_dim": 8, "n_heads": 2, "n_layers": 1}


def stepped(seed=0, steps=2):
    """A model and an optimizer with moments of their own."""
    model = GPTModel(CONFIG, torch.Generator().manual_seed(seed))
    optimizer = make_optimizer(model.parameters())
    for i in range(steps):
        model(torch.arange(i, i + 6)[None]).sum().backward()
        optimizer.step()
        optimizer.zero_grad()
    return model, optimizer


def at(step, updates=2):
    """The state of a run that was at this step after the updates of `stepped`."""
    return TrainState(step=step, skipped=max(0, step - updates))


def same_bits(one, two):
    models = all(
        torch.equal(a, b) for a, b in zip(one[0].parameters(), two[0].parameters(), strict=True)
    )
    a, b = (pair[1].state_dict()["state"] for pair in (one, two))
    return models and all(torch.equal(a[i][k], b[i][k]) for i in a for k in a[i])


def test_round_trip_is_exact(tmp_path):
    saved, state = stepped(), TrainState(1, 2, 3, 4, 1, 6.5, [RECORD])
    save_checkpoint(tmp_path, *saved, state)
    other = stepped(seed=1, steps=1)
    loaded, problems = load_checkpoint(tmp_path, *other)
    assert (loaded, problems) == (state, []) and same_bits(saved, other)
    model, optimizer = other
    assert model.out_head.weight is model.tok_emb.weight
    assert optimizer.param_groups[1]["weight_decay"] == 0.0


def test_the_last_two_are_kept(tmp_path):
    for step in (5, 10, 100):
        save_checkpoint(tmp_path, *stepped(), at(step))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step-00000010", "step-00000100"]
    save_checkpoint(tmp_path, *stepped(), at(100))
    assert load_checkpoint(tmp_path, *stepped())[0].step == 100


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("where", ["model", "optimizer"])
def test_numbers_that_are_not_finite_are_never_saved(tmp_path, bad, where):
    save_checkpoint(tmp_path, *stepped(), at(1))
    model, optimizer = stepped()
    first = next(iter(optimizer.state_dict()["state"].values()))["exp_avg"]
    with torch.no_grad():
        (model.final_norm.bias if where == "model" else first)[0] = bad
    with pytest.raises(CheckpointError, match=f"{where} .* holds a number that is not finite"):
        save_checkpoint(tmp_path, model, optimizer, at(2))
    assert [p.name for p in tmp_path.iterdir()] == ["step-00000001"]


def test_a_damaged_checkpoint_does_not_count_as_one_of_the_last_two(tmp_path):
    for step in (10, 20):
        save_checkpoint(tmp_path, *stepped(), at(step))
    (tmp_path / "step-00000020" / "model.safetensors").write_bytes(b"x")
    save_checkpoint(tmp_path, *stepped(), at(25))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step-00000010", "step-00000025"]


def test_a_checkpoint_without_checksum_from_an_older_version_is_read(tmp_path):
    save_checkpoint(tmp_path, *stepped(), at(5))
    path = tmp_path / "step-00000005" / "state.json"
    content = read_json(path)
    write_json(path, {key: content[key] for key in ("sha256", "state")})
    assert load_checkpoint(tmp_path, *stepped())[0].step == 5


def test_folders_of_other_names_are_not_checkpoints(tmp_path):
    save_checkpoint(tmp_path, *stepped(), at(5))
    (tmp_path / "step-00000009.bak").mkdir()
    (tmp_path / "step-note.txt").write_text("mine", encoding="utf-8")
    assert load_checkpoint(tmp_path, *stepped())[0].step == 5
    save_checkpoint(tmp_path, *stepped(), at(6))
    assert (tmp_path / "step-00000009.bak").is_dir()


def test_without_a_checkpoint_the_state_is_none(tmp_path):
    assert load_checkpoint(tmp_path / "none", *stepped()) == (None, [])


@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.safetensors", "state.json"])
@pytest.mark.parametrize("fault", ["flip", "cut", "remove", "empty"])
def test_a_damaged_checkpoint_is_skipped_for_the_one_before(tmp_path, name, fault):
    old = stepped(seed=1, steps=1)
    save_checkpoint(tmp_path, *old, at(1))
    save_checkpoint(tmp_path, *stepped(seed=2), at(2))
    path = tmp_path / "step-00000002" / name
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    {
        "flip": lambda: path.write_bytes(data if name != "state.json" else b"{" + data),
        "cut": lambda: path.write_bytes(data[: len(data) // 2]),
        "remove": path.unlink,
        "empty": lambda: path.write_bytes(b""),
    }[fault]()
    other = stepped(seed=3)
    state, problems = load_checkpoint(tmp_path, *other)
    assert state.step == 1 and same_bits(old, other)
    assert len(problems) == 1 and problems[0].startswith("step-00000002: ")
    path.parent.joinpath("state.json").unlink(missing_ok=True)
    (tmp_path / "step-00000001" / "state.json").unlink()
    with pytest.raises(CheckpointError, match="no checkpoint is intact"):
        load_checkpoint(tmp_path, *other)


@pytest.mark.parametrize("moment", ["write_tensors", "write_json_with_checksum", "fsync_folder"])
def test_a_crash_while_writing_leaves_the_checkpoint_before(tmp_path, monkeypatch, moment):
    save_checkpoint(tmp_path, *stepped(seed=1, steps=1), at(1))

    def die(*arguments):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(module, moment, die)
        save_checkpoint(tmp_path, *stepped(seed=2), at(2))
    assert load_checkpoint(tmp_path, *stepped())[0].step == 1
    save_checkpoint(tmp_path, *stepped(seed=2), at(2))
    assert load_checkpoint(tmp_path, *stepped())[0].step == 2


def test_weights_of_a_compiled_model_load(tmp_path):
    saved, optimizer = stepped(seed=1)
    compiled = torch.nn.Module()
    compiled._orig_mod = saved  # as torch.compile wraps a model
    save_checkpoint(tmp_path, compiled, optimizer, at(2))
    other = stepped(seed=2)
    load_checkpoint(tmp_path, *other)
    assert same_bits((saved, optimizer), other)


def test_leftovers_of_a_crash_and_damaged_checkpoints_are_deleted(tmp_path):
    for step in (1, 2, 9):
        save_checkpoint(tmp_path, *stepped(), at(step))
    (tmp_path / ".new-step-00000007").mkdir()
    save_checkpoint(tmp_path, *stepped(), at(3))  # 9 was damaged: a resume began at 2
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step-00000002", "step-00000003"]


def test_all_weights_that_do_not_fit_are_listed(tmp_path):
    save_checkpoint(tmp_path, *stepped(), at(2))

    def change(tensors):
        tensors["extra"] = tensors.pop("pos_emb.weight")
        tensors["final_norm.bias"] = torch.zeros(3)

    alter_tensors(tmp_path / "step-00000002", "model", change)
    with pytest.raises(ValueError) as caught:
        load_checkpoint(tmp_path, *stepped())
    for part in ("pos_emb.weight is missing", "'extra' is not known", "(3,), expected (8,)"):
        assert part in str(caught.value)


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "file.json"
    write_json(path, {"a": 1})
    with pytest.raises(ValueError):
        write_json(path, {"a": float("nan")})
    with pytest.raises(TypeError):
        write_bytes(path, "text")
    assert read_json(path) == {"a": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["file.json"]
    write_bytes(path, b"abc")
    assert sha256_of(path).startswith("ba7816bf")


# --- right checksums, but nothing that a run wrote ----------------------------------------------
NAN = float("nan")
DROPPED = object()
COUNTERS = ("epoch", "batch", "step", "tokens_seen", "skipped", "seconds")
IMPOSSIBLE = (DROPPED, None, "x", True, -1, 10**30, float("inf"), NAN, [], {})


def sealed_again(folder, content):
    """Store a changed state.json with right checksums, as whoever wants to be believed would."""
    for name in content["sha256"]:
        content["sha256"][name] = sha256_of(folder / f"{name}.safetensors")
    content.pop(CHECKSUM_KEY, None)
    seal = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    text = json.dumps({**content, CHECKSUM_KEY: seal})  # `write_json` refuses NaN
    (folder / "state.json").write_text(text, encoding="utf-8")


def alter_tensors(folder, part, change):
    path = folder / f"{part}.safetensors"
    tensors = dict(read_tensors(path))
    change(tensors)
    write_tensors(path, tensors)
    sealed_again(folder, read_json(folder / "state.json"))


def change_in(values, name, value):
    if value is DROPPED:
        del values[name]
    else:
        values[name] = value


@pytest.fixture(scope="module")
def two_records(tmp_path_factory):
    """A checkpoint of step 2, with two records."""
    folder = tmp_path_factory.mktemp("whole")
    last = {**RECORD, "step": 2, "epoch": 0.5, "tokens_seen": 9, "seconds": 1.0}
    save_checkpoint(folder, *stepped(), TrainState(0, 2, 2, 9, 0, 1.0, [RECORD, last]))
    return folder


@pytest.fixture
def altered_state(two_records, tmp_path):
    """A function that changes the state of a copy; returns what is said about the copy."""
    copy = Path(shutil.copytree(two_records, tmp_path / "copy"))

    def alter(change):
        content = read_json(copy / "step-00000002" / "state.json")
        change(content)
        sealed_again(copy / "step-00000002", content)
        (problem,) = newest_intact_checkpoint(copy).problems or [None]
        return problem

    return alter


def test_a_state_that_is_sealed_again_unchanged_is_read(altered_state):
    assert altered_state(lambda content: None) is None


@pytest.mark.parametrize("name", [*COUNTERS, "history"])
@pytest.mark.parametrize("value", [*IMPOSSIBLE, 0.5, 10**9])
def test_a_counter_that_no_run_reaches_is_named(altered_state, name, value):
    if (name, value) in [("history", []), ("seconds", 0.5), ("seconds", 10**9)]:
        return  # a run may have these
    if (name, value) in [("tokens_seen", 10**9), ("batch", 10**9)]:
        return  # whether they fit is known once the run is set up
    problem = altered_state(lambda content: change_in(content["state"], name, value))
    assert problem is not None and name in problem and "\n" not in problem


@pytest.mark.parametrize("name", RECORD)
@pytest.mark.parametrize("value", IMPOSSIBLE)
def test_a_record_that_no_run_writes_is_named(altered_state, name, value):
    problem = altered_state(lambda content: change_in(content["state"]["history"][0], name, value))
    if (name, value) in [("train_loss", -1), ("val_loss", -1), ("val_loss", None)]:
        assert problem is None
    else:
        assert problem is not None and "record" in problem and "\n" not in problem


@pytest.mark.parametrize(
    "change",
    [
        lambda state: state["history"].reverse(),
        lambda state: state["history"].append(state["history"][-1]),
        lambda state: state["history"].append([1]),
        lambda state: state["history"][-1].update(step=3),
        lambda state: state["history"][-1].update(tokens_seen=10),
        lambda state: state["history"][-1].update(accuracy="x"),
        lambda state: state.update(step=3),
        lambda state: state.update(more=1),
    ],
)
def test_records_follow_one_another_and_end_at_the_step(altered_state, change):
    assert altered_state(lambda content: change(content["state"])) is not None


@pytest.mark.parametrize(
    "change",
    [
        {"state": [1]},
        {"sha256": {}},
        {"config": [1]},
        {"config": {"options": {}}},
    ],
)
def test_the_parts_of_a_state_file(altered_state, change):
    assert altered_state(lambda content: content.update(change)) is not None


ALTERED_TENSORS = {
    "missing": (lambda t: None, "is missing"),
    "of another shape": (lambda t: torch.zeros(3), "has shape"),
    "empty": (lambda t: torch.zeros(0), "has shape"),
    "whole numbers": (lambda t: t.long(), "expected torch.float32"),
    "double": (lambda t: t.double(), "expected torch.float32"),
    "NaN": (lambda t: t * NAN, "not finite"),
}


@pytest.mark.parametrize("how", ALTERED_TENSORS)
@pytest.mark.parametrize(
    ("part", "name"),
    [
        ("model", "tok_emb.weight"),
        ("optimizer", "0.0.exp_avg"),
        ("optimizer", "0.0.exp_avg_sq"),
        ("optimizer", "0.3.step"),
    ],
)
def test_a_tensor_that_does_not_fit_is_named(two_records, tmp_path, part, name, how):
    """PyTorch's fused AdamW would read memory beyond averages that are too small."""
    copy = Path(shutil.copytree(two_records, tmp_path / "copy"))
    altered, words = ALTERED_TENSORS[how]

    def change(tensors):
        value = altered(tensors.pop(name))
        if value is not None:
            tensors[name] = value

    alter_tensors(copy / "step-00000002", part, change)
    untouched = stepped(seed=1)
    before = [p.detach().clone() for p in untouched[0].parameters()]
    with pytest.raises(InputError, match=name) as caught:
        load_checkpoint(copy, *untouched)
    assert words in str(caught.value) and "\n" not in str(caught.value)
    assert all(map(torch.equal, before, untouched[0].parameters()))


@pytest.mark.parametrize("extra", ["x", "", "0.0", "a.b.c", "9.0.exp_avg", "0.99.exp_avg", "0.0.x"])
def test_optimizer_state_of_unknown_names_is_refused(two_records, tmp_path, extra):
    copy = Path(shutil.copytree(two_records, tmp_path / "copy"))
    folder = copy / "step-00000002"
    alter_tensors(folder, "optimizer", lambda tensors: tensors.update({extra: torch.zeros(2)}))
    with pytest.raises(InputError, match="is not known"):
        load_checkpoint(copy, *stepped())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda tensors: tensors.clear(), "is missing"),
        (lambda tensors: tensors["0.0.exp_avg_sq"].sub_(1), "below 0"),
        (lambda tensors: tensors["0.0.step"].fill_(10**6), "after 2 updates"),
        (lambda tensors: tensors["0.0.step"].fill_(-3), "after 2 updates"),
    ],
)
def test_optimizer_state_that_no_updates_lead_to(two_records, tmp_path, change, words):
    copy = Path(shutil.copytree(two_records, tmp_path / "copy"))
    alter_tensors(copy / "step-00000002", "optimizer", change)
    with pytest.raises(InputError, match=words):
        load_checkpoint(copy, *stepped())


@pytest.mark.parametrize("part", ["model", "optimizer"])
def test_a_file_that_is_no_safetensors_file_is_skipped_though_its_checksum_is_right(tmp_path, part):
    save_checkpoint(tmp_path, *stepped(steps=1), at(1))
    save_checkpoint(tmp_path, *stepped(), at(2))
    folder = tmp_path / "step-00000002"
    (folder / f"{part}.safetensors").write_bytes(b"junk" * 30)
    sealed_again(folder, read_json(folder / "state.json"))
    state, (problem,) = load_checkpoint(tmp_path, *stepped())
    assert state.step == 1 and f"{part}.safetensors is not a safetensors file" in problem


# --- the same of shards -------------------------------------------------------------------------
@pytest.fixture
def shards(tmp_path):
    """A checkpoint as several ranks write it, here one."""
    model, optimizer = stepped()
    folder = tmp_path / "step-00000002"
    folder.mkdir()
    weights = {name: p.detach() for name, p in model.named_parameters()}
    tensors = {**weights, **module._optimizer_tensors(optimizer)}
    write_tensors(folder / "shard-00001-model-00001-of-00001.safetensors", tensors)
    content = {"sha256": {"shard-00001-model-00001-of-00001": ""}, "state": asdict(at(2))}
    sealed_again(folder, {**content, "config": None})
    return folder


def alter_shard(folder, change):
    (name,) = read_json(folder / "state.json")["sha256"]
    alter_tensors(folder, name, change)


def test_shards_are_read_as_they_were_written(shards):
    other = stepped(seed=1)
    assert load_checkpoint(shards.parent, *other)[0] == at(2)
    assert same_bits(stepped(), other)


@pytest.mark.parametrize("name", ["", "9.9.exp_avg", "a.b.c", "0.x", "tok_emb"])
def test_names_in_shards_that_are_not_known(shards, name):
    alter_shard(shards, lambda tensors: tensors.update({name: torch.zeros(2)}))
    with pytest.raises(InputError, match="is not known"):
        load_checkpoint(shards.parent, *stepped())


@pytest.mark.parametrize("name", ["tok_emb.weight", "0.0.exp_avg_sq", "0.0.step"])
def test_shapes_and_numbers_in_shards(shards, name):
    alter_shard(shards, lambda tensors: tensors.update({name: torch.zeros(7, 7)}))
    with pytest.raises(InputError, match="has shape"):
        load_checkpoint(shards.parent, *stepped())


def test_a_place_that_no_shard_holds_is_noticed(shards):
    """Else it would be whatever was in memory."""
    (file,) = shards.glob("*.safetensors")
    tensors = dict(read_tensors(file))
    offsets = {name: {"saved_offsets": [0] * tensor.ndim} for name, tensor in tensors.items()}
    offsets["tok_emb.weight"] = {"saved_offsets": [3, 0]}
    tensors["tok_emb.weight"] = tensors["tok_emb.weight"][3:]  # the shape of the whole is as before
    write_tensors(file, tensors, {"DCP_SHARDING_INFO": json.dumps(offsets)})
    sealed_again(shards, read_json(shards / "state.json"))
    with pytest.raises(InputError, match="holds a number that is not finite"):
        load_checkpoint(shards.parent, *stepped())


@pytest.mark.parametrize("info", ["x", "[]", "{}", '{"tok_emb.weight": 5}'])
def test_positions_of_shards_that_pytorch_never_writes(shards, info):
    (file,) = shards.glob("*.safetensors")
    write_tensors(file, read_tensors(file), {"DCP_SHARDING_INFO": info})
    sealed_again(shards, read_json(shards / "state.json"))
    with pytest.raises(InputError, match="can't be read"):
        load_checkpoint(shards.parent, *stepped())


def test_a_shard_that_nobody_wrote_is_not_read(shards):
    write_tensors(shards / "more.safetensors", {"x": torch.ones(2)})
    with pytest.raises(CheckpointError, match="another file, 'more'"):
        load_checkpoint(shards.parent, *stepped())
