"""What is shown while a run trains: an answer, a page, event files; and the run stays the same."""

import json
import sys
from collections import Counter
from pathlib import Path
from textwrap import dedent
from types import SimpleNamespace

import nbformat
import numpy as np
import pytest
import torch
from nbclient import NotebookClient
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import gpt_model
import train_loop
from ch07.commands import training_view
from ch07.commands.cli import main
from ch07.evaluation.metrics import exact_match
from ch07.pages import training_page
from ch07.runs import run_folder
from ch07.runs.samples import read_samples, save_samples
from ch07.utils.atomic_files import read_tensors

STEPS = ["--max-steps", "6", "--batch-size", "4", "--eval-freq", "2", "--seed", "1"]
STEPS += ["--dtype", "float32", "--device", "cpu"]
ALL = ["--watch", "--log", "tensorboard", "--sample-tokens", "6"]
NONE = ["--sample-tokens", "0"]
TEXT = "The boy found the book. " * 120 + "\n\n" + "The girl lost the key. " * 120


@pytest.fixture(scope="module", autouse=True)
def tiny():
    """The tiny model, tinier, and with dropout: a random number too many would show."""
    size = {"emb_dim": 8, "n_layers": 1, "n_heads": 2, "context_length": 64, "drop_rate": 0.2}
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(gpt_model.MODEL_SIZES, "gpt2-tiny", size)
        yield


@pytest.fixture(scope="module")
def train(number_data):
    """Train in a folder with more flags; the exit code."""

    def run(folder, *more):
        return main(["finetune", "--data", str(number_data), "--out", str(folder), *STEPS, *more])

    return run


@pytest.fixture(scope="module")
def plain(train, tmp_path_factory):
    """A run that shows nothing but its losses."""
    folder = tmp_path_factory.mktemp("plain") / "run"
    assert train(folder, *NONE) == 0
    return folder


@pytest.fixture(scope="module")
def shown(train, tmp_path_factory):
    """The same run, with all that can be shown."""
    folder = tmp_path_factory.mktemp("shown") / "run"
    assert train(folder, *ALL) == 0
    return folder


def same_bits(one, two):
    a, b = (read_tensors(folder / run_folder.MODEL) for folder in (one, two))
    assert a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)
    a, b = (run_folder.read_metrics(folder) for folder in (one, two))
    assert [{**x, "seconds": 0} for x in a] == [{**x, "seconds": 0} for x in b]


def page_data(folder):
    """What watch.html was given."""
    text = (folder / run_folder.WATCH).read_text(encoding="utf-8")
    block = text.split('<script type="application/json" id="run">')[1].split("</script>")[0]
    return json.loads(block)


def logged(folder, tag):
    events = EventAccumulator(str(folder / run_folder.EVENTS), {"scalars": 0})
    events.Reload()
    return [(event.step, event.value) for event in events.Scalars(tag)]


def agree(folder):
    """Metrics, samples, page and event files have each evaluation once, and the same numbers."""
    records = run_folder.read_metrics(folder)
    samples = read_samples(folder)
    steps = [record["step"] for record in records]
    assert steps == [sample["step"] for sample in samples] == [0, 2, 4, 6]
    data = page_data(folder)
    assert [{k: v for k, v in r.items() if k != "speed"} for r in data["records"]] == records
    right = [exact_match(sample["answer"], sample["right"]) == 1 for sample in samples]
    assert [shown.pop("isRight") for shown in data["samples"]] == right
    assert data["samples"] == samples
    for tag, field in (("loss/training", "train_loss"), ("loss/validation", "val_loss")):
        assert logged(folder, tag) == [(r["step"], float(np.float32(r[field]))) for r in records]
    return data


# --- the run stays the same -----------------------------------------------------------------------


def test_samples_page_and_log_change_no_bit(plain, shown):
    same_bits(plain, shown)
    names = {path.name for path in plain.iterdir()}
    assert not names & {run_folder.SAMPLES, run_folder.WATCH, run_folder.EVENTS}
    data = agree(shown)
    assert data["state"] == "finished" and data["note"] == "" and data["steps"] == 6
    assert (
        data["settings"]["--sample-tokens"] == 6 and "--allowed-max-length" not in data["settings"]
    )


@pytest.mark.parametrize("lost_after", [1, 3, 4])
def test_a_resumed_run_shows_each_evaluation_once(train, plain, tmp_path, monkeypatch, lost_after):
    """Lost between two writes of an evaluation; its checkpoint is older than what it showed."""
    folder = tmp_path / "run"
    count = Counter()

    def save_or_stop(*arguments):
        count["saved"] += 1
        if count["saved"] == lost_after:
            save_samples(*arguments)
            raise OSError(5, "lost")
        return save_samples(*arguments)

    monkeypatch.setattr(training_view, "save_samples", save_or_stop)
    assert train(folder, *ALL, "--checkpoint-minutes", "0") == 1
    data = page_data(folder)
    assert data["state"] == "failed" and "lost" in data["note"]
    assert len(read_samples(folder)) == lost_after
    assert main(["finetune", "--resume", "--out", str(folder)]) == 0
    same_bits(plain, folder)
    assert agree(folder)["state"] == "finished"


