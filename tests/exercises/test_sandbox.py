"""A learner's file in a process of its own: whatever it does, there is an answer."""

import json
import subprocess
import sys

import pytest

from ch07.commands.cli import main
from ch07.exercises import sandbox_process
from ch07.exercises.catalogue import exercises
from ch07.exercises.sandbox import check_file, open_sandbox

RIGHT = """
import torch

def custom_collate_draft_1(batch, pad_token_id=50256, device="cpu"):
    width = max(map(len, batch))
    rows = [row + [pad_token_id] * (width - len(row)) for row in batch]
    return torch.tensor(rows).to(device)
"""


def write(tmp_path, text, name="mine.py"):
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return path


def test_loops_exits_and_prints_are_survived_and_the_rest_is_checked(tmp_path):
    text = """
print("while it is imported")

def format_input(entry):
    while True:
        pass

def calc_loss_batch(input_batch, target_batch, model, device):
    import os
    os._exit(3)

def KVCache(n_layers, max_length):
    raise SystemExit
"""
    reports = check_file(write(tmp_path, text + RIGHT), seconds=2)
    found = {report.exercise: report for report in reports}
    assert list(found) == [e.name for e in exercises() if e.name in found]  # in their order
    assert found["format_input"].diagnosis == "endless"
    assert "within 2 seconds; it was at line " in found["format_input"].sentence
    assert found["calc_loss_batch"].diagnosis == "process-ended"
    assert "exit code 3" in found["calc_loss_batch"].sentence
    assert "SystemExit" in found["KVCache"].sentence
    assert found["custom_collate_draft_1"].ok


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("def format_input(entry:\n    pass", "line 1: def format_input(entry:"),
        ("import no_such_module\ndef format_input(entry): pass", "No module named"),
        ("def format_input(entry): pass\n1 / 0", "ZeroDivisionError: division by zero (line 2"),
        ("input()\ndef format_input(entry): pass", "EOFError"),
        ("def format_input(entry): pass\nraise SystemExit", "SystemExit"),
    ],
    ids=["syntax", "import", "at the end", "asks", "exits"],
)
def test_a_file_that_cannot_be_imported_says_why(tmp_path, text, words):
    (report,) = check_file(write(tmp_path, text))
    assert report.status == "mistake" and words in report.sentence, report


def test_a_file_that_never_ends_its_import_is_stopped(tmp_path):
    text = "def format_input(entry): pass\nwhile True: pass"
    (report,) = check_file(write(tmp_path, text), seconds=2)
    assert report.diagnosis == "endless" and "line 2" in report.sentence


def test_files_beside_it_can_be_imported_but_never_replace_ours(tmp_path):
    write(tmp_path, "WIDTH = 5", "helper_of_mine.py")
    write(tmp_path, "def custom_collate_fn(*a, **k): return None", "collate.py")
    text = "import helper_of_mine, collate\nassert collate.END_OF_TEXT\n"
    (report,) = check_file(write(tmp_path, text + RIGHT))
    assert report.ok, report


def test_a_file_without_an_exercise_and_the_solution_itself_are_refused(tmp_path):
    with pytest.raises(ValueError, match="defines none of the exercises' names: format_input"):
        check_file(write(tmp_path, "from collate import custom_collate_fn"))
    with pytest.raises(ValueError, match="is the project's own solution"):
        check_file(_root() / "collate.py")
    binary = tmp_path / "binary.py"
    binary.write_bytes(b"\xff\xfe\x00")
    assert check_file(binary)[0].diagnosis == "syntax"
    binary.write_bytes(b"a\x00b")
    assert check_file(binary)[0].diagnosis == "syntax"
    assert "contains null bytes" in check_file(binary)[0].sentence


def test_of_a_very_long_line_only_the_beginning_is_quoted(tmp_path):
    long = "a" * 100_000
    for line in (f"x = ! {long}", f"raise ValueError(1)  # {long}"):
        (report,) = check_file(write(tmp_path, RIGHT + line))
        assert report.status == "mistake" and len(report.sentence) < 1000


def _root():
    from ch07.exercises.sandbox_process import ROOT

    return ROOT


