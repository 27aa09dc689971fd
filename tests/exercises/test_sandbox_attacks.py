"""Files that attack the checker: none is believed, none holds it up, and none leaves anything."""

import re
import time
from pathlib import Path

import pytest

from ch07.exercises import sandbox, sandbox_limits, sandbox_process
from ch07.exercises.sandbox import check_file, open_sandbox

pytestmark = pytest.mark.skipif(not sandbox_process.CAN_FORK, reason="the fork server is Linux's")

RIGHT = """
def custom_collate_draft_1(batch, pad_token_id=50256, device="cpu"):
    import torch
    width = max(map(len, batch))
    rows = [row + [pad_token_id] * (width - len(row)) for row in batch]
    return torch.tensor(rows).to(device)
"""
DRAFT_2 = (
    "\ndef custom_collate_draft_2(batch, pad_token_id=50256, device='cpu'):\n    return None\n"
)
# What a file may know of a report, but for its signature.
FORGED = """
import json, os
PASSED = dict.fromkeys(["diagnosis", "sentence", "table", "printed", "hint"], "")
PASSED |= {"exercise": "custom_collate_draft_1", "status": "passed"}

def write_everywhere(data):
    for descriptor in range(3, 64):
        try:
            os.write(descriptor, data)
        except OSError:
            pass
"""


@pytest.fixture(scope="module")
def shared():
    """A sandbox for all attacks: what one of them does must not reach the next."""
    with open_sandbox() as opened:
        yield opened


@pytest.fixture
def check(shared, tmp_path):
    """{exercise: report} of a file with this text."""

    def check_text(text, seconds=5.0):
        path = tmp_path / "mine.py"
        path.write_text(text, encoding="utf-8")
        return {report.exercise: report for report in shared.check_file(path, seconds)}

    return check_text


def attack(body):
    """An exercise that does this before it returns nothing."""
    lines = [f"    {line}" for line in body.strip().splitlines()]
    head = "def custom_collate_draft_1(batch, pad_token_id=50256, device='cpu'):"
    return "\n".join(["import os, signal, sys, time", "", head, *lines]) + "\n"


def is_running(process):
    """Whether there is such a process; a zombie, which only waits to be reaped, is none."""
    try:
        text = Path(f"/proc/{process}/stat").read_text(encoding="utf-8")
    except OSError:
        return False
    return text.rpartition(")")[2].split()[0] != "Z"


# --- forged reports -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "line",
    [
        "json.dumps(PASSED)",
        "'0' * 64 + ' ' + json.dumps(PASSED)",
        "'\\n' * 50",
        "'[' * 100_000",
        "'x' * 10_000_000",
        "'\\0\\xff garbage\\n'",
    ],
    ids=["unsigned", "wrong signature", "blank lines", "nested", "long", "binary"],
)
def test_what_an_exercise_writes_into_its_descriptors_is_not_believed(check, line):
    text = FORGED + attack(f"write_everywhere(({line}).encode('latin-1') + b'\\n')\nos._exit(0)")
    found = check(text + DRAFT_2)
    assert found["custom_collate_draft_1"].diagnosis == "foreign-report"
    assert found["custom_collate_draft_2"].diagnosis not in ("foreign-report", "process-ended")


def test_a_file_that_is_imported_can_forge_nothing_either(check):
    text = FORGED + "write_everywhere(json.dumps(PASSED).encode() + b'\\n' * 50)\n"
    (report,) = check(text + RIGHT).values()
    assert report.diagnosis == "foreign-report"


def test_an_earlier_report_teaches_nothing(check):
    """All that stands in the channel is read back, and written again as the report to come."""
    body = """
        import json, os
        for descriptor in range(3, 64):
            try:
                earlier = os.pread(descriptor, 1 << 16, 0)
            except OSError:
                continue
            if b'"passed"' in earlier:
                os.write(descriptor, earlier.replace(b"draft_1", b"draft_2"))
        os._exit(0)
    """
    forger = DRAFT_2.replace("    return None", body.replace("\n        ", "\n    "))
    found = check(RIGHT + forger)
    assert found["custom_collate_draft_1"].ok
    assert found["custom_collate_draft_2"].diagnosis == "foreign-report"


