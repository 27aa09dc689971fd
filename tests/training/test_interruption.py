"""A run is asked to stop by any signal, and made to by a second Ctrl-C alone."""

import json
import os
import signal

import pytest
import torch

from ch07.runs import run_folder
from ch07.training.interruption import describe_saved_state, explain_failures, stop_on_signal
from ch07.utils.errors import DivergedError, RunStoppedError

pytestmark = pytest.mark.skipif(os.name != "posix", reason="sends signals")


def send(name):
    os.kill(os.getpid(), getattr(signal, name))


@pytest.mark.parametrize("first", ["SIGTERM", "SIGHUP", "SIGINT"])
def test_what_is_told_twice_by_a_system_is_told_once(first):
    """torchrun passes on a SIGTERM that each process has had already."""
    said = []
    with stop_on_signal(said.append) as asked:
        assert not asked()
        for name in (first, "SIGTERM", "SIGTERM"):
            send(name)
        assert asked() and len(said) == 1
        with pytest.raises(KeyboardInterrupt):
            send("SIGINT")


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
        torch.OutOfMemoryError("CUDA out of memory"),
        MemoryError(),
    ],
    ids=["CPU", "GPU", "Python"],
)
def test_too_little_memory_says_what_is_saved(error, tmp_path):
    (tmp_path / run_folder.CONFIG).write_text("{}", encoding="utf-8")
    with pytest.raises(RunStoppedError) as caught, explain_failures(tmp_path):
        raise error
    assert "too little memory" in str(caught.value) and "resume with" in str(caught.value)


def test_numbers_that_diverge_say_what_is_saved(tmp_path):
    """Also where no rows can be named, as in training on pairs."""
    (tmp_path / run_folder.CONFIG).write_text("{}", encoding="utf-8")
    with pytest.raises(DivergedError) as caught, explain_failures(tmp_path):
        raise DivergedError("loss or gradient is not finite")
    assert str(caught.value) == "loss or gradient is not finite\nNo checkpoint was written yet"


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("watch.html", "watch.html"),
        ("checkpoint/.new-7/model.safetensors", ""),
        (None, ""),
        ("/elsewhere", "/elsewhere"),
    ],
)
def test_an_error_names_the_file_unless_it_is_temporary(tmp_path, name, place):
    path = None if name is None else str(tmp_path / name)
    with pytest.raises(RunStoppedError) as caught, explain_failures(tmp_path):
        raise IsADirectoryError(21, "Is a directory", path)
    assert str(caught.value).startswith(f"{tmp_path / place}: Is a directory. ")


def test_a_fault_of_the_program_stays_one(tmp_path):
    with pytest.raises(RuntimeError, match="shapes") as caught, explain_failures(tmp_path):
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")
    assert type(caught.value) is RuntimeError


def test_only_a_finetuned_run_is_started_again_by_like(tmp_path):
    for number, (config, command) in enumerate(
        [
            ({"options": {}}, "Start again: python -m ch07 finetune --like"),
            ({"options": {"text": True}}, "Start again"),
            ({"options": {}, "preference": {}}, "Start again"),
        ]
    ):
        folder = tmp_path / f"finetune-{number}"
        (folder / run_folder.CHECKPOINT / "step-00000001").mkdir(parents=True)
        (folder / run_folder.CONFIG).write_text(json.dumps(config), encoding="utf-8")
        state = describe_saved_state(folder)
        assert state.startswith(command) and ("--like" in state) == ("--like" in command)