def test_an_interrupted_run_says_how_to_resume_it(train, plain, tmp_path, monkeypatch, capsys):
    folder = tmp_path / "run"
    show = training_view.TrainingView.show

    def press_ctrl_c(view, history):
        show(view, history)
        if history[-1]["step"] == 4:
            import signal

            signal.raise_signal(signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(training_view.TrainingView, "show", press_ctrl_c)
        assert train(folder, *ALL) == 130
    data = page_data(folder)
    assert data["state"] == "stopped"
    assert data["note"] == f"python -m ch07 finetune --resume --out {folder}"
    assert [record["step"] for record in data["records"]] == [0, 2, 4]
    assert main(["finetune", "--resume", "--out", str(folder)]) == 0
    same_bits(plain, folder)
    agree(folder)


@pytest.fixture
def lost(train, tmp_path, monkeypatch):
    """A function that trains and fails right after step 4 was saved; the folder."""

    def run(*more):
        folder = tmp_path / "lost"
        save_metrics = run_folder.save_metrics

        def save_or_stop(folder, history):
            save_metrics(folder, history)
            if history[-1]["step"] == 4:
                raise OSError(5, "lost")

        with monkeypatch.context() as patch:
            patch.setattr(run_folder, "save_metrics", save_or_stop)
            assert train(folder, *more, "--checkpoint-minutes", "0") == 1
        return folder

    return run


def test_what_is_shown_may_change_when_a_run_is_resumed(lost, plain):
    """The log has the past, too; the answers begin where they were asked for."""
    folder = lost(*NONE)
    assert main(["finetune", "--resume", "--out", str(folder), *ALL]) == 0
    same_bits(plain, folder)
    assert [step for step, _ in logged(folder, "loss/training")] == [0, 2, 4, 6]
    assert [sample["step"] for sample in read_samples(folder)] == [4, 6]


def test_damaged_samples_are_said_and_left_out(lost, plain, capsys):
    folder = lost(*ALL)
    (folder / run_folder.SAMPLES).write_text("{\n", encoding="utf-8")
    assert main(["finetune", "--resume", "--out", str(folder)]) == 0
    assert "samples.jsonl can't be read" in capsys.readouterr().err
    same_bits(plain, folder)
    assert [sample["step"] for sample in read_samples(folder)] == [4, 6]


# --- the other commands ---------------------------------------------------------------------------


def test_pretraining_continues_a_held_out_text(tmp_path, capsys):
    text = tmp_path / "text.txt"
    text.write_text(TEXT, encoding="utf-8")
    arguments = ["pretrain", "--corpus", str(text), "--allowed-max-length", "28", *STEPS]
    assert main([*arguments, "--out", str(tmp_path / "shown"), *ALL]) == 0
    said = capsys.readouterr().err
    assert main([*arguments, "--out", str(tmp_path / "plain"), *NONE]) == 0
    same_bits(tmp_path / "shown", tmp_path / "plain")
    agree(tmp_path / "shown")
    first = read_samples(tmp_path / "shown")[0]
    assert first["question"] + first["right"] in TEXT.replace("\n\n", "")
    assert f"\n  {first['question']} -> " in said


def test_a_run_on_pairs_answers_a_held_out_prompt(plain, tmp_path, capsys):
    rows = [
        {"prompt": f"Say {i}.", "chosen": f"{i}", "rejected": f"{i}, of course"} for i in range(60)
    ]
    pairs = tmp_path / "pairs.json"
    pairs.write_text(json.dumps(rows), encoding="utf-8")
    steps = ["--max-steps", "6", "--eval-freq", "2", "--device", "cpu"]
    arguments = ["prefer", str(plain), str(pairs), *steps]
    assert main([*arguments, "--out", str(tmp_path / "shown"), *ALL]) == 0
    said = capsys.readouterr().err
    assert main([*arguments, "--out", str(tmp_path / "plain"), *NONE]) == 0
    same_bits(tmp_path / "shown", tmp_path / "plain")
    agree(tmp_path / "shown")
    first = read_samples(tmp_path / "shown")[0]
    assert f"Say {first['right']}." == first["question"]
    assert "step 6 of 6: training loss 0." in said and f"\n  {first['question']} -> " in said
    assert len(logged(tmp_path / "shown", "margin/validation")) == 4


# --- what is printed, and where -------------------------------------------------------------------


def test_a_file_gets_a_line_per_evaluation_and_none_per_step(plain, train, tmp_path, capsys):
    assert train(tmp_path / "run") == 0
    said = capsys.readouterr().err
    assert "\r" not in said and "it/s" not in said and "%|" not in said
    assert [line[:11] for line in said.splitlines() if line.startswith("step ")] == [
        f"step {step} of 6" for step in (0, 2, 4, 6)
    ]
    assert said.count("left\n") == 2, "the time left is said after a step and before the last"


def test_a_terminal_gets_a_bar_and_no_time_in_the_lines(train, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(training_view, "can_redraw", lambda: True)
    monkeypatch.setattr(train_loop, "can_redraw", lambda: True)
    assert train(tmp_path / "run") == 0
    said = capsys.readouterr().err
    assert "\rtraining: " in said and "left" not in said.split("training on")[1]


@pytest.mark.parametrize("kind", ["file", "terminal", "closed"])
def test_what_can_be_redrawn(kind, monkeypatch):
    monkeypatch.setitem(sys.modules, "ipykernel", SimpleNamespace())  # imported, but not running
    stream = None if kind == "closed" else SimpleNamespace(isatty=lambda: kind == "terminal")
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", stream)
        found = train_loop.can_redraw()
    assert found == (kind == "terminal")


def test_a_notebook_can_redraw_unless_its_output_is_captured():
    code = """
        import contextlib, io
        from train_loop import can_redraw
        with contextlib.redirect_stderr(io.StringIO()):
            captured = can_redraw()
        print(can_redraw(), captured)
    """
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(dedent(code))])
    NotebookClient(notebook).execute(cwd=str(Path(train_loop.__file__).parent))
    assert notebook.cells[0].outputs[0].text == "True False\n"