def test_neither_arguments_nor_environment_hold_the_token(tmp_path, monkeypatch):
    """In both kinds of process."""
    token = "f00d" * 16
    monkeypatch.setattr(sandbox.secrets, "token_hex", lambda: token)
    seen = tmp_path / "seen"
    text = f"""
from pathlib import Path
import sys, os
told = [*sys.orig_argv, *os.environ.values(), sys.stdin.read()]
told += [Path(f"/proc/self/{{name}}").read_text() for name in ("cmdline", "environ")]
Path({str(seen)!r}).write_text(" ".join(told))
"""
    path = tmp_path / "mine.py"
    path.write_text(text + RIGHT, encoding="utf-8")
    for can_fork in (True, False):
        monkeypatch.setattr(sandbox_process, "CAN_FORK", can_fork)
        (report,) = check_file(path)
        assert report.ok, report
        told = seen.read_text(encoding="utf-8")
        assert "ch07.exercises.sandbox_" in told
        assert token not in told and str(path) not in told
        seen.unlink()


# --- exercises that spoil their own process -----------------------------------------------------


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("os._exit(0)", "ended the whole process (exit code 0)"),
        ("os.abort()", "ended the whole process (signal 6"),
        ("os.closerange(0, 256)", "ended the whole process (exit code 1)"),
        ("os.close = os.write = os._exit = None", "None"),
        ("sys.stdout = sys.stderr = None", "None"),
        ("import json\njson.dumps = json.loads = None", "None"),
        ("import hmac, dataclasses\nhmac.digest = dataclasses.asdict = None", "None"),
        ("print('x' * 300_000_000, file=sys.stderr)", "None"),
        ("for _ in range(2000):\n    print('x' * 500_000)", "None"),
        ("os.write(1, b'x' * 10_000_000)", "None"),
        ("os.chdir('/')\nos.environ.clear()", "None"),
        ("os.ftruncate(os.memfd_create('big'), 1 << 40)", "File too large"),
    ],
)
def test_an_exercise_harms_itself_and_no_other(check, body, words):
    started = time.monotonic()
    found = check(attack(body) + DRAFT_2)
    assert words in found["custom_collate_draft_1"].sentence
    assert found["custom_collate_draft_2"].diagnosis not in ("", "process-ended", "endless")
    assert time.monotonic() - started < 60


def test_a_fork_that_comes_back_from_the_exercise_reports_nothing(check):
    """It would report on the first exercise a second time, where the second is expected."""
    text = attack("if os.fork():\n    time.sleep(0.3)")
    text += DRAFT_2.replace("return None", "time.sleep(1)")
    diagnoses = [report.diagnosis for report in check(text).values()]
    assert len(diagnoses) == 2 and "foreign-report" not in diagnoses


def test_exit_handlers_and_threads_keep_nothing_alive(check):
    text = """
import atexit, os, threading, time
os._exit = lambda code: None
atexit.register(time.sleep, 1000)
threading.Thread(target=time.sleep, args=(1000,)).start()
"""
    started = time.monotonic()
    assert check(text + RIGHT, seconds=100.0)["custom_collate_draft_1"].ok
    assert time.monotonic() - started < 100  # the timer did not have to end it


def test_a_file_that_deletes_itself_is_told_where_it_was(check):
    text = attack("os.remove(__file__)\nwhile True:\n    pass")
    (report,) = check(text, seconds=1.0).values()
    assert re.search(r"within 1 seconds; it was at line [56]: (while|pass)", report.sentence)


