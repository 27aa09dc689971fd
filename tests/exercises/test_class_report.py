"""A class is graded: each learner alone, whatever the others' code does, and twice the same."""

import inspect
import json
import os
import sys
import time
from collections import Counter
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path

import pytest

from ch07.commands.cli import main
from ch07.data.token_text import display_width
from ch07.exercises.catalogue import exercises, find
from ch07.exercises.class_report import (
    FAILED,
    NOT_ATTEMPTED,
    NOT_RUN,
    PASSED,
    ClassReport,
    grade_all,
    wanted_exercises,
)
from ch07.exercises.class_table import class_text
from ch07.exercises.museum.collection import EXHIBITS
from ch07.exercises.sandbox import open_sandbox
from ch07.exercises.sandbox_process import CAN_FORK
from ch07.exercises.submissions import MAX_FILE_BYTES, read_submissions
from ch07.utils.console import json_text

DRAFT = "custom_collate_draft_1"
RIGHT = """
def custom_collate_draft_1(batch, pad_token_id=50256, device="cpu"):
    import torch
    width = max(map(len, batch))
    rows = [row + [pad_token_id] * (width - len(row)) for row in batch]
    return torch.tensor(rows).to(device)
"""
WRONG = RIGHT.replace(
    "row + [pad_token_id] * (width - len(row))", "[pad_token_id] * (width - len(row)) + row"
)


@pytest.fixture(scope="module")
def one_sandbox():
    """Starting one takes seconds."""
    with open_sandbox(confined=True) as sandbox:
        yield sandbox


@pytest.fixture
def shared(one_sandbox, monkeypatch):
    """The tests that attack nothing share one sandbox."""
    monkeypatch.setattr(
        "ch07.exercises.class_report.open_sandbox", lambda confined: nullcontext(one_sandbox)
    )


def hand_in(folder, files):
    """{path within the folder: text} as files."""
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return folder


def graded(folder, names=(DRAFT,), seconds=5.0, jobs=1):
    """The class's report."""
    wanted = wanted_exercises(names)
    submissions, _ = read_submissions(folder)
    return ClassReport(wanted, tuple(grade_all(submissions, wanted, seconds, jobs)))


def statuses(report, exercise=DRAFT):
    """{learner: status} of one exercise."""
    results = report.results_of(exercise)
    return {grades.learner: r.status for grades, r in zip(report.grades, results, strict=True)}


# --- the museum as a class ----------------------------------------------------------------------


def written_out(exhibit):
    """An exhibit as a learner's file: its module's code, without the other exhibits."""
    module = Path(inspect.getsourcefile(inspect.unwrap(exhibit.code)))
    source = module.read_text(encoding="utf-8").splitlines()
    for other in EXHIBITS:
        if inspect.getsourcefile(inspect.unwrap(other.code)) == str(module):
            lines, first = inspect.getsourcelines(other.code)
            source[first - 1 : first - 1 + len(lines)] = [""] * len(lines)
    return "\n".join([*source, "", exhibit.source, ""])


def museum_class(folder, exhibits):
    """Learner 1 makes the first mistake of each exercise, learner 2 the second, and so on."""
    n_before = Counter()
    for exhibit in exhibits:
        n_before[exhibit.exercise] += 1
        learner = f"learner {n_before[exhibit.exercise]}"
        hand_in(folder / learner, {find(exhibit.exercise).stub: written_out(exhibit)})
    return folder


@pytest.mark.slow
def test_the_museum_as_a_class_has_its_known_histogram_twice(tmp_path, capsys):
    """Takes 30 seconds: each of the exhibits is a file, checked in a process of its own, twice."""
    folder = museum_class(tmp_path / "class", EXHIBITS)
    for name in ("1", "2"):
        arguments = ["grade", str(folder), "--json", str(tmp_path / name), "--jobs", "2"]
        assert main(arguments) == 0
    assert (tmp_path / "1").read_bytes() == (tmp_path / "2").read_bytes()
    found = json.loads((tmp_path / "1").read_text(encoding="utf-8"))["mistakes"]
    known = Counter((exhibit.exercise, exhibit.diagnosis) for exhibit in EXHIBITS)
    assert {(m["exercise"], m["mistake"]): m["count"] for m in found} == known
    attempted = Counter(exhibit.exercise for exhibit in EXHIBITS)
    assert all(m["attempted"] == attempted[m["exercise"]] for m in found)
    printed = capsys.readouterr().out
    assert "1 of 9 masked every padding token (5)" in printed
    assert max(len(line) for line in printed.splitlines() if str(tmp_path) not in line) <= 80


