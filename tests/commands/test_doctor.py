"""The doctor: everything that is wrong is named with its rows, and its fix works."""

import json
import shlex
import time
from dataclasses import replace
from types import SimpleNamespace

import pytest

from ch07.commands import doctor_checks
from ch07.commands.cli import main
from ch07.config import FinetuneOptions
from ch07.data import dataset_statistics
from ch07.data.entries import load_entries
from ch07.training.dry_run import DryRun, dry_run, longest_batch
from ch07.training.run_plan import build_plan
from ch07.utils import dependencies

GOOD = [{"instruction": f"Say {i} aloud.", "input": "", "output": f"{i}!"} for i in range(40)]


@pytest.fixture(autouse=True)
def stay_here(monkeypatch, tmp_path, request):
    """In a folder of its own; without a dry run, but where that is what a test is about."""
    monkeypatch.chdir(tmp_path)
    if "dry" not in request.node.name:
        seen = DryRun(4, 50, 0.1, 10**9, loss=10.0, loss_on_cpu=10.0)
        monkeypatch.setattr(doctor_checks, "dry_run", lambda plan, options: seen)


@pytest.fixture
def write(tmp_path):
    def write(rows, name="mine.json"):
        path = tmp_path / name
        path.write_text(json.dumps(rows), encoding="utf-8")
        return str(path)

    return write


def examined(capsys, *arguments):
    """(exit code, the JSON) of a doctor's visit."""
    code = main(["doctor", *arguments, "--json"])
    return code, json.loads(capsys.readouterr().out)


def texts(page, level=None):
    return [c["text"] for c in page["checks"] if level in (None, c["level"])]


def test_good_data_is_ready_and_the_next_command_is_said(write, capsys):
    path = write(GOOD)
    code, page = examined(capsys, path, "--batch-size", "4", "--lr", "0.001")
    assert code == 0 and page["ready"] and not texts(page, "wrong")
    assert page["next"] == f"python -m ch07 finetune --data {path} --batch-size 4 --lr 0.001"
    assert main(["doctor", path]) == 0
    out = capsys.readouterr().out
    assert "READY: 0 wrong" in out and "40 rows can be used: 34 train, 4 test, 2 validation" in out


def verdict(capsys, *arguments):
    """(exit code, the verdict and what is said of it) of a visit."""
    code = main(["doctor", *arguments])
    return code, capsys.readouterr().out.split("\n\n")[-1].splitlines()


def test_ready_says_whether_what_is_left_to_look_at_matters(write, capsys):
    enough = ["--epochs", "60", "--batch-size", "4"]  # updates for a model with random weights
    code, lines = verdict(capsys, write(GOOD), *enough)
    assert code == 0 and lines[0] == "READY: 0 wrong, 0 to look at" and len(lines) == 2
    rows = [dict(row) for row in GOOD]
    rows[9] = rows[8]
    rows[11]["input"] = "N/A"
    code, lines = verdict(capsys, write(rows), *enough)
    assert code == 0 and lines[0].startswith("READY: 0 wrong, ")
    n = int(lines[0].split()[3])
    assert n >= 2 and lines[1] == (
        "What is marked LOOK does not stop training; "
        f"{n} of them may change what the model learns or its score (data)."
    )
    rows = [{**row, "output": "(x)"} for row in GOOD]  # merges change nothing: both are apart
    code, lines = verdict(capsys, write(rows), *enough, "--prompt-style", "alpaca")
    assert code == 0 and lines[0] == "READY: 0 wrong, 1 to look at"
    assert lines[1].endswith("none of them changes what the model learns or its score.")
    rows[3] = {"instruction": "Say it.", "output": 5}
    code, lines = verdict(capsys, write(rows), *enough)
    assert code == 1 and lines[0].startswith("NOT READY: 1 wrong") and len(lines) == 2


def test_the_page_with_its_dry_run_comes_in_twenty_seconds(capsys):
    """Also for the bundled 15,294 rows, on one thread; 8 s of processor time."""
    started = time.process_time()
    assert main(["doctor"]) == 0
    assert time.process_time() - started < 20
    out = capsys.readouterr().out
    for part in ("machine", "data\n", "splits", "tokens", "run", "the longest batch, 48 rows of"):
        assert part in out