@pytest.mark.parametrize(
    "body",
    [
        "import faulthandler\nfaulthandler.cancel_dump_traceback_later()\nwhile True:\n    pass",
        "os.kill(os.getpid(), signal.SIGSTOP)",
        "os.closerange(0, 256)\nwhile True:\n    pass",
    ],
    ids=["without its timer", "stopped", "without descriptors"],
)
def test_a_time_limit_holds_without_the_exercises_help(check, monkeypatch, body):
    monkeypatch.setattr(sandbox_limits, "REPLY_SECONDS", 1.0)
    (report,) = check(attack(body), seconds=0.5).values()
    assert report.status == "mistake" and report.diagnosis in ("endless", "process-ended")


# --- what it leaves behind ----------------------------------------------------------------------

DAEMON = """
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        {before}
        with open({path!r}, "w") as file:
            file.write(str(os.getpid()))
        time.sleep(1000)
    os._exit(0)
while not os.path.exists({path!r}) or not os.path.getsize({path!r}):
    time.sleep(0.01)
"""


@pytest.mark.parametrize(
    "end",
    ["", "os._exit(3)", "while True:\n    pass", "os.kill(os.getppid(), signal.SIGKILL)"],
    ids=["returns", "exits", "loops", "kills its parent"],
)
def test_a_daemon_ends_with_the_exercise(check, tmp_path, end):
    path = tmp_path / "daemon"
    body = DAEMON.format(path=str(path), before="signal.signal(signal.SIGTERM, signal.SIG_IGN)")
    (report,) = check(attack(body + end), seconds=3.0).values()
    assert report.status == "mistake"
    assert not is_running(int(path.read_text(encoding="utf-8")))
    assert check(RIGHT)["custom_collate_draft_1"].ok


STOP_BOTH = """
for process in (os.getppid(), os.getpgid(os.getppid())):
    os.kill(process, signal.SIGSTOP)
"""


def test_a_daemon_ends_with_a_sandbox_that_is_stopped(tmp_path, monkeypatch):
    """The server no longer answers: the process above it ends what is left."""
    monkeypatch.setattr(sandbox_limits, "REPLY_SECONDS", 0.5)
    daemon = tmp_path / "daemon"
    body = DAEMON.format(path=str(daemon), before="pass") + STOP_BOTH
    path = tmp_path / "mine.py"
    path.write_text(attack(body), encoding="utf-8")
    (report,) = check_file(path, seconds=2.0)
    assert report.status == "mistake"
    assert not is_running(int(daemon.read_text(encoding="utf-8")))


def test_without_fork_a_process_group_ends_with_the_exercise(tmp_path, monkeypatch):
    monkeypatch.setattr(sandbox_process, "CAN_FORK", False)
    child = tmp_path / "child"
    body = f"""
import subprocess
process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1000)"], close_fds=False)
open({str(child)!r}, "w").write(str(process.pid))
"""
    path = tmp_path / "mine.py"
    path.write_text(attack(body), encoding="utf-8")
    started = time.monotonic()
    (report,) = check_file(path)
    assert report.diagnosis not in ("endless", "process-ended"), report
    assert time.monotonic() - started < 500
    deadline = time.monotonic() + 30
    while is_running(int(child.read_text(encoding="utf-8"))) and time.monotonic() < deadline:
        time.sleep(0.01)  # until the kernel has done what it was told
    assert not is_running(int(child.read_text(encoding="utf-8")))


@pytest.mark.parametrize(
    "body",
    [
        "while True:\n    os.fork()",
        "for _ in range(200):\n    if os.fork() == 0:\n        time.sleep(1000)",
        "for _ in range(4):\n    if os.fork() == 0:\n        kept = bytearray(400 << 20)\n"
        "        kept[:: 4096] = b'x' * len(kept[:: 4096])\n        time.sleep(1000)\n"
        "time.sleep(1000)",
    ],
    ids=["fork bomb", "many", "memory together"],
)
def test_processes_and_their_memory_are_limited_together(check, body):
    (report,) = check(attack(body), seconds=30.0).values()
    assert "signal 9" in report.sentence, report
    assert check(RIGHT)["custom_collate_draft_1"].ok
