"""Checkpoints: complete or not there, verified when read, the last two kept."""

import pytest
import torch

from ch07.runs import checkpoint as module
from ch07.runs.checkpoint import CheckpointError, load_checkpoint, load_parameters, save_checkpoint
from ch07.utils.atomic_files import read_json, sha256_of, write_bytes, write_json
from gpt_model import GPTModel
from train_loop import TrainState, make_optimizer

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


def same_bits(one, two):
    models = all(
        torch.equal(a, b) for a, b in zip(one[0].parameters(), two[0].parameters(), strict=True)
    )
    a, b = (pair[1].state_dict()["state"] for pair in (one, two))
    return models and all(torch.equal(a[i][k], b[i][k]) for i in a for k in a[i])


def test_round_trip_is_exact(tmp_path):
    saved, state = stepped(), TrainState(1, 2, 3, 4, 5, 6.5, [{"step": 0, "val_loss": None}])
    save_checkpoint(tmp_path, *saved, state)
    other = stepped(seed=1, steps=1)
    loaded, problems = load_checkpoint(tmp_path, *other)
    assert (loaded, problems) == (state, []) and same_bits(saved, other)
    model, optimizer = other
    assert model.out_head.weight is model.tok_emb.weight
    assert optimizer.param_groups[1]["weight_decay"] == 0.0


def test_the_last_two_are_kept(tmp_path):
    for step in (5, 10, 100):
        save_checkpoint(tmp_path, *stepped(), TrainState(step=step))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step-00000010", "step-00000100"]
    save_checkpoint(tmp_path, *stepped(), TrainState(step=100))
    assert load_checkpoint(tmp_path, *stepped())[0].step == 100


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("where", ["model", "optimizer"])
def test_numbers_that_are_not_finite_are_never_saved(tmp_path, bad, where):
    save_checkpoint(tmp_path, *stepped(), TrainState(step=1))
    model, optimizer = stepped()
    first = next(iter(optimizer.state_dict()["state"].values()))["exp_avg"]
    with torch.no_grad():
        (model.final_norm.bias if where == "model" else first)[0] = bad
    with pytest.raises(CheckpointError, match=f"{where} .* holds a number that is not finite"):
        save_checkpoint(tmp_path, model, optimizer, TrainState(step=2))
    assert [p.name for p in tmp_path.iterdir()] == ["step-00000001"]


def test_a_damaged_checkpoint_does_not_count_as_one_of_the_last_two(tmp_path):
    for step in (10, 20):
        save_checkpoint(tmp_path, *stepped(), TrainState(step=step))
    (tmp_path / "step-00000020" / "model.safetensors").write_bytes(b"x")
    save_checkpoint(tmp_path, *stepped(), TrainState(step=25))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step-00000010", "step-00000025"]


def test_a_checkpoint_without_checksum_from_an_older_version_is_read(tmp_path):
    save_checkpoint(tmp_path, *stepped(), TrainState(step=5))
    path = tmp_path / "step-00000005" / "state.json"
    content = read_json(path)
    write_json(path, {key: content[key] for key in ("sha256", "state")})
    assert load_checkpoint(tmp_path, *stepped())[0].step == 5


def test_folders_of_other_names_are_not_checkpoints(tmp_path):
    save_checkpoint(tmp_path, *stepped(), TrainState(step=5))
    (tmp_path / "step-00000009.bak").mkdir()
    (tmp_path / "step-note.txt").write_text("mine", encoding="utf-8")
    assert load_checkpoint(tmp_path, *stepped())[0].step == 5
    save_checkpoint(tmp_path, *stepped(), TrainState(step=6))
    assert (tmp_path / "step-00000009.bak").is_dir()


def test_without_a_checkpoint_the_state_is_none(tmp_path):
    assert load_checkpoint(tmp_path / "none", *stepped()) == (None, [])


@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.safetensors", "state.json"])
@pytest.mark.parametrize("fault", ["flip", "cut", "remove", "empty"])
def test_a_damaged_checkpoint_is_skipped_for_the_one_before(tmp_path, name, fault):
    old = stepped(seed=1)
    save_checkpoint(tmp_path, *old, TrainState(step=1))
    save_checkpoint(tmp_path, *stepped(seed=2), TrainState(step=2))
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
    save_checkpoint(tmp_path, *stepped(seed=1), TrainState(step=1))

    def die(*arguments):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(module, moment, die)
        save_checkpoint(tmp_path, *stepped(seed=2), TrainState(step=2))
    assert load_checkpoint(tmp_path, *stepped())[0].step == 1
    save_checkpoint(tmp_path, *stepped(seed=2), TrainState(step=2))
    assert load_checkpoint(tmp_path, *stepped())[0].step == 2


def test_weights_of_a_compiled_model_load():
    saved, _ = stepped(seed=1)
    other, _ = stepped(seed=2)
    load_parameters(other, {f"_orig_mod.{name}": p for name, p in saved.named_parameters()})
    assert all(
        torch.equal(a, b) for a, b in zip(saved.parameters(), other.parameters(), strict=True)
    )


def test_leftovers_of_a_crash_and_damaged_checkpoints_are_deleted(tmp_path):
    for step in (1, 2, 9):
        save_checkpoint(tmp_path, *stepped(), TrainState(step=step))
    (tmp_path / ".new-step-00000007").mkdir()
    save_checkpoint(tmp_path, *stepped(), TrainState(step=3))  # 9 was damaged: a resume began at 2
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step-00000002", "step-00000003"]


def test_all_weights_that_do_not_fit_are_listed():
    model, _ = stepped()
    tensors = dict(model.named_parameters())
    tensors["extra"] = tensors.pop("pos_emb.weight")
    tensors["final_norm.bias"] = torch.zeros(3)
    with pytest.raises(ValueError) as caught:
        load_parameters(model, tensors)
    for part in ("pos_emb.weight is missing", "extra is not known", "(3,), expected (8,)"):
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