def test_every_finding_comes_with_its_rows_and_the_command_that_fixes_it(write, tmp_path, capsys):
    rows = [dict(row) for row in GOOD]
    rows[3]["output"] = 5
    rows[7]["output"] = " "
    rows[9] = rows[8]
    rows[11]["input"] = "N/A"
    rows[13]["output"] = "word " * 1100
    rows[15] = {"instruction": "Say 1 aloud.", "output": "another"}
    path = write(rows)
    code, page = examined(capsys, path)
    assert code == 1 and not page["ready"]
    by_text = {check["text"]: check for check in page["checks"]}
    expected = {
        "left out: 'output' is a number, but must be text (1)": ("wrong", ["row 4"]),
        "left out: 'output' is empty (1)": ("look", ["row 8"]),
        "the same as an earlier row (1)": ("look", ["row 10"]),
        "'input' is the placeholder 'N/A'; leave it empty instead (1)": ("look", ["row 12"]),
    }
    for text, (level, where) in expected.items():
        assert (by_text[text]["level"], by_text[text]["rows"]) == (level, where)
    (long,) = (text for text in by_text if "more tokens than the model's context" in text)
    assert by_text[long]["level"] == "wrong" and by_text[long]["rows"][0].startswith("row 14 of ")
    (group,) = (text for text in by_text if "different answers" in text)
    assert sorted(by_text[group]["rows"]) == ["row 16", "row 2"]
    clean = tmp_path / "mine.clean.json"
    assert page["next"] == f"python -m ch07 doctor {path} --write-clean mine.clean.json"
    assert main(shlex.split(page["next"])[3:]) == 0
    assert "finetune --data mine.clean.json" in capsys.readouterr().out
    assert load_entries(clean) == load_entries(clean, skip_bad_rows=True)
    assert len(load_entries(clean)) == 37
    assert main(["doctor", str(clean)]) == 0


def test_skipped_rows_are_no_fault(write, capsys):
    rows = [*GOOD, {"instruction": "x"}]
    code, page = examined(capsys, write(rows), "--skip-bad-rows")
    assert code == 0
    assert any("'output' is missing" in text for text in texts(page, "look"))


def test_what_is_written_is_what_a_run_would_use(write, capsys):
    rows = [{**GOOD[i], "id": i} for i in range(20)] + [{"instruction": "x", "output": ""}]
    path = write(rows)
    assert main(["doctor", path, "--write-clean", "clean.jsonl"]) == 0
    with open("clean.jsonl", encoding="utf-8") as file:
        assert [json.loads(line) for line in file] == rows[:20]
    assert "20 usable rows are in clean.jsonl" in capsys.readouterr().out


def test_nothing_is_ever_overwritten(write, tmp_path, capsys):
    path = write(GOOD)
    (tmp_path / "link.json").symlink_to(path)
    for target in (path, "mine.json", "link.json", tmp_path / "link.json"):
        assert main(["doctor", path, "--write-clean", str(target)]) == 2
        assert "exists: choose another name" in capsys.readouterr().err
    assert load_entries(path) == GOOD
    assert main(["doctor", path, "--write-clean", "nowhere/clean.json"]) == 2


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"{", "not JSON"), (b"", "the file is empty"), (b"\xff", "not UTF-8"), (b"[]", "no usable")],
)
def test_a_file_that_cannot_be_read_is_said(tmp_path, capsys, content, said):
    path = tmp_path / "bad.json"
    path.write_bytes(content)
    code, page = examined(capsys, str(path))
    assert code == 1 and said in " ".join(texts(page, "wrong"))
    assert main(["doctor", str(path)]) == 1
    assert "NOT READY: 1 wrong" in capsys.readouterr().out
    assert main(["doctor", "nowhere.json"]) == 1
    assert "No such file" in capsys.readouterr().out


def test_what_a_limit_costs_is_counted(write, capsys):
    """Recounted here from the lengths that the finished batches have."""
    rows = [{"instruction": f"Say {i}.", "output": "word " * (i + 1)} for i in range(60)]
    path = write(rows)
    limited = [path, "--allowed-max-length", "64", "--loss-on", "all", "--batch-size", "4"]
    code, page = examined(capsys, *limited)
    assert code == 0
    plan = build_plan(FinetuneOptions(data=path), lambda text: None)
    lengths = [n for dataset in plan.rows.datasets.values() for n in dataset.lengths]
    (cost,) = (cost for cost in page["limits"] if cost["limit"] == 64)
    assert cost == {"limit": 64, "rows": 60, "end": sum(n > 64 for n in lengths), "answer": 0}
    assert main(["doctor", *limited]) == 0
    out = capsys.readouterr().out
    assert "--------- limit: 64 tokens ---------" in out
    assert f"at 64 tokens (chosen) {100 * cost['end'] / 60:.1f} % of rows lose their end" in out