def test_a_byte_order_mark_a_thread_and_a_conditional_definition_are_no_obstacle(tmp_path):
    text = (
        "\ufeff"
        + RIGHT
        + """
import threading, time

threading.Thread(target=lambda: time.sleep(60)).start()
if True:
    async def format_input(entry):
        return ""
"""
    )
    reports = {r.exercise: r for r in check_file(write(tmp_path, text), seconds=5)}
    assert reports["custom_collate_draft_1"].ok
    assert reports["format_input"].diagnosis == "async"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the limit is Linux's")
def test_memory_is_limited(tmp_path):
    text = "def format_input(entry):\n    return str(len(bytearray(2 << 30)))\n"
    (report,) = check_file(write(tmp_path, text))
    assert report.diagnosis == "raised" and "MemoryError" in report.sentence, report


def test_a_file_of_another_name_is_refused(tmp_path):
    for name in ("mine.txt", "mine"):
        with pytest.raises(ValueError, match=r"ends in \.py"):
            check_file(write(tmp_path, RIGHT, name))


def test_an_error_inside_torch_is_told_with_the_learners_line(tmp_path):
    text = """
from torch import nn

class TransformerBlock(nn.Module):
    def __init__(self, config, layer):
        super().__init__()

    def forward(self, x):
        return x

    def state_dict(self):
        return self.drop_shrotcut
"""
    (report,) = check_file(write(tmp_path, text))
    assert "line 12: return self.drop_shrotcut" in report.sentence


# --- several files share a start of PyTorch, and nothing else -----------------------------------

needs_fork = pytest.mark.skipif(not sandbox_process.CAN_FORK, reason="the fork server is Linux's")


@pytest.fixture
def starts(monkeypatch):
    """The commands of the interpreters that were started."""
    commands = []

    class Counting(subprocess.Popen):
        def __init__(self, command, *arguments, **options):
            commands.append(command)
            super().__init__(command, *arguments, **options)

    monkeypatch.setattr(sandbox_process.subprocess, "Popen", Counting)
    return commands


@needs_fork
def test_one_interpreter_is_started_for_all_files_whatever_they_do(tmp_path, starts):
    """Each file still finds modules, memory and standard input as if it were the first."""
    spoils = """
import collate, sys, torch

torch.tensor = collate.custom_collate_draft_1 = None
sys.modules["collate"] = None
KEPT = [bytearray(300 << 20)]

def format_input(entry):
    sys.stdin.close()
    import os
    os._exit(7)
"""
    with open_sandbox() as sandbox:
        for number in range(4):  # more memory in all than one process may have
            (report,) = sandbox.check_file(write(tmp_path, spoils, f"spoils_{number}.py"))
            assert "exit code 7" in report.sentence, report
        (report,) = sandbox.check_file(write(tmp_path, RIGHT, "right.py"))
        assert report.ok, report
    assert len(starts) == 1


@needs_fork
def test_a_file_that_kills_its_parent_gets_a_report_and_the_next_file_is_checked(tmp_path, starts):
    kills = """
import os, signal

def format_input(entry):
    os.kill(os.getppid(), signal.SIGKILL)
    while True:
        pass
"""
    with open_sandbox() as sandbox:
        (report,) = sandbox.check_file(write(tmp_path, kills, "kills.py"))
        assert report.diagnosis == "process-ended" and "signal 9" in report.sentence, report
        assert sandbox.check_file(write(tmp_path, RIGHT))[0].ok
    assert len(starts) == 1  # what is above the parent forks another one


@needs_fork
def test_a_file_that_stops_its_parent_gets_a_report_at_once(tmp_path, starts):
    """No time limit is waited for, which nobody would enforce if the command itself had died."""
    stops = """
import os, signal

def format_input(entry):
    os.kill(os.getppid(), signal.SIGSTOP)
    while True:
        pass
"""
    with open_sandbox() as sandbox:
        (report,) = sandbox.check_file(write(tmp_path, stops, "stops.py"), seconds=3600)
        assert report.exercise == "format_input" and report.diagnosis == "process-ended", report
        assert sandbox.check_file(write(tmp_path, RIGHT))[0].ok
    assert len(starts) == 1


@needs_fork
def test_the_fork_server_ends_with_the_sandbox(tmp_path):
    with open_sandbox() as sandbox:
        sandbox.check_file(write(tmp_path, RIGHT))
        server = sandbox._runner._server
        assert server.poll() is None
    assert server.returncode is not None


