"""The README's commands run as printed, its Python runs, its links and file map are true.

Commands may be made short by documented flags, and --out sends runs to a temporary folder.
"""

import hashlib
import io
import json
import re
import shlex
import subprocess
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
SHORT = ["--max-steps", "3", "--eval-freq", "3"]


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.S)


COMMANDS = [line for block in blocks("bash") for line in block.splitlines()]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where a reader stands, with a finished run in runs/1 and data of their own."""
    return tmp_path_factory.mktemp("reader")


def ours(command):
    """The arguments behind `python`, of commands that run this project."""
    words = shlex.split(command)
    return words[1:] if words[0].endswith("python") and "ch07" in words else None


def test_every_command_is_known():
    """So that a new line in the README can't escape these tests."""
    others = [command for command in COMMANDS if ours(command) is None]
    assert others == [
        "make run",
        "make test",
        "python3 -m venv .venv",
        ".venv/bin/python -m pip install -r requirements.txt",
    ]


@pytest.mark.parametrize("target", ["run", "test"])
def test_make_does_what_the_lines_by_hand_do(target):
    command = ["make", "--dry-run", target, "VENV=none"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    wanted = {
        "run": ["pip install", "requirements.txt", "none/bin/python -m ch07"],
        "test": ["pip install", "requirements-dev.txt", "none/bin/python -m pytest"],
    }
    positions = [done.stdout.index(part) for part in wanted[target]]
    assert positions == sorted(positions)


def test_the_commands_run_as_printed(folder, run_command, few_answers, monkeypatch, capsys):
    """In the README's order, since later ones use the run of earlier ones.

    The first in a process of its own; the others in this one, which has PyTorch already.
    """
    from ch07.commands.cli import main

    monkeypatch.chdir(folder)
    short = {True: SHORT, False: [*SHORT, "--data", str(few_answers)]}
    (folder / "my.json").write_text(
        '[{"instruction": "Say hi.", "output": "Hi"}]', encoding="utf-8"
    )
    rows = json.loads(few_answers.read_text(encoding="utf-8"))
    (folder / "my.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    ran = []
    for command in COMMANDS:
        arguments = ours(command)
        if arguments is None:
            continue
        trains = arguments[2:3] in ([], ["finetune"]) and "--resume" not in arguments
        more = short["--data" in command or "--like" in command] if trains else []
        if not ran:
            done = run_command(*arguments, *more, cwd=folder)
            assert done.returncode == 0 and done.stdout, f"{command}\n{done.stderr}"
        else:
            monkeypatch.setattr("sys.stdin", io.StringIO("Say hi.\n"))
            code, told = main([*arguments[2:], *more]), capsys.readouterr()
            assert code == 0 and told.out, f"{command}\n{told.err}"
        ran.append(arguments[2:3] or ["finetune"])
    assert {name for (name,) in ran} == {
        "finetune",
        "respond",
        "evaluate",
        "chat",
        "compare",
        "doctor",
        "grid",
        "check",
        "export",
        "tokenize",
    }
    for block in blocks("python"):
        done = run_command("-c", block, cwd=folder)
        assert done.returncode == 0, done.stderr


def test_resume_line_in_the_text_is_what_a_stopped_run_prints():
    from ch07.training.interruption import resume_command_line

    assert resume_command_line("runs/1").strip() in README


def test_links_and_pictures_exist():
    for target in re.findall(r"\]\(([^)]+)\)", README):
        assert target.startswith("http") or (ROOT / target).exists(), target
    assert all(alt.strip() for alt in re.findall(r"!\[(.*?)\]", README, flags=re.S))


def test_the_file_map_is_true():
    for name in ("gpt_model.py", "instruction_dataset.py", "collate.py", "train_loop.py"):
        (gloss,) = re.findall(rf"\| `{name}` \| (.*?) \|", README)
        assert len(gloss.split()) <= 6
    rooms = {p.stem for p in (ROOT / "ch07").glob("*.py")} - {"__init__"}
    missing = {room for room in rooms if f"`{room}`" not in README}
    assert not missing


def test_the_error_it_shows_is_the_error_there_is(tmp_path, monkeypatch, capsys):
    from ch07.commands.cli import main

    monkeypatch.chdir(tmp_path)
    rows = [{"instruction": "a", "output": output} for output in ("b", "c", 5)]
    Path("my.json").write_text(json.dumps(rows), encoding="utf-8")
    assert main(["finetune", "--data", "my.json"]) == 1
    assert capsys.readouterr().err.strip() in README


def test_flags_and_settings_it_names_exist(capsys):
    from ch07.commands.cli import main

    commands = "finetune evaluate doctor grid check export pretrain prefer prepare-data curate"
    for command in [*commands.split(), "self-instruct", "api-calls"]:
        with pytest.raises(SystemExit):
            main([command, "--help"])
    known = capsys.readouterr().out
    for flag in set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", README)) - {
        "--data",
        "--input",
        "--impl",
        "--repository",
        "--index-url",
        "--no-deps",
        "--nproc-per-node",
    }:
        assert flag in known, flag


def naive(batch, pad_token_id=50256, ignore_index=-100, allowed_max_length=None, device="cpu"):
    """What most people write first: every padding token is masked."""
    width = max(map(len, batch)) + 1
    padded = torch.tensor([row + [pad_token_id] * (width - len(row)) for row in batch])
    inputs, targets = padded[:, :-1], padded[:, 1:].clone()
    targets[targets == pad_token_id] = ignore_index
    return inputs[:, :allowed_max_length].to(device), targets[:, :allowed_max_length].to(device)


def test_the_mistake_it_shows_is_what_the_checker_says():
    from ch07.exercises.checker import diagnose

    assert str(diagnose("custom_collate_fn", naive)) in README


def test_the_notebooks_it_lists_are_those_there_are_with_their_minutes():
    rows = re.findall(r"\| \[(.*?)\]\((notebooks/\S+)\) \| .*? \| (\d+)", README)
    assert [path for _, path, _ in rows] == [
        str(path.relative_to(ROOT)) for path in sorted((ROOT / "notebooks").glob("0*.ipynb"))
    ]
    for title, path, minutes in rows:
        first = "".join(json.loads((ROOT / path).read_text(encoding="utf-8"))["cells"][0]["source"])
        assert first.startswith(f"# {title}\n") and f"{minutes} minutes" in first


def test_the_museum_is_as_large_as_it_says():
    from ch07.exercises.museum.collection import EXHIBITS

    assert f"{len(EXHIBITS)} mistakes of this field" in README


def test_the_chinese_readme_follows_this_one():
    """The same code, pictures and figures; it remembers which English text it translates."""
    chinese = (ROOT / "README.zh-CN.md").read_text(encoding="utf-8")
    fences = [re.findall(r"```\w*\n.*?```", text, flags=re.S) for text in (README, chinese)]
    assert fences[0] == fences[1]
    for target in re.findall(r"\]\(([^)]+)\)", chinese):
        assert target.startswith("http") or (ROOT / target).exists(), target
    figures = [sorted(re.findall(r"\d+\.\d+", text)) for text in (README, chinese)]
    figures[0].remove("4.3")  # million: 430 万
    assert figures[0] == figures[1]
    known = re.search(r"source-sha: (\w{12})", chinese).group(1)
    now = hashlib.sha256((ROOT / "README.md").read_bytes()).hexdigest()[:12]
    assert known == now, "README.md has changed: bring README.zh-CN.md up to date"
