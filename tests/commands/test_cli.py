"""The command line: quick help, exit codes, errors a person can act on."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import ch07
from ch07.commands.cli import OUT_OF_MEMORY, main
from ch07.commands.parser import TARGETS, make_parser
from ch07.utils.dependencies import INSTALL_COMMAND
from ch07.utils.errors import DataError, OptionError, UserError


def test_help_answers_at_once_and_loads_nothing_heavy(run_command):
    before = os.times()
    done = run_command("-X", "importtime", "-m", "ch07", "--help")
    after = os.times()
    assert done.returncode == 0
    for command in ("finetune", "respond", "evaluate", "chat"):
        assert command in done.stdout
    for heavy in ("torch", "matplotlib", "tiktoken", "numpy"):
        assert f" {heavy}\n" not in done.stderr
    user = after.children_user - before.children_user
    system = after.children_system - before.children_system
    assert user + system < 1, "0.2 s of processor time on a quiet machine, 0.5 s promised"


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


# --- whose fault it is ----------------------------------------------------------------------------
def command_that_raises(monkeypatch, raise_it):
    """Make `grid` a command that calls `raise_it`."""
    monkeypatch.setattr("ch07.commands.cli.load_command", lambda name: lambda **given: raise_it())


def shape_bug():
    return torch.ones(2, 3) @ torch.ones(2, 3)


def test_a_bug_shows_its_traceback_and_how_to_report_it(monkeypatch, capsys):
    command_that_raises(monkeypatch, shape_bug)
    assert main(["grid"]) == 1
    error = capsys.readouterr().err
    assert error.startswith("Traceback (most recent call last):") and "in shape_bug" in error
    assert "RuntimeError: mat1 and mat2 shapes" in error
    assert "This is a bug in ch07" in error and "python -m ch07 doctor" in error
    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        main(["grid", "--verbose"])


@pytest.mark.parametrize(
    "bug", [ValueError, KeyError, TypeError, FloatingPointError, AssertionError]
)
def test_no_builtin_error_passes_for_the_users(bug, monkeypatch, capsys):
    def raise_it():
        raise bug("a\x1b[31m fault")

    command_that_raises(monkeypatch, raise_it)
    assert main(["grid"]) == 1
    error = capsys.readouterr().err
    assert "Traceback" in error and bug.__name__ in error and "\x1b" not in error


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (UserError("do this"), 1, "do this"),
        (DataError("row 3: no text"), 1, "row 3: no text"),
        (OptionError("epochs is 0"), 2, "epochs is 0"),
        (FileNotFoundError(2, "No such file", "x.json"), 1, "[Errno 2] No such file: 'x.json'"),
        (MemoryError(), 1, OUT_OF_MEMORY),
        (torch.OutOfMemoryError("CUDA out of memory"), 1, OUT_OF_MEMORY),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_what_a_person_can_act_on_is_one_line(error, code, line, monkeypatch, capsys):
    def raise_it():
        raise error

    command_that_raises(monkeypatch, raise_it)
    assert main(["grid"]) == code
    assert capsys.readouterr().err == f"error: {line}\n"


# --- what somebody new types ----------------------------------------------------------------------
def usage_error(arguments, capsys):
    """The lines of an error of usage, which is exit code 2."""
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    return captured.err.splitlines()


def help_of(arguments, capsys):
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 0
    return capsys.readouterr().out


def test_the_version_is_the_packages(capsys):
    assert help_of(["--version"], capsys) == f"ch07 {ch07.__version__}\n"


@pytest.mark.parametrize("command", [[], ["finetune"], ["doctor"], ["self-instruct"]])
def test_help_is_a_command_and_a_flag(command, capsys):
    assert help_of(["help", *command], capsys) == help_of([*command, "--help"], capsys)


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        (["fintune"], "no command 'fintune' (did you mean finetune?)"),
        (["help", "chatt"], "no command 'chatt' (did you mean chat?)"),
        (["zzz"], "no command 'zzz'"),
        (["--epochz", "3"], "no flag --epochz (did you mean --epochs?)"),
        (["doctor", "--skip-bad-row5"], "no flag --skip-bad-row5 (did you mean --skip-bad-rows?)"),
        (["finetune", "--learning=3"], "no flag --learning=3"),
        (["grid", "--zzz"], "no flag --zzz"),
        (["chat", "run", "b"], "unexpected argument 'b'"),
        (["fin\x1b[31m"], r"no command 'fin\x1b[31m'"),
    ],
)
def test_a_slip_of_the_keyboard_is_named_with_the_nearest_word(typed, meant, capsys):
    error, help_line = usage_error(typed, capsys)
    assert error == f"error: {meant}"
    command = typed[0] if typed[0] in TARGETS else "finetune" if typed[0][0] == "-" else ""
    assert help_line == f"  see python -m ch07 {command} --help".replace("  --", " --")


def test_a_data_file_without_a_command_is_told_the_command(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.json").write_text("[]", encoding="utf-8")
    error, _ = usage_error(["mine.json"], capsys)
    assert error.endswith("no command 'mine.json'; to train on that file: "
                          "python -m ch07 finetune mine.json")  # fmt: skip


@pytest.mark.parametrize("command", ["finetune", "doctor", "grid"])
def test_data_files_are_given_with_or_without_the_flag(command):
    parse = make_parser().parse_args
    assert parse([command, "a.json"]) == parse([command, "--data", "a.json"])
    assert not hasattr(parse([command]), "data"), "so that a resumed run keeps its own"
    for words in (["a", "b"], ["a", "--data", "b"], ["--data", "a", "--data", "b"]):
        assert parse([command, *words]).data == ["a", "b"]


@pytest.mark.parametrize(
    "words",
    [
        ["finetune", "--epochs", "1", "--epochs", "2"],
        ["pretrain", "--corpus", "a", "--corpus", "b"],
        ["grid", "--rows", "2", "--rows=2"],
        ["evaluate", "run", "--judge", "a", "--judge", "b"],
    ],
)
def test_an_option_that_is_given_twice_is_refused(words, capsys):
    (error, _) = usage_error(words, capsys)
    flag = words[-2] if "=" not in words[-1] else "--rows"
    assert error == f"error: {flag} is given twice: give it once"


def test_a_parser_forgets_what_it_has_seen():
    parser = make_parser()
    for _ in range(2):
        arguments = vars(parser.parse_args(["finetune", "--epochs", "1"]))
        assert arguments == {"command": "finetune", "verbose": False, "resume": False,
                             "like": None, "epochs": 1}  # fmt: skip


def test_another_interpreter_is_named_if_the_project_has_one(capsys, tmp_path, monkeypatch):
    def without_torch(name):
        raise ModuleNotFoundError("No module named 'torch'", name="torch")

    monkeypatch.setattr("ch07.commands.cli.load_command", without_torch)
    monkeypatch.setattr("ch07.commands.cli.PROJECT", tmp_path)
    assert main(["finetune"]) == 1
    sentence = "error: the package 'torch' is not installed: "
    assert capsys.readouterr().err == f"{sentence}{INSTALL_COMMAND}\n"
    folder, name = ("Scripts", "python.exe") if os.name == "nt" else ("bin", "python")
    python = tmp_path / ".venv" / folder / name
    python.parent.mkdir(parents=True)
    python.touch()
    assert main(["finetune"]) == 1
    line = f"this Python is {sys.executable}; use {python} -m ch07\n"
    assert capsys.readouterr().err == sentence + line
    monkeypatch.setattr(sys, "prefix", str(tmp_path / ".venv"))  # it is that one already
    assert main(["finetune"]) == 1
    assert capsys.readouterr().err == f"{sentence}{INSTALL_COMMAND}\n"


def test_the_wrong_folder_is_named_with_the_line_that_helps(tmp_path):
    package = Path(ch07.__file__).parent
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-S", package],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert f"  cd {package.parent}\n  python -m ch07" in done.stderr


def test_commands_that_are_printed_can_be_copied(tmp_path, capsys):
    """Also where a path has a space: what is printed names the path as one word."""
    import shlex

    from ch07.evaluation.score_report import next_commands
    from ch07.runs.run_folder import resume_command

    folder = tmp_path / "my first run"
    rows = tmp_path / "my rows.jsonl"
    rows.write_text('{"instruction": "Say it.", "output": "x"}\n' * 3, encoding="utf-8")
    store, curated, prepared = (
        tmp_path / f"a {name}" for name in ("store", "few.jsonl", "new.jsonl")
    )
    assert main(["tokenize", str(rows), str(store)]) == 0
    assert main(["curate", str(rows), str(curated), "--keep", "1", "--how", "random"]) == 0
    assert main(["prepare-data", str(rows), str(prepared)]) == 0
    printed = capsys.readouterr().out + next_commands(folder) + "\n" + next_commands(folder, True)
    commands = [line for line in printed.splitlines() if "python -m ch07" in line]
    commands.append(resume_command(folder))
    named = [str(path) for path in (store, curated, prepared, *[folder] * 4)]
    words = [shlex.split(command) for command in commands]
    assert [path for line in words for path in line if path.startswith(str(tmp_path))] == named