def test_without_fork_each_file_has_an_interpreter_of_its_own(tmp_path, starts, monkeypatch):
    """As on Windows and macOS: the same reports, only later."""
    monkeypatch.setattr(sandbox_process, "CAN_FORK", False)
    text = """
def format_input(entry):
    while True:
        pass
"""
    reports = {r.exercise: r for r in check_file(write(tmp_path, text + RIGHT), seconds=2)}
    assert "within 2 seconds; it was at line " in reports["format_input"].sentence
    assert reports["custom_collate_draft_1"].ok
    assert len(starts) == 2


# --- the command --------------------------------------------------------------------------------


def test_a_beginners_way_through_the_command(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["check"]) == 0
    listed = capsys.readouterr().out
    assert all(exercise.name in listed for exercise in exercises())
    assert main(["check", "--start", "mine"]) == 0
    first = tmp_path / "mine" / exercises()[0].stub
    assert f"python -m ch07 check mine/{exercises()[0].stub}" in capsys.readouterr().out
    assert main(["check", str(first)]) == 0
    assert "not started" in capsys.readouterr().out
    first.write_text("def format_input(entry):\n    return 'hello'\n", encoding="utf-8")
    assert main(["check", str(first)]) == 1
    shown = capsys.readouterr().out
    assert "✗ format_input: The preamble's words are not as given." in shown
    assert "0 right, 1 with a mistake, 0 not started." in shown
    assert main(["check", "--start", "mine"]) == 0  # nothing is overwritten
    assert f"{len(exercises())} were there already" in capsys.readouterr().out
    assert "hello" in first.read_text(encoding="utf-8")
    assert main(["check", "--hint", "format_input", "--level", "3"]) == 0
    assert "Hint 3 of 3" in capsys.readouterr().out


def test_json_and_exit_codes(tmp_path, capsys):
    path = write(tmp_path, RIGHT)
    assert main(["check", str(path), "--json"]) == 0
    (report,) = json.loads(capsys.readouterr().out)
    assert report["status"] == "passed" and report["exercise"] == "custom_collate_draft_1"
    assert main(["check", str(tmp_path / "nowhere.py")]) == 1
    assert "nowhere.py" in capsys.readouterr().err
    assert main(["check", str(write(tmp_path, "{}", "book.ipynb"))]) == 1
    assert "ch07.exercises.notebook.check(fn)" in capsys.readouterr().err


def test_a_folder_is_checked_file_by_file(tmp_path, capsys):
    write(tmp_path, RIGHT, "a.py")
    write(tmp_path, "def format_input(entry):\n    raise NotImplementedError\n", "b.py")
    write(tmp_path, "WIDTH = 5", "helper.py")
    assert main(["check", str(tmp_path)]) == 0
    out, err = capsys.readouterr()
    assert "1 right, 0 with a mistake, 1 not started. Next: format_input" in out
    assert "skipped" in err and "helper.py" in err


# --- pytest --impl=FILE ------------------------------------------------------------------------


def test_pytest_checks_a_learners_file_and_nothing_else(tmp_path, run_command):
    text = "def format_input(entry):\n    raise NotImplementedError\n\n\n"
    text += "def generate(model, prompts, max_new_tokens, end_id=50256):\n    return prompts\n"
    path = write(tmp_path, text + RIGHT)
    done = run_command("-m", "pytest", "-p", "no:cacheprovider", f"--impl={path}")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "1 failed, 1 passed, 17 skipped" in done.stdout
    assert "Traceback" not in done.stdout and "diagnose.py" not in done.stdout
    assert "generate" in done.stdout and "returned [5, 17" in done.stdout


def test_a_fresh_clone_is_no_red_wall(run_command):
    stub = exercises()[2].stub_file.relative_to(_root())
    done = run_command("-m", "pytest", "-p", "no:cacheprovider", f"--impl={stub}")
    assert done.returncode == 0 and "19 skipped" in done.stdout, done.stdout


def test_a_file_that_cannot_be_checked_is_one_line(tmp_path, run_command):
    done = run_command("-m", "pytest", "-p", "no:cacheprovider", f"--impl={tmp_path / 'no.py'}")
    assert done.returncode == 4 and "no.py" in done.stdout + done.stderr
    assert "Traceback" not in done.stdout
