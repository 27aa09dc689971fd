"""What is printed for the reader to type can be typed: flags that exist, paths that stay whole."""

import argparse
import ast
import os
import re
import shlex
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from strangers import a_run

from ch07.commands.cli import main
from ch07.commands.parser import make_parser
from ch07.utils.console import shell_path

ROOT = Path(__file__).resolve().parents[2]
SOURCES = [
    path
    for path in sorted((ROOT / "ch07").rglob("*.py"))
    if "exercises" not in path.relative_to(ROOT).parts
]
FLAG = re.compile(r"(?<![\w-])--[a-z][a-z0-9-]*")
COMMAND = re.compile(r"python -m ch07 ([a-z][a-z-]*)([^\n;,]*)")
# Flags of torchrun and pip, and of the program without a command.
OTHERS = {"--nproc-per-node", "--max-restarts", "--force-reinstall", "--no-deps", "--version"}


def flags_by_command():
    (commands,) = (
        action.choices
        for action in make_parser()._actions
        if isinstance(action, argparse._SubParsersAction)
    )
    return {name: set(parser._option_string_actions) for name, parser in commands.items()}


FLAGS = flags_by_command()
# Modules of commands, with those that their messages are for.
SPOKEN_TO = {
    "pretrain.py": ["pretrain"],
    "prefer.py": ["prefer"],
    "compare.py": ["compare"],
    "evaluate.py": ["evaluate"],
    "grid.py": ["grid"],
    "curate.py": ["curate"],
    "check.py": ["check"],
    "api_calls.py": ["api-calls"],
    "tokenize_data.py": ["tokenize"],
    "prepare_data.py": ["prepare-data"],
    "export.py": ["export"],
    "finetune.py": ["finetune", "pretrain"],
}


def docstrings(tree):
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef)
    bodies = [node.body for node in ast.walk(tree) if isinstance(node, kinds) and node.body]
    return {id(body[0].value) for body in bodies if isinstance(body[0], ast.Expr)}


def texts(path):
    """(line, text) of every string that is no docstring; what is put in is {}."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    skipped = docstrings(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            skipped |= {id(part) for part in node.values}
            parts = [part.value if isinstance(part, ast.Constant) else "{}" for part in node.values]
            yield node.lineno, "".join(parts)
    for node in ast.walk(tree):
        is_text = isinstance(node, ast.Constant) and isinstance(node.value, str)
        if is_text and id(node) not in skipped:
            yield node.lineno, node.value


def without_commands(text):
    return COMMAND.sub("", text)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
def test_each_flag_in_a_message_exists_in_the_command_that_it_speaks_of(path):
    names = SPOKEN_TO.get(path.name, []) if path.parent.name == "commands" else []
    known = OTHERS.union(*(FLAGS[name] for name in names or FLAGS))
    for line, text in texts(path):
        for command, rest in COMMAND.findall(text):
            assert command in FLAGS, f"{path.name}:{line}: no command {command}"
            unknown = set(FLAG.findall(rest)) - FLAGS[command]
            assert not unknown, f"{path.name}:{line}: {command} has no {unknown}"
        unknown = set(FLAG.findall(without_commands(text))) - known
        assert not unknown, f"{path.name}:{line}: no flag {unknown}"


# What commands without a flag of their own would be advised to use.
@pytest.mark.parametrize("command", ["pretrain", "api-calls", "self-instruct"])
def test_whoever_reads_rows_can_leave_faulty_ones_out(command, tmp_path, capsys):
    data = tmp_path / "rows.json"
    data.write_text('[{"instruction": 5, "output": "a"}]', encoding="utf-8")
    words = {
        "pretrain": ["--corpus", data],
        "api-calls": [a_run(tmp_path / "run"), "--data", data],
        "self-instruct": ["--seeds", data, "--backend", f"scripted:{data}", "--out", "new.jsonl"],
    }
    assert main([command, *map(str, words[command])]) == 1
    (flag,) = FLAG.findall(capsys.readouterr().err)
    assert flag in FLAGS[command]


def test_the_search_finds_the_messages_that_there_are():
    found = [text for path in SOURCES for _, text in texts(path)]
    assert sum("python -m ch07" in text for text in found) > 20
    assert sum(len(FLAG.findall(text)) for text in found) > 50


# --- paths --------------------------------------------------------------------------------------
names = st.text(
    st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=30
)
ODD_NAMES = [
    "a b", "-x", "--", "-", "it's", '"', "a\nb", "\x1b[31m", "$(id)", "`id`", "!!", "*", "~", "#",
    "a\\", "\\x41", "\u202e", "\udcff", "caf\u00e9", "\U0001f600", "a\tb", "'\n'",
]  # fmt: skip


@given(names)
def test_a_quoted_path_shows_no_control_character_and_is_one_word(name):
    quoted = shell_path(name)
    assert quoted.isprintable() and not quoted.startswith("--")
    if name.isprintable():
        expected = f"./{name}" if name.startswith("-") and name != "-" else name
        assert shlex.split(quoted) == [expected]


@pytest.mark.skipif(os.name != "posix", reason="bash")
def test_bash_reads_what_was_meant():
    words = " ".join(map(shell_path, ODD_NAMES))
    done = subprocess.run(["bash", "-c", f"printf '%s\\0' {words}"], capture_output=True)
    read = [os.fsdecode(word) for word in done.stdout.split(b"\0")[:-1]]
    assert [os.path.normpath(word) for word in read] == [*map(os.path.normpath, ODD_NAMES)]


@pytest.mark.parametrize("name", ["-x", "--out", "-"])
def test_a_path_with_a_dash_is_a_value_and_a_file_for_argparse(name):
    (word,) = shlex.split(shell_path(name))
    arguments = make_parser().parse_args(["finetune", "--out", word, "--like", word])
    assert os.path.normpath(arguments.out) == os.path.normpath(arguments.like) == name
    assert make_parser().parse_args(["chat", word]).folder == word