def test_one_mistake_of_each_exercise_is_found_in_one_submission(tmp_path, shared):
    first = {exhibit.exercise: exhibit for exhibit in reversed(EXHIBITS)}
    folder = museum_class(tmp_path, first.values())
    report = graded(folder, ())
    (grades,) = report.grades
    assert [(r.exercise, r.status, r.mistake) for r in grades.results] == [
        (exercise.name, FAILED, first[exercise.name].diagnosis) for exercise in exercises()
    ]


# --- no learner's code changes another's result -------------------------------------------------


def attack(body):
    """A file that does this when it is imported; its exercise is right."""
    return f"import os, pathlib, signal, sys, time\n{body}\n{RIGHT}"


DESTROY_ALL = """
for folder in (FOLDER, "/tmp", os.path.dirname(os.getcwd())):
    for place, _, files in os.walk(folder, onerror=None):
        for name in files:
            if not name.endswith(".py"):
                continue
            try:
                with open(os.path.join(place, name), "w") as file:
                    file.write("changed")
                os.remove(os.path.join(place, name))
            except OSError:
                pass
"""
ATTACKS = {
    "crash": "import ctypes\nctypes.string_at(0)",
    "exit": "sys.exit(0)",
    "exit at once": "os._exit(0)",
    "endless": "while True:\n    pass",
    "fork": "if os.fork() == 0:\n    time.sleep(1000)",
    "print": "for _ in range(2000):\n    print('x' * 1_000_000)",
    "kill": "os.kill(os.getppid(), signal.SIGKILL)",
    "kill all": "os.kill(-1, signal.SIGKILL)",
    "destroy": "DESTROY",
    "deep": "for _ in range(3000):\n    os.mkdir('d')\n    os.chdir('d')",
    "link": "os.remove(__file__)\nos.symlink(FOLDER + '/zoe.py', __file__)",
}


@pytest.mark.slow
@pytest.mark.skipif(not CAN_FORK, reason="another system can't hold a process back")
@pytest.mark.parametrize("jobs", [1, 3])
def test_hostile_submissions_stop_and_change_nothing(tmp_path, jobs, monkeypatch):
    """Theirs alone are the results that suffer; also the submissions' files stay as they are."""
    folder = tmp_path / "class"
    files = {"aaron.py": RIGHT, "milo.py": WRONG, "zoe.py": RIGHT}
    for name, body in ATTACKS.items():
        body = body.replace("DESTROY", DESTROY_ALL).replace("FOLDER", repr(str(folder)))
        files[f"{name}.py"] = attack(body)
        files[f"two {name}/helper.py"] = attack(body)
        files[f"two {name}/{find(DRAFT).stub}"] = f"import helper\n{RIGHT}"
    hand_in(folder, files)
    (tmp_path / "scratch").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "scratch"))
    before = {path: path.read_bytes() for path in folder.rglob("*.py")}
    report = graded(folder, seconds=5.0, jobs=jobs)
    found = statuses(report)
    assert len(found) == 3 + 2 * len(ATTACKS)
    assert (found["aaron"], found["milo"], found["zoe"]) == (PASSED, FAILED, PASSED)
    for name in ("crash", "exit at once", "endless", "exit", "kill"):
        assert found[name] in (NOT_RUN, FAILED), name
    assert found["print"] == PASSED
    assert {path: path.read_bytes() for path in folder.rglob("*.py")} == before
    assert list((tmp_path / "scratch").iterdir()) == []


@pytest.mark.skipif(not CAN_FORK, reason="Landlock is Linux's")
def test_a_confined_file_can_change_its_own_folder_only(tmp_path):
    from ch07.exercises import sandbox_confinement

    outside = hand_in(tmp_path / "outside", {"kept": "kept"}) / "kept"
    inside = hand_in(tmp_path / "inside", {"mine.py": ""}) / "mine.py"
    body = f"""
import tempfile
pathlib.Path("new").write_text("mine")
tempfile.NamedTemporaryFile().close()
try:
    pathlib.Path({str(outside)!r}).write_text("changed")
except PermissionError:
    pathlib.Path("refused").touch()
"""
    inside.write_text(attack(body), encoding="utf-8")
    with open_sandbox(confined=True) as sandbox:
        (report,) = sandbox.check_file(inside)
    assert report.ok and (inside.parent / "new").read_text(encoding="utf-8") == "mine"
    if sandbox_confinement_works(sandbox_confinement):
        assert (inside.parent / "refused").exists()
        assert outside.read_text(encoding="utf-8") == "kept"


