"""README and docs/ are true: commands run as printed, links lead somewhere, what is shown is real.

Commands may be made short by documented flags, and --out sends runs to a temporary folder.
"""

import hashlib
import io
import json
import re
import shlex
import subprocess
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
import torch
from test_architecture import ORDER

ROOT = Path(__file__).resolve().parent.parent
SHORT = ["--max-steps", "3", "--eval-freq", "3"]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
TRANSLATED = [path for path in PAGES if "zh-CN" in path.parts]
PAGES = [path for path in PAGES if path not in TRANSLATED]
TRANSLATED.append(ROOT / "README.zh-CN.md")


def page_name(path):
    return str(path.relative_to(ROOT))


TEXTS = {page_name(path): path.read_text(encoding="utf-8") for path in PAGES}
README = TEXTS["README.md"]
ALL = "\n".join(TEXTS.values())


def blocks(language, text=ALL):
    return re.findall(rf"```{language}\n(.*?)```", text, flags=re.S)


def ours(command):
    """The arguments behind `python`, of commands that run this project."""
    words = shlex.split(command)
    return words[1:] if words[0].endswith("python") and "ch07" in words else None


# Each once, README first, since later ones use the run of earlier ones.
COMMANDS = list(dict.fromkeys(line for block in blocks("bash") for line in block.splitlines()))
OURS = list({tuple(ours(line)): line for line in COMMANDS if ours(line)})


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where a reader stands, with a finished run in runs/1 and data of their own."""
    return tmp_path_factory.mktemp("reader")


# --- commands -------------------------------------------------------------------------------------
def test_every_command_is_known():
    """So that a new line can't escape these tests."""
    assert [command for command in COMMANDS if ours(command) is None] == [
        "make run",
        "make test",
        "python3 -m venv .venv",
        ".venv/bin/python -m pip install torch==2.13.0 "
        "--index-url https://download.pytorch.org/whl/cpu",
        ".venv/bin/python -m pip install -r requirements.txt",
        ".venv/bin/python -m pip install -r requirements.txt jupyterlab",
    ]


def test_the_pytorch_that_is_named_is_the_one_that_is_required():
    required = (ROOT / "requirements.txt").read_text(encoding="utf-8")
    named = set(re.findall(r"torch==[\d.]+\d", ALL + Path(ROOT / "Makefile").read_text("utf-8")))
    assert named == set(re.findall(r"^torch==[\d.]+\d", required, flags=re.M))


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