# --- the page is opened where somebody sees it ----------------------------------------------------


@pytest.fixture
def browser_calls(monkeypatch):
    """The addresses that a browser was asked to open, instead of opening them."""
    calls = []

    def open_new_tab(address):
        calls.append(address)
        return True

    monkeypatch.setattr(training_view.webbrowser, "open_new_tab", open_new_tab)
    return calls


def test_the_path_is_printed_and_no_browser_opened_without_a_terminal(shown, browser_calls, capsys):
    assert main(["finetune", "--resume", "--out", str(shown)]) == 0
    path = (shown / run_folder.WATCH).resolve()
    assert f"open this file in a browser): {path}\n" in capsys.readouterr().err
    assert browser_calls == []


def test_the_page_is_opened_where_there_is_a_display(shown, browser_calls, capsys, monkeypatch):
    monkeypatch.setattr(training_view, "has_display", lambda: True)
    assert main(["finetune", "--resume", "--out", str(shown)]) == 0
    assert browser_calls == [(shown / run_folder.WATCH).resolve().as_uri()]
    assert "is open in the browser): " in capsys.readouterr().err
    monkeypatch.setattr(training_view.webbrowser, "open_new_tab", lambda address: False)
    assert main(["finetune", "--resume", "--out", str(shown)]) == 0
    assert "open this file in a browser): " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("platform", "environment", "expected"),
    [
        ("linux", {"DISPLAY": ":0"}, True),
        ("linux", {"WAYLAND_DISPLAY": "wayland-0"}, True),
        ("linux", {}, False),
        ("linux", {"DISPLAY": ":0", "CI": "true"}, False),
        ("darwin", {}, True),
        ("darwin", {"SSH_CONNECTION": "1 2 3 4"}, False),
        ("win32", {}, True),
    ],
)
@pytest.mark.parametrize("is_terminal", [True, False])
def test_where_a_browser_would_be_seen(platform, environment, expected, is_terminal, monkeypatch):
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "CI", "SSH_CONNECTION"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "platform", platform)
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", SimpleNamespace(isatty=lambda: is_terminal))
        found = training_view.has_display()
    assert found == (expected and is_terminal)


# --- what is missing ------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["finetune", "pretrain", "prefer", "resume"])
def test_a_missing_package_is_said_before_the_run_begins(
    command, shown, plain, tmp_path, monkeypatch, capsys
):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    out = tmp_path / "run"
    start = {"prefer": ["prefer", str(plain)], "resume": ["finetune", "--resume"]}
    words = start.get(command, [command])
    if command == "resume":
        out = shown
    assert main([*words, "--out", str(out), "--log", "tensorboard"]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: writing event files (--log tensorboard) needs a package")
    assert error.endswith("pip install tensorboard==2.21.0\n") and error.count("\n") == 1
    assert command == "resume" or not out.exists()


def test_other_commands_import_no_tensorboard(run_command):
    code = "import sys, ch07.commands.finetune, ch07.commands.prefer\n"
    code += "sys.exit(any(name.split('.')[0] == 'tensorboard' for name in sys.modules))"
    assert run_command("-c", code).returncode == 0


def test_a_page_keeps_the_newest_answers_and_counts_the_others():
    record = {"epoch": 0.0, "tokens_seen": 1, "lr": 0.1, "train_loss": 1.0, "val_loss": None}
    n = training_page.MAX_SAMPLES + 7
    history = [{"step": i, "seconds": float(i), **record} for i in range(n)]
    samples = [
        {"step": i, "question": "", "right": "", "answer": "", "stopped": ""} for i in range(n)
    ]
    text = training_page.training_page("r", history, samples, n_steps=n, settings={})
    block = text.split('id="run">')[1].split("</script>")[0]
    data = json.loads(block)
    assert [s["step"] for s in data["samples"]] == list(range(7, n)) and data["olderSamples"] == 7
    assert len(data["records"]) == n