def sandbox_confinement_works(module):
    """Whether this kernel has Landlock."""
    import ctypes

    return ctypes.CDLL(None).syscall(module.CREATE_RULESET, None, 0, module.ASK_VERSION) > 0


def test_a_link_that_code_leaves_is_never_written_to(tmp_path, monkeypatch):
    """The grader itself may write anywhere: it must not follow what a learner's code has made."""
    monkeypatch.setattr("ch07.exercises.sandbox_confinement._give_up_rights", lambda folder: False)
    target = hand_in(tmp_path, {"target": "kept"}) / "target"
    folder = tmp_path / "class"
    plant = f"pathlib.Path('second.py').unlink()\nos.symlink({str(target)!r}, 'second.py')"
    hand_in(folder / "eve", {"first.py": attack(plant), "second.py": WRONG})
    report = graded(folder)
    assert statuses(report) == {"eve": PASSED}
    assert target.read_text(encoding="utf-8") == "kept"


# --- what counts as what ------------------------------------------------------------------------


def test_each_status_and_its_reason(tmp_path, shared):
    folder = hand_in(
        tmp_path,
        {
            "right.py": RIGHT,
            "wrong.py": WRONG,
            "stub.py": "def custom_collate_draft_1(batch):\n    raise NotImplementedError\n",
            "other.py": "def something_else():\n    pass\n",
            "empty.py": "",
            "broken.py": "def custom_collate_draft_1(batch):\n    return (\n",
            "gone wrong.py": "import no_such_module\n" + RIGHT,
            "endless.py": RIGHT.replace("import torch", "while True: pass"),
            "nothing/notes.txt": "hello",
        },
    )
    report = graded(folder, seconds=3.0)
    assert statuses(report) == {
        "right": PASSED,
        "wrong": FAILED,
        "stub": NOT_ATTEMPTED,
        "other": NOT_ATTEMPTED,
        "empty": NOT_ATTEMPTED,
        "broken": NOT_RUN,
        "gone wrong": NOT_RUN,
        "endless": NOT_RUN,
        "nothing": NOT_ATTEMPTED,
    }
    by_name = {grades.learner: grades for grades in report.grades}
    assert by_name["other"].note == "It defines none of the exercises."
    assert by_name["empty"].note == "It is empty."
    assert by_name["nothing"].note == "It contains no Python file."
    assert by_name["wrong"].results[0].mistake == "pad-left"
    assert by_name["endless"].results[0].sentence == "Your code did not finish within 3 seconds."
    assert "no_such_module" in by_name["gone wrong"].results[0].sentence
    counts = {mistake.mistake: (mistake.count, mistake.attempted) for mistake in report.mistakes()}
    assert counts == dict.fromkeys(["pad-left", "syntax", "import", "endless"], (1, 5))


def test_the_answer_in_the_stubs_file_counts_and_an_untouched_stub_does_not(tmp_path, shared):
    stub = find(DRAFT).stub
    untouched = "def custom_collate_draft_1(batch):\n    raise NotImplementedError\n"
    folder = hand_in(
        tmp_path,
        {
            f"a/{stub}": RIGHT,
            "a/01_old.py": WRONG,
            f"b/{stub}": untouched,
            "b/mine.py": RIGHT,
            f"c/my_exercises/{stub}": f"from helper import width\n{RIGHT}",
            "c/my_exercises/helper.py": "width = 3\n",
            f"c/__MACOSX/{stub}": "not Python at all (",
            f"c/my_exercises/._{stub}": "not Python at all (",
        },
    )
    assert statuses(graded(folder)) == {"a": PASSED, "b": PASSED, "c": PASSED}


def test_a_report_holds_nothing_that_differs_the_next_time(tmp_path):
    """Addresses, the temporary folder, the order of a set, random numbers, the line of a loop."""
    head = "def custom_collate_draft_1(batch, pad_token_id=50256, device='cpu'):\n    "
    folder = hand_in(
        tmp_path,
        {
            "address.py": f"{head}raise ValueError(object())\n",
            "path.py": f"{head}open(__file__ + '.txt')\n",
            "set.py": f"{head}raise ValueError(list(set(map(str, range(100)))))\n",
            "random.py": f"import random\n{head}raise ValueError(random.random())\n",
            "numpy.py": f"import numpy\n{head}raise ValueError(numpy.random.rand())\n",
            "loop.py": f"{head}x = 0\n    while True:\n        x += 1\n        x -= 1\n",
        },
    )
    first, second = (json.dumps(graded(folder, seconds=0.5).to_json()) for _ in range(2))
    assert first == second
    assert str(folder) not in first and "0x..." in first