@pytest.mark.parametrize("loss_on", ["response", "all"])
@pytest.mark.parametrize("limit", [None, 40])
def test_counted_roles_are_those_of_the_real_batches(loss_on, limit):
    options = FinetuneOptions(loss_on=loss_on, allowed_max_length=limit, batch_size=64)
    plan = build_plan(replace(options, skip_bad_rows=True), lambda text: None)
    train = plan.rows.datasets["train"]
    counted = dataset_statistics.counted_targets_by_role(
        train, plan.tokenizer, plan.style, loss_on, limit
    )
    assert sum(counted.values()) == sum(int((t != -100).sum()) for _, t in plan.train_loader)
    assert counted["end"] == sum(n <= (limit or n) for n in train.lengths)
    checks, _, _ = doctor_checks.check_tokens(plan, options)
    assert ("counts 100 % of all targets" in checks[0].text) == (loss_on == "all")


def test_tokens_that_would_merge_where_the_answer_begins_are_counted(write, capsys):
    answers = ["(x)", "Red", '"Hi" he said', "ok", "-5"]
    path = write([{**GOOD[i], "output": answers[i % 5]} for i in range(40)])
    seen = {}
    for style in ("alpaca", "book", "chinese-alpaca"):
        code, page = examined(capsys, path, "--prompt-style", style)
        (check,) = (c for c in page["checks"] if "where the answer begins" in c["text"])
        assert code == 0 and not any("would merge" in text for text in texts(page)), "told once"
        seen[style] = page["boundary_merges"], check
    merges, check = seen["alpaca"]
    rows = [f"row {i + 1}" for i in range(40) if i % 5 in (0, 2, 4)]
    assert (check["level"], check["rows"]) == ("look", rows)
    assert (merges["rows"], merges["of"], merges["template_end"]) == (24, 40, ":")
    tokens = {example["row"]: example["tokens"] for example in merges["examples"]}
    assert tokens == {
        "row 1": "':' | '(' -> ':('",
        "row 3": "':' | '\"' -> ':\"'",
        "row 5": "':' | '-' -> ':-'",
    }
    assert check["text"].startswith("24 of 40 rows") and "ends in ':'" in check["text"]
    assert all(text in check["text"] for text in tokens.values())
    assert (seen["book"][1]["level"], seen["book"][0]["rows"]) == ("ok", 0)
    spaced = seen["chinese-alpaca"][0]
    assert (spaced["rows"], spaced["template_end"]) == (40, " ")
    assert main(["doctor", path, "--prompt-style", "alpaca"]) == 0
    assert f"  LOOK  {check['text']}: row 1, row 3, row 5" in capsys.readouterr().out


def test_leaks_and_near_duplicates_are_named(write, capsys):
    rows = [{**row, "split": "train"} for row in GOOD]
    rows[0] = {"instruction": "Describe the weather in Paris today, please.", "output": "Rain."}
    rows += [
        {"instruction": "describe  the weather in Paris today, please.", "output": "x"},
        {"instruction": "Describe the weather in Paris today please", "output": "y"},
        {"instruction": "Something else entirely: zebra quilts!", "output": "z"},
    ]
    rows[-3:] = [{**row, "split": "test"} for row in rows[-3:]]
    code, page = examined(capsys, write(rows))
    assert code == 0
    (leak,) = (c for c in page["checks"] if "1 of 3 test prompts are also in" in c["text"])
    assert leak["level"] == "look" and leak["rows"] == ["row 41"]
    (similar,) = (c for c in page["checks"] if "of 3 held-out prompts closely" in c["text"])
    assert similar["text"].startswith("2 of 3") and similar["level"] == "look"
    pairs = {row.split(" (")[0] for row in similar["rows"]}
    assert pairs == {"row 41 and row 1", "row 42 and row 1"}
    assert main(["finetune", "--data", "mine.json", "--max-steps", "1", "--out", "run"]) == 0
    said = capsys.readouterr().err
    assert "2 of 3 held-out prompts closely resemble a training prompt" in said


def test_a_device_that_computes_wrongly_is_found(monkeypatch, write, capsys):
    """Stands in for Apple's GPU, which gave a first loss of 19.9 where the CPU gives 3.8."""
    right = dry_run(build_plan(FinetuneOptions(data=write(GOOD)), print), FinetuneOptions())
    assert right.agrees and right.loss == pytest.approx(right.loss_on_cpu, rel=0.02)
    monkeypatch.setattr(doctor_checks, "dry_run", lambda *_: replace(right, loss=right.loss * 1.9))
    path = write(GOOD)
    code, page = examined(capsys, path, "--epochs", "3")
    assert code == 1 and "this device gives wrong results" in texts(page, "wrong")[0]
    assert page["next"] == (
        f"python -m ch07 finetune --data {path} --epochs 3 --device cpu --dtype float32"
    )


