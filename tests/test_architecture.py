"""The floors: every import of ours points strictly down; leaves know nothing of ours; budgets."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
CHAPTER = ("gpt_model", "instruction_dataset", "collate", "train_loop")
TOY, EX = "ch07.toy_instructions.", "ch07.exercises."
BY_FLOOR = {
    1: "cross_entropy files json_rows machine modes near_duplicates options ranks report "
    "requirements scoring shards shown stopping token_words tokenizer weight_names "
    "toy_instructions.words "
    "exercises.catalogue exercises.museum.exhibit "
    "systems.agreement systems.api_call systems.arithmetic systems.four_stages "
    "systems.retriever systems.self_instruct systems.toolbox_calls systems.toy_preferences",
    2: "arguments batching checkpoint completion data drawings estimate generation hf_files hub "
    "lines lora optimizers prefix_tuning prompts seams token_drawing weight_files "
    "toy_instructions.facts toy_instructions.lists toy_instructions.sentences "
    "exercises.findings "
    "systems.api_scores systems.curation systems.dpo systems.embedding_resize systems.judge "
    "systems.label_batches systems.novelty systems.quality systems.toolbox",
    3: "adapter_files adapters checked_rows gguf_file loading model_card respond server_formats "
    "splits system_arguments token_grid "
    "toy_instructions.build "
    "exercises.batch_checks exercises.museum.rooms exercises.sandbox "
    "systems.growing systems.label_rows systems.magpie systems.streaming",
    4: "batch_grid completion_url parser run_folder survey token_store "
    "toy_instructions.corpus "
    "exercises.attention_checks exercises.generation_probe exercises.loss_checks "
    "exercises.museum.game exercises.option_checks exercises.text_checks "
    "systems.asking systems.chatglm_rows systems.lamini systems.preferences",
    5: "backends claim held_out keeping sources stored_rows systems.asking_in_stages text_rows "
    "weights "
    "exercises.block_checks exercises.collate_checks exercises.generation_checks "
    "exercises.loader_checks exercises.step_checks",
    6: "going_on plan exercises.cache_checks",
    7: "costs exercises.diagnose",
    8: "dry_run prepare exercises.child exercises.live",
    9: "api_calls chat check checkup compare curate evaluate export finetune grid picture prefer "
    "new_rows prepare_data storing verify",
    10: "doctor pretrain",
    11: "cli",
    12: "__main__",
}
MUSEUM = "answers attention batches losses masks models responses steps text"
FLOORS = dict.fromkeys(CHAPTER, 1)
FLOORS |= {f"ch07.{name}": floor for floor, names in BY_FLOOR.items() for name in names.split()}
FLOORS |= {f"{EX}museum.{room}": 2 for room in MUSEUM.split()}
STUBS = sorted((ROOT / "ch07" / "exercises" / "stubs").glob("*.py"))  # a learner's, not ours
SHOWN = [p for p in ROOT.glob("*.py") if p.name != "conftest.py"]
SHOWN += [p for p in sorted((ROOT / "ch07").rglob("*.py")) if p not in STUBS]


def name_of(path):
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


MODULES = {name_of(path): path for path in SHOWN if path.name != "__init__.py"}


def imports_of_ours(name):
    """Names of our modules that a module imports, wherever in the file the import stands."""
    found = set()
    for node in ast.walk(ast.parse(MODULES[name].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name}: relative imports hide the floor"
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found & set(MODULES)


def test_every_module_has_a_floor():
    assert set(MODULES) == set(FLOORS)


@pytest.mark.parametrize("name", MODULES)
def test_imports_point_strictly_down(name):
    up = {other for other in imports_of_ours(name) if FLOORS[other] >= FLOORS[name]}
    assert not up, f"{name} (floor {FLOORS[name]}) imports {up}"


def test_nobody_but_tests_and_notebooks_visits_the_museum():
    """Wrong code must never be called by ours."""
    for name in MODULES:
        visits = {other for other in imports_of_ours(name) if other.startswith(EX + "museum")}
        assert not visits or name.startswith(EX + "museum"), name


def test_a_stub_imports_the_chapter_alone():
    for path in STUBS:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom):
                assert node.module in (*CHAPTER, "torch", "torch.utils.data"), path


@pytest.mark.parametrize("name", CHAPTER)
def test_the_four_files_stand_alone(name):
    assert not imports_of_ours(name)


def test_init_files_hold_a_docstring_and_nothing_else():
    for path in SHOWN:
        if path.name == "__init__.py":
            body = ast.parse(path.read_text(encoding="utf-8")).body
            assert len(body) == 1 and isinstance(body[0].value, ast.Constant), path


@pytest.mark.parametrize("path", SHOWN, ids=name_of)
def test_a_file_is_read_in_one_sitting_and_a_function_on_one_screen(path):
    text = path.read_text(encoding="utf-8")
    tree = ast.parse(text)
    assert text.count("\n") <= 250
    assert ast.get_docstring(tree), "a module says what it is"
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            assert node.end_lineno - node.lineno < 50, node.name
        public = isinstance(node, ast.FunctionDef | ast.ClassDef) and node in tree.body
        if public and not node.name.startswith("_"):
            assert ast.get_docstring(node), f"{node.name} says what it does"


def test_only_those_who_may_print():
    """Library functions return; commands, reports and scripts print."""
    may = {
        f"ch07.{name}"
        for name in "api_calls cli finetune keeping evaluate chat compare curate doctor grid check "
        "export prefer new_rows prepare_data storing verify report".split()
    }
    may.add(TOY + "build")
    for name, path in MODULES.items():
        calls = [
            n
            for n in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
            if isinstance(n, ast.Call)
        ]
        printing = any(
            isinstance(call.func, ast.Name) and call.func.id == "print" for call in calls
        )
        assert not printing or name in may, name


def test_text_files_name_their_encoding():
    """Windows would read and write them in another one."""
    for path in [*SHOWN, *sorted((ROOT / "tests").rglob("*.py"))]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            called = getattr(node.func, "attr", getattr(node.func, "id", ""))
            keywords = {keyword.arg for keyword in node.keywords}
            mode = next((a.value for a in node.args[1:2] if isinstance(a, ast.Constant)), "")
            if called in ("read_text", "write_text") or (called == "open" and "b" not in str(mode)):
                if getattr(getattr(node.func, "value", None), "id", "") in ("os", "tokenize"):
                    continue
                named = "utf-8" in [getattr(a, "value", "") for a in node.args]
                assert named or "encoding" in keywords, f"{path.name}:{node.lineno}"