# --- names --------------------------------------------------------------------------------------


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such names")
def test_names_of_all_kinds_are_kept_apart_and_shown(tmp_path, shared):
    names = [
        "王小明",
        "Ana María",
        "j.r.smith",
        "-x",
        "'quote'",
        "a\nb",
        "x" * 90,
        "é 🐍",
        "🏴\U000e0067\U000e0062\U000e007f",  # a flag: letters that are not printable
        "ünï.v2",
    ]
    hand_in(tmp_path, {f"{name}.py": RIGHT for name in names})
    hand_in(
        tmp_path, {"both.py": RIGHT, "both/mine.py": WRONG, "。/mine.py": RIGHT, "UP.PY": RIGHT}
    )
    (tmp_path / os.fsdecode(b"caf\xe9.py")).write_text(RIGHT, encoding="utf-8")
    report = graded(tmp_path)
    found = statuses(report)
    assert {*names, "both.py", "both", "。", "UP", "caf\\xe9"} == set(found)
    assert found.pop("both") == FAILED and set(found.values()) == {PASSED}
    rows = class_text(report).split("\n\n")[0].splitlines()
    assert len({display_width(row) for row in rows}) == 1
    assert json.loads(json_text(report.to_json()).encode("utf-8"))["learners"] == [
        {**asdict(grades), "results": [asdict(r) for r in grades.results], "problems": []}
        for grades in report.grades
    ]


def test_links_and_packed_files_and_notebooks_are_named_and_not_followed(tmp_path, capsys, shared):
    folder = tmp_path / "class"
    secret = hand_in(tmp_path, {"secret.py": RIGHT, "others/mine.py": RIGHT}) / "secret.py"
    hand_in(folder, {"good.py": RIGHT, "packed.zip": "PK", "book.ipynb": "{}", "grades.csv": "a"})
    hand_in(folder, {"partly/mine.py": RIGHT, "big.py": "#" * (MAX_FILE_BYTES + 1)})
    (folder / "file.py").symlink_to(secret)
    (folder / "folder").symlink_to(tmp_path / "others")
    (folder / "partly" / "link.py").symlink_to(secret)
    (folder / "partly" / "loop").symlink_to(folder)
    if hasattr(os, "mkfifo"):
        os.mkfifo(folder / "partly" / "pipe.py")
    assert main(["grade", str(folder), "--exercise", DRAFT]) == 1
    printed = capsys.readouterr()
    text = " ".join(printed.out.split())
    assert "file: file.py is a link, which is not followed: put the file itself there." in text
    assert "folder: folder is a link" in text
    assert "partly: link.py is a link" in text and "partly: loop is a link" in text
    assert "packed.zip is packed: unpack it first." in text
    assert "book.ipynb is a notebook: save its answers as a Python file." in text
    assert "big: big.py is no plain file of at most 1 MB." in text
    assert "grades.csv" in printed.err and "grades.csv" not in text
    rows = {line.split()[0]: line.split()[-1] for line in printed.out.splitlines() if "/1" in line}
    assert rows["good"] == rows["partly"] == "1/1" and rows["file.py"[:-3]] == "0/1"


def test_two_files_that_would_have_one_name_are_kept_apart_and_said(tmp_path):
    folder = tmp_path / "class"
    hand_in(folder, {"twice/mine.py": RIGHT, "clash/mine.py/inner.py": RIGHT, "alone/a.PY": RIGHT})
    for learner in ("twice", "clash"):
        other = folder / learner / "mine.PY"
        if other.exists():
            pytest.skip("this disk does not tell MINE.PY from mine.py")
        other.write_text(WRONG, encoding="utf-8")
    (folder / "alone" / "a.Py").write_text(RIGHT, encoding="utf-8")
    alone, clash, twice = read_submissions(folder)[0]
    assert twice.files == {"mine.py": RIGHT.encode()}
    assert clash.files == {"mine.py/inner.py": RIGHT.encode()}
    assert list(alone.files) == ["a.py"]
    assert twice.problems == (
        "mine.PY is left out, since mine.py is there as well: rename one of them.",
    )
    assert clash.problems == twice.problems and len(alone.problems) == 1


