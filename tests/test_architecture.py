"""The order of the folders: each imports only from those below it, and none is in a circle.

Nothing here is kept by hand but the order itself (`ORDER`), which CONTRIBUTING.md explains.
"""

import ast
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
CHAPTER = ("gpt_model", "instruction_dataset", "collate", "train_loop")
# From top to bottom. A module imports from its own folder or from folders below it.
ORDER = (
    "commands",
    "exercises",
    "serving",
    "pages",
    "systems",
    "training",
    "evaluation",
    "generation",
    "models",
    "runs",
    "visualization",
    "data",
    "config",
    "utils",
)
ENTRY_POINTS = ("ch07", "ch07.__main__", "ch07.book_names")  # doors, above all folders
MUSEUM = "ch07.exercises.museum"
STUBS = sorted((ROOT / "ch07" / "exercises" / "stubs").glob("*.py"))  # the learner's, not ours
OURS = [p for p in ROOT.glob("*.py") if p.name != "conftest.py"]
OURS += [p for p in sorted((ROOT / "ch07").rglob("*.py")) if p not in STUBS]


def module_name(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in OURS}


@cache
def parsed(path):
    return ast.parse(path.read_text(encoding="utf-8"))


@cache
def imports_of_ours(name):
    """Names of our modules that a module imports, wherever in the file the import stands."""
    found = set()
    for node in ast.walk(parsed(MODULES[name])):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name}: a relative import hides which folder is meant"
            for alias in node.names:
                if (node.module, alias.name) == ("ch07", "__version__"):
                    continue  # its one home is the package itself; nothing is loaded by it
                submodule = f"{node.module}.{alias.name}"
                found.add(submodule if submodule in MODULES else node.module)
    return (found & set(MODULES)) - {name}


def level(name):
    """0 at the top; the chapter files are the lowest."""
    if name in CHAPTER:
        return len(ORDER)
    if name in ENTRY_POINTS:
        return -1
    return ORDER.index(name.split(".")[1])


def test_every_module_stands_in_a_folder_of_the_order():
    for name in MODULES:
        assert level(name) >= -1, name


@pytest.mark.parametrize("name", MODULES)
def test_imports_point_down(name):
    up = {other for other in imports_of_ours(name) if level(other) < level(name)}
    assert not up, f"{name} imports {sorted(up)} from a folder above its own"


def test_there_is_no_circle():
    graph = {name: imports_of_ours(name) for name in MODULES}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"these modules import each other: {' -> '.join(error.args[1])}")


def test_only_tests_and_notebooks_use_the_museum():
    """Its code is wrong on purpose, so ours must never call it."""
    for name in MODULES:
        visits = {other for other in imports_of_ours(name) if other.startswith(MUSEUM)}
        assert not visits or name.startswith(MUSEUM), name


def test_a_stub_imports_the_chapter_alone():
    for path in STUBS:
        for node in ast.walk(parsed(path)):
            if isinstance(node, ast.ImportFrom):
                assert node.module in (*CHAPTER, "torch", "torch.utils.data"), path


@pytest.mark.parametrize("name", CHAPTER)
def test_the_four_chapter_files_import_nothing_of_ours(name):
    assert not imports_of_ours(name)


def test_init_files_but_the_public_door_hold_a_docstring_and_nothing_else():
    for path in OURS:
        if path.name == "__init__.py" and path.parent.name != "ch07":
            body = parsed(path).body
            assert len(body) == 1 and isinstance(body[0].value, ast.Constant), path


@pytest.mark.parametrize("path", OURS, ids=module_name)
def test_a_module_says_what_it_is_and_a_function_fits_a_screen(path):
    tree = parsed(path)
    assert ast.get_docstring(tree), "a module says what it is"
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            assert node.end_lineno - node.lineno < 50, node.name
        public = isinstance(node, ast.FunctionDef | ast.ClassDef) and node in tree.body
        if public and not node.name.startswith("_"):
            assert ast.get_docstring(node), f"{node.name} says what it does"


def test_only_commands_print():
    """Library functions return; commands, and the few modules named here, print."""
    may_print = {
        "ch07.book_names",
        "train_loop",
        "ch07.evaluation.score_report",
        "ch07.training.interruption",
        "ch07.utils.console",
        "ch07.data.toy_instructions.build",
        "ch07.data.toy_instructions.conversations",
    }
    for name, path in MODULES.items():
        calls = [node for node in ast.walk(parsed(path)) if isinstance(node, ast.Call)]
        names = {node.func.id for node in calls if isinstance(node.func, ast.Name)}
        if "print" in names:
            assert name.startswith("ch07.commands.") or name in may_print, name


# What has an `open` of its own: `archive` is a zip, whose files are bytes.
NOT_TEXT = ("os", "tokenize", "archive")


def test_text_files_name_their_encoding():
    """Windows would read and write them in another one."""
    for path in [*OURS, *sorted((ROOT / "tests").rglob("*.py"))]:
        for node in ast.walk(parsed(path)):
            if not isinstance(node, ast.Call):
                continue
            called = getattr(node.func, "attr", getattr(node.func, "id", ""))
            keywords = {keyword.arg for keyword in node.keywords}
            mode = next((a.value for a in node.args[1:2] if isinstance(a, ast.Constant)), "")
            if called in ("read_text", "write_text") or (called == "open" and "b" not in str(mode)):
                if getattr(getattr(node.func, "value", None), "id", "") in NOT_TEXT:
                    continue
                named = "utf-8" in [getattr(a, "value", "") for a in node.args]
                assert named or "encoding" in keywords, f"{path.name}:{node.lineno}"