def test_a_device_that_computes_no_number_is_found(monkeypatch, write, capsys):
    def broken(*arguments):
        raise FloatingPointError("loss or gradient is not finite")

    monkeypatch.setattr(doctor_checks, "dry_run", broken)
    code, page = examined(capsys, write(GOOD))
    assert code == 1 and texts(page, "wrong") == [
        "the longest batch fails: loss or gradient is not finite"
    ]


def test_the_longest_batch_is_the_one_that_is_tried(write):
    rows = [
        {"instruction": f"Say {i}.", "output": "word " * (i % 7 + 40 * (i == 21))}
        for i in range(1, 60)
    ]
    options = FinetuneOptions(data=write(rows), batch_size=4, skip_bad_rows=True)
    plan = build_plan(options, lambda text: None)
    inputs, _ = longest_batch(plan, options)
    assert inputs.numel() == max(inputs.numel() for inputs, _ in plan.train_loader)


def test_a_run_that_does_not_fit_is_not_ready(write, capsys, monkeypatch):
    monkeypatch.setattr("ch07.training.cost_estimate.available_memory", lambda device: 1e8)
    code, page = examined(capsys, write(GOOD))
    assert (
        code == 1 and "needs" in texts(page, "wrong")[0] and "are free" in texts(page, "wrong")[0]
    )


def test_requirements_are_held_against_what_is_installed(monkeypatch, tmp_path, write, capsys):
    assert dependencies.unmet_requirements() == []
    path = tmp_path / "requirements.txt"
    path.write_text("torch==1.0  # old\n\n# a comment\nnosuchpackage>=2\ntqdm>=4\n", "utf-8")
    monkeypatch.setattr(dependencies, "REQUIREMENTS_FILE", path)
    wrong, missing = dependencies.unmet_requirements()
    assert wrong.startswith("torch 2.") and wrong.endswith("but ==1.0 is needed")
    assert missing == "nosuchpackage is not installed"
    assert main(["doctor", write(GOOD)]) == 1
    assert capsys.readouterr().err == (
        "error: nosuchpackage is not installed: python -m pip install -r requirements.txt\n"
    )
    path.write_text("torch==1.0\n", "utf-8")
    code, page = examined(capsys, write(GOOD))
    assert code == 1 and page["next"] == "python -m pip install -r requirements.txt"


def test_what_finetune_would_refuse_is_not_ready(write, capsys, monkeypatch, tmp_path):
    """The disk, the folder, a model that must be fetched without a network."""
    path = write(GOOD)
    free = "ch07.runs.new_run_folder.shutil.disk_usage"
    monkeypatch.setattr(free, lambda p: SimpleNamespace(free=10**12))  # whatever this disk has
    with monkeypatch.context() as patch:
        patch.setattr(free, lambda p: SimpleNamespace(free=10**7))
        code, page = examined(capsys, path)
        assert code == 1 and any("MB are free" in text for text in texts(page, "wrong"))
        assert examined(capsys, path, "--force")[0] == 0
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    code, page = examined(capsys, path, "--model", "gpt2-small")
    assert code == 1 and "0.5 GB will be downloaded, but HF_HUB_OFFLINE" in texts(page, "wrong")[0]
    (tmp_path / "runs").write_text("a file", encoding="utf-8")
    code, page = examined(capsys, path)
    assert code == 1 and "runs is a file" in texts(page, "wrong")[0]


def test_what_finetune_notes_the_doctor_says(write, capsys):
    rows = [{**GOOD[i], "split": "train"} for i in range(5)] + GOOD[5:9]
    path = write(rows)
    _, page = examined(capsys, path)
    for part in (
        "`split` field; 4 rows without one go to training",
        "no test rows",
        "no validation",
    ):
        assert any(part in text for text in texts(page, "look")), part
    assert any("updates from random weights" in text for text in texts(page, "look"))
    _, page = examined(capsys, "--data", path, "--split", "book", "--allowed-max-length", "5000")
    for part in ("ignoring the file's `split` field", "using 1024"):
        assert any(part in text for text in texts(page, "look")), part


def test_a_clean_file_keeps_odd_keys_and_a_free_name_is_found(tmp_path, capsys):
    path = tmp_path / "odd.jsonl"
    path.write_text('{"instruction": "a", "output": "b", "note": "\\ud800"}\n{"x": 1}\n', "utf-8")
    assert main(["doctor", str(path), "--write-clean", "odd.clean.jsonl"]) == 0
    assert load_entries("odd.clean.jsonl") == load_entries(path, skip_bad_rows=True)
    capsys.readouterr()
    _, page = examined(capsys, str(path))
    assert page["next"].endswith("--write-clean odd.clean.2.jsonl")