def test_folders_without_end_or_permission_leave_the_rest_to_be_read(tmp_path, monkeypatch):
    deepest = tmp_path / "class" / "deep" / "/".join(["x"] * 600)
    deepest.mkdir(parents=True)
    hand_in(tmp_path / "class", {"deep/mine.py": RIGHT, "shut/a/b.py": RIGHT, "shut/c.py": RIGHT})
    iterdir = Path.iterdir

    def refuse(folder):
        if folder.name == "a":
            raise PermissionError(13, "Permission denied")
        return iterdir(folder)

    monkeypatch.setattr(Path, "iterdir", refuse)
    deep, shut = read_submissions(tmp_path / "class")[0]
    assert list(deep.files) == ["mine.py"] and list(shut.files) == ["c.py"]
    assert deep.problems == (
        "x/x holds more than 30 folders, one in the other; the rest is left out.",
    )
    assert shut.problems == ("a can't be read: Permission denied.",)


# --- the command --------------------------------------------------------------------------------


@pytest.fixture
def no_sandbox(monkeypatch):
    """Nothing is run."""

    def refuse(**_):
        raise AssertionError("nothing should be run")

    monkeypatch.setattr("ch07.exercises.class_report.open_sandbox", refuse)


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({}, "holds no submission"),
        ({"notes.txt": "x"}, "holds no submission"),
        ({"05_custom_collate_fn.py": "x"}, "holds one learner's exercises"),
    ],
)
def test_a_folder_that_is_no_class_is_refused(tmp_path, files, words, capsys, no_sandbox):
    hand_in(tmp_path, files)
    assert main(["grade", str(tmp_path)]) == 1
    error = capsys.readouterr().err
    assert words in error and error.count("\n") == 1


def test_a_report_that_could_not_be_written_is_refused_before_anything_runs(
    tmp_path, capsys, no_sandbox, monkeypatch
):
    hand_in(tmp_path, {"a.py": RIGHT})
    device = tmp_path / "device"
    device.symlink_to(os.devnull)
    for target in (tmp_path, tmp_path / "none" / "report.json", device):
        assert main(["grade", str(tmp_path), "--json", str(target)]) == 2
    with monkeypatch.context() as patch:
        patch.setattr("os.access", lambda path, mode: False)
        assert main(["grade", str(tmp_path), "--json", str(tmp_path / "report.json")]) == 2
    assert main(["grade", ""]) == 2  # not the current folder
    assert main(["grade", str(tmp_path / "a.py")]) == 1
    assert main(["grade", str(tmp_path), "--exercise", "no_such"]) == 1
    assert "choose one of" in capsys.readouterr().err


def test_learners_who_fail_are_graded_and_said_one_by_one(tmp_path, capsys, shared):
    folder = hand_in(tmp_path / "class", {"a.py": WRONG, "b.py": RIGHT, "c.py": WRONG})
    target = tmp_path / "report.json"
    assert main(["grade", str(folder), "--exercise", "3", "--json", str(target)]) == 0
    printed = capsys.readouterr()
    assert printed.err.splitlines() == [
        "1/3 a: 0 right, 1 wrong",
        "2/3 b: 1 right, 0 wrong",
        "3/3 c: 0 right, 1 wrong",
    ]
    assert "████████ 2 of 3 padded on the left (3)" in printed.out
    assert "3 learners, 3 answers, 1 of them right." in printed.out
    value = json.loads(target.read_text(encoding="utf-8"))
    assert value["exercises"] == [DRAFT]
    assert [learner["results"][0]["status"] for learner in value["learners"]] == [
        FAILED,
        PASSED,
        FAILED,
    ]
    assert value["mistakes"][0]["learners"] == ["a", "c"]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such names")
def test_a_name_with_a_line_break_stays_on_one_line(tmp_path, capsys):
    folder = hand_in(tmp_path / "class", {"a\n9 of 9 b.py": "", "note\nx.txt": ""})
    assert main(["grade", str(folder), "--exercise", "3"]) == 0
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2 and lines[1].startswith("1/1 a\\n9")


@pytest.mark.parametrize("jobs", [1, 2])
def test_an_interruption_ends_it_soon_and_leaves_no_process(tmp_path, jobs):
    import psutil

    folder = hand_in(tmp_path, {f"{name}.py": RIGHT for name in "abc"})
    hand_in(folder, {f"x{i}.py": RIGHT.replace("import torch", "while True: pass") for i in (1, 2)})
    submissions, _ = read_submissions(folder)
    others = set(psutil.Process().children())  # which tests before this one have started
    grading = grade_all(submissions, (DRAFT,), seconds=600.0, jobs=jobs)
    assert next(grading).learner == "a"
    started = time.monotonic()
    grading.close()
    assert time.monotonic() - started < 60
    deadline = time.monotonic() + 60
    while set(psutil.Process().children()) - others and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not set(psutil.Process().children()) - others