def test_make_run_says_what_it_installs_before_it_does():
    command = ["make", "--dry-run", "run", "VENV=none"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    said = [line for line in done.stdout.splitlines() if line.startswith("echo")]
    assert any("gigabytes" in line for line in said)
    assert any("--index-url https://download.pytorch.org/whl/cpu" in line for line in said)
    assert done.stdout.index("gigabytes") < done.stdout.index("-r requirements.txt")


def shortened(arguments, few_answers):
    """What makes a command short: few steps and, where it names no data, few rows."""
    command = next(iter(arguments[2:3]), "finetune")
    named = {"--data", "--like", "my.json", "one.jsonl"} & set(arguments)
    if command == "finetune" and "--resume" not in arguments:
        return SHORT if named else [*SHORT, "--data", str(few_answers)]
    return [str(few_answers)] if command == "doctor" and not named else []


def test_the_commands_run_as_printed(folder, run_command, few_answers, monkeypatch, capsys):
    """In the order of the pages. The first command runs in a process of its own; the others in
    this one, which has PyTorch already.
    """
    from ch07.commands.cli import main

    monkeypatch.chdir(folder)
    (folder / "my.json").write_text(
        '[{"instruction": "Say hi.", "output": "Hi"}]', encoding="utf-8"
    )
    rows = json.loads(few_answers.read_text(encoding="utf-8"))
    (folder / "my.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    (folder / "one.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    (folder / "two.csv").write_text("question,answer\nSay hi.,Hi\n", encoding="utf-8")
    (folder / "data").mkdir()
    table = pyarrow.Table.from_pylist([{"question": "Say hi.", "answer": "Hi"}])
    pyarrow.parquet.write_table(table, folder / "data" / "one.parquet")
    ran = set()
    for number, arguments in enumerate(map(list, OURS)):
        more = shortened(arguments, few_answers)
        if number == 0:
            done = run_command(*arguments, *more, cwd=folder)
            assert done.returncode == 0 and done.stdout, f"{arguments}\n{done.stderr}"
        else:
            monkeypatch.setattr("sys.stdin", io.StringIO("Say hi.\n"))
            code = main([*arguments[2:], *more])
            printed = capsys.readouterr()
            assert code == 0 and printed.out, f"{arguments}\n{printed.err}"
        ran.add(next(iter(arguments[2:3]), "finetune"))
    assert ran == {
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


INLINE = re.findall(r"`\S*(?:python -m ch07|ch07)( [^`\n]*)?`", ALL)
TYPED = re.findall(r"^[^`\n]*python (?:[^`\n]* )?-m ch07([^`\n]*)$", ALL, flags=re.M)
TYPED += re.findall(r"^torchrun .*-m ch07(.*)$", ALL, flags=re.M)


def test_every_command_that_is_mentioned_parses(capsys):
    from ch07.commands.parser import make_parser

    mentioned = {text for text in (*INLINE, *TYPED) if not text.startswith(" COMMAND")}
    assert len(mentioned) >= 25
    for command in mentioned:
        words = shlex.split(command)
        if not words or (words[0].startswith("-") and words[0] != "--help"):
            words.insert(0, "finetune")
        try:
            make_parser().parse_args(words)
        except SystemExit as ended:
            assert ended.code == 0, f"{command}\n{capsys.readouterr().err}"


def printed_help(capsys, *words):
    from ch07.commands.cli import main

    with pytest.raises(SystemExit):
        main([*words, "--help"])
    return capsys.readouterr().out


COMMAND_ROWS = re.findall(r"^\| `([a-z-]+)` \|", TEXTS["docs/reference/commands.md"], flags=re.M)


def test_the_commands_in_the_reference_are_those_there_are(capsys):
    known = set(re.findall(r"^    ([a-z][a-z-]+)(?:  |\n)", printed_help(capsys), flags=re.M))
    assert set(COMMAND_ROWS) == known - {"help"} and len(COMMAND_ROWS) == len(set(COMMAND_ROWS))


OTHERS_FLAGS = set(  # of pip, torchrun, pytest, tensorboard, notebooks/build.py, benchmarks/
    "--index-url --no-deps --no-index --find-links --wheel-dir --dest --nproc-per-node --nnodes "
    "--rdzv-backend --rdzv-endpoint --max-restarts --impl --repository --rounds --seeds "
    "--busy --name --baseline --bind --logdir".split()
)


def test_flags_and_settings_they_name_exist(capsys):
    known = printed_help(capsys)
    known += "".join(printed_help(capsys, command) for command in COMMAND_ROWS)
    for name, text in TEXTS.items():
        for flag in set(re.findall(r"(?<![\w-])--[a-z][a-z0-9-]+", text)) - OTHERS_FLAGS:
            assert flag in known, f"{name}: {flag}"


def test_the_settings_in_the_reference_are_those_there_are(capsys):
    finetune, prefer = TEXTS["docs/reference/settings.md"].split("## `prefer`")
    for command, text in (("finetune", finetune), ("prefer", prefer)):
        known = set(re.findall(r"--[a-z][a-z0-9-]+", printed_help(capsys, command)))
        rows = set(re.findall(r"^\| `(--[a-z0-9-]+)`", text, flags=re.M))
        assert known - {"--help", "--verbose", "--resume", "--like"} <= rows <= known


# --- what they show -------------------------------------------------------------------------------
def test_resume_line_in_the_text_is_what_a_stopped_run_prints():
    from ch07.training.interruption import resume_command_line

    assert resume_command_line("runs/1").strip() in ALL


def test_the_error_they_show_is_the_error_there_is(tmp_path, monkeypatch, capsys):
    from ch07.commands.cli import main

    monkeypatch.chdir(tmp_path)
    rows = [{"instruction": "a", "output": output} for output in ("b", "c", 5)]
    Path("my.json").write_text(json.dumps(rows), encoding="utf-8")
    assert main(["finetune", "--data", "my.json"]) == 1
    assert capsys.readouterr().err.strip() in README
    rows = [{"question": "a", "answer": 5 if i in (3, 8, 11) else "b"} for i in range(1, 12)]
    Path("my.json").write_text(json.dumps(rows), encoding="utf-8")
    assert main(["finetune", "--data", "my.json"]) == 1
    assert capsys.readouterr().err.strip() in TEXTS["docs/guides/own_data.md"]


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


def test_the_museum_is_as_large_as_it_says():
    from ch07.exercises.museum.collection import EXHIBITS

    assert f"{len(EXHIBITS)} mistakes of this field" in README


def test_numbers_of_notebooks_exercises_and_bundled_entries_are_those_there_are():
    from ch07.data.toy_instructions.build import DATA_FILE
    from ch07.exercises.catalogue import exercises

    in_words = {10: "Ten", 19: "Nineteen"}
    notebooks = list((ROOT / "notebooks").glob("[0-9]*.ipynb"))
    assert f"{in_words[len(notebooks)]} notebooks" in README
    assert f"{in_words[len(exercises())]} exercises" in README
    entries = json.loads(DATA_FILE.read_text(encoding="utf-8"))
    families = {entry["family"] for entry in entries}
    page = TEXTS["docs/explanations/what_a_small_model_cannot_do.md"]
    assert f"{len(entries):,} entries of {len(families)} task families" in page


# --- the map and the pages ------------------------------------------------------------------------
def test_the_readme_stays_short():
    assert len(README.splitlines()) <= 180


def test_the_file_map_is_true():
    rows = re.findall(r"^\| `([\w./]+)` \| (.*?) \|$", README, flags=re.M)
    assert len(rows) <= 25
    chapter = ["gpt_model.py", "instruction_dataset.py", "collate.py", "train_loop.py"]
    assert [name for name, _ in rows[:4]] == chapter
    assert all(len(gloss.split()) <= 6 for _, gloss in rows[:4])
    assert all((ROOT / name).exists() for name, _ in rows)
    inside = [Path(name).stem for name, _ in rows if name.startswith("ch07/")]
    assert inside == list(ORDER)
    folders = {path.parent.name for path in (ROOT / "ch07").glob("*/__init__.py")}
    assert folders <= set(inside)


def test_the_notebooks_it_lists_are_those_there_are_with_their_minutes():
    rows = re.findall(r"\| \[(.*?)\]\((notebooks/\S+)\) \| .*? \| (\d+)", README)
    assert [path for _, path, _ in rows] == [
        str(path.relative_to(ROOT)) for path in sorted((ROOT / "notebooks").glob("[0-9]*.ipynb"))
    ]
    for title, path, minutes in rows:
        first = "".join(json.loads((ROOT / path).read_text(encoding="utf-8"))["cells"][0]["source"])
        assert first.startswith(f"# {title}\n") and f"{minutes} minutes" in first


def links(path):
    """(target, path it leads to) of each link of a page that leads to a file."""
    for target in re.findall(r"\]\(([^)\s]+)\)", path.read_text(encoding="utf-8")):
        if not target.startswith(("http", "#")):
            yield target, (path.parent / target.split("#")[0]).resolve()


OTHER_PAGES = [ROOT / name for name in ("CONTRIBUTING.md", "CHANGELOG.md")]


@pytest.mark.parametrize("path", [*PAGES, *TRANSLATED, *OTHER_PAGES], ids=page_name)
def test_links_and_pictures_exist(path):
    text = path.read_text(encoding="utf-8")
    assert [target for target, leads_to in links(path) if not leads_to.exists()] == []
    assert all(alt.strip() for alt in re.findall(r"!\[(.*?)\]", text, flags=re.S))


@pytest.mark.parametrize("index", ["docs/README.md", "docs/zh-CN/README.md"])
def test_the_index_lists_every_page(index):
    path = ROOT / index
    # The book's own pages are in its table of contents; Sphinx warns if one isn't.
    pages = {p for p in path.parent.rglob("*.md") if "book" not in p.parts} - {path}
    if "zh-CN" not in index:
        pages = {page for page in pages if "zh-CN" not in page.parts}
    assert pages <= {leads_to for _, leads_to in links(path)}


@pytest.mark.parametrize("path", [*PAGES, *OTHER_PAGES], ids=page_name)
def test_files_benchmarks_and_tests_that_are_named_exist(path):
    text = path.read_text(encoding="utf-8")
    folders = "ch07|docs|tests|notebooks|benchmarks"
    for name in re.findall(rf"`((?:{folders})/[\w./-]*)`", text):
        assert (ROOT / name).exists(), name
    for name in re.findall(r"python -m benchmarks\.(\w+)", text):
        assert name == "NAME" or (ROOT / "benchmarks" / f"{name}.py").exists(), name
    sources = "\n".join(p.read_text(encoding="utf-8") for p in (ROOT / "tests").rglob("test_*.py"))
    for name in re.findall(r"`(test_\w+_)\.\.\.`", text):
        assert f"def {name}" in sources, name
    for module, name in re.findall(r"`(ch07(?:\.\w+)*)\.(\w+)`", text):
        folder = ROOT.joinpath(*module.split("."))
        of_module = folder.with_suffix(".py")
        defined = of_module.exists() and re.search(rf"\b{name}\b", of_module.read_text("utf-8"))
        assert defined or (folder / f"{name}.py").exists(), f"{module}.{name}"


# --- the Chinese pages ----------------------------------------------------------------------------
def original_of(path):
    """The English page that a Chinese one translates."""
    if path.name == "README.zh-CN.md":
        return ROOT / "README.md"
    return ROOT / "docs" / path.relative_to(ROOT / "docs" / "zh-CN")


def figures(text):
    millions = r"(\d+\.\d+ of )?\d+\.\d+ million"  # 430 万
    return sorted(re.findall(r"\d+\.\d+", re.sub(millions, "", text)))


@pytest.mark.parametrize("path", TRANSLATED, ids=page_name)
def test_the_chinese_pages_follow_the_english_ones(path):
    """The same code, pictures and figures; each remembers which English text it translates."""
    english, chinese = (p.read_text(encoding="utf-8") for p in (original_of(path), path))
    if path.name != "README.md" and "book" not in path.parts:  # other pages for other readers
        fences = [re.findall(r"```\w*\n.*?```", text, flags=re.S) for text in (english, chinese)]
        assert fences[0] == fences[1]
        assert figures(english) == figures(chinese)
    known = re.search(r"source-sha: (\w{12})", chinese).group(1)
    now = hashlib.sha256(original_of(path).read_bytes()).hexdigest()[:12]
    assert known == now, f"{original_of(path).name} has changed: bring {path} up to date"
