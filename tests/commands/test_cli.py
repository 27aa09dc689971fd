"""The command line: quick help, exit codes, errors a person can act on."""

import json
import time

import pytest
import torch
from safetensors.torch import save_file

from ch07.commands.cli import main


def test_help_answers_at_once_and_loads_nothing_heavy(run_command):
    started = time.monotonic()
    done = run_command("-X", "importtime", "-m", "ch07", "--help")
    seconds = time.monotonic() - started
    assert done.returncode == 0
    for command in ("finetune", "respond", "evaluate", "chat"):
        assert command in done.stdout
    for heavy in ("torch", "matplotlib", "tiktoken", "numpy"):
        assert f" {heavy}\n" not in done.stderr
    assert seconds < 1, "0.2 s on a quiet machine, 0.5 s promised"


@pytest.mark.parametrize("command", ["finetune", "pretrain", "respond", "evaluate", "chat"])
def test_every_command_has_help(command, capsys):
    with pytest.raises(SystemExit) as caught:
        main([command, "--help"])
    assert caught.value.code == 0
    assert "usage: python -m ch07" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments",
    [
        ["fly"],
        ["finetune", "--epochs", "many"],
        ["finetune", "--loss-on", "some"],
        ["respond", "RUN"],
        ["respond", "RUN", "x", "--temperature", "-1"],
        ["chat", "RUN", "--top-k", "0"],
        ["evaluate", "RUN", "--max-new-tokens", "-1"],
    ],
)
def test_wrong_usage_is_exit_2(arguments, capsys):
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["finetune", "--data", "none.json"], "none.json: No such file"),
        (["--data", "none.json"], "none.json: No such file"),
        (["finetune", "--model", "nowhere"], "there is no model 'nowhere': choose one of gpt2-s"),
        (["finetune", "--device", "quantum"], "device 'quantum' can't be used here"),
        (["respond", "nowhere", "Hello"], "nowhere is not a run folder: it has no config.json"),
        (["evaluate", "nowhere"], "nowhere is not a run folder"),
        (["chat", "nowhere"], "nowhere is not a run folder"),
    ],
)
def test_errors_are_one_line_and_exit_1(arguments, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 1
    captured = capsys.readouterr()
    assert captured.err.startswith("error: ") and captured.err.count("\n") == 1
    assert message in captured.err
    assert captured.out == ""
    assert not (tmp_path / "runs").exists(), "a run that can't start leaves no folder"
    with pytest.raises((ValueError, RuntimeError, OSError)):  # -v shows the traceback
        main([*arguments, "-v"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--resume"], "--resume needs --out RUN"),
        (["--epochs", "0"], "epochs is 0, but must be between 1 and"),
        (["--data", ""], "data is empty"),
        (["--weight-decay", "inf"], "weight_decay is inf"),
        (["--max-steps", "0"], "max_steps is 0"),
        (["--batch-size", "-3"], "batch_size is -3"),
        (["--allowed-max-length", "0"], "allowed_max_length is 0"),
        (["--lr", "nan"], "lr is nan"),
        (["--warmup-steps", "-1"], "warmup_steps is -1"),
        (["--seed", str(2**40)], "seed is"),
    ],
)
def test_options_that_cannot_be_are_exit_2(arguments, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["finetune", *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_signs_that_steer_a_terminal_are_not_sent_to_it(tmp_path, capsys):
    path = tmp_path / "model.safetensors"
    save_file({"\x1b[31mred\x1b]0;title\x07": torch.ones(1)}, path)
    assert main(["finetune", "--model", str(path)]) == 1
    error = capsys.readouterr().err
    assert "\x1b" not in error and "\x07" not in error and r"\x1b[31mred" in error


def test_bad_rows_refuse_the_file_with_their_numbers(tmp_path, capsys):
    path = tmp_path / "mine.json"
    path.write_text(json.dumps([{"instruction": "x", "output": 5}] * 2), encoding="utf-8")
    assert main(["finetune", "--data", str(path)]) == 1
    error = capsys.readouterr().err
    assert "2 faulty rows" in error and "row 1: 'output' is a number" in error
