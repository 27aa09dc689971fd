"""Every form of file and row, through every command that takes a file: the same rows or words."""

import io
import json
import shlex
from collections import defaultdict
from contextlib import redirect_stdout

import cases
import pytest

from ch07.commands.cli import main
from ch07.config import FinetuneOptions
from ch07.data.chat_dataset import make_dataset
from ch07.data.entries import load_entries
from ch07.data.row_loading import load_rows
from ch07.data.token_store import TokenStore
from ch07.data.tokenizer import load_tokenizer
from ch07.systems.synthetic_data.row_generators import load_seeds
from ch07.utils.errors import UserError
from ch07.utils.run_log import RunLog
from instruction_dataset import BOOK_STYLE


def _finetune(path, folder):
    """What `finetune` and `doctor` plan with."""
    options = FinetuneOptions(data=str(path))
    rows = load_rows(
        options,
        store=None,
        tokenizer=load_tokenizer(),
        style=BOOK_STYLE,
        context_length=1024,
        allowed_max_length=None,
        log=RunLog(lambda text: None),
    )
    return rows.file.entries


def _command(*words):
    """Run a command; a UserError that ends it is raised."""
    assert main([*map(str, words), "--verbose"]) == 0


def _prepare_data(path, folder):
    _command("prepare-data", path, folder / "new.jsonl")
    return load_entries(folder / "new.jsonl")


def _tokenize(path, folder):
    _command("tokenize", path, folder / "store")
    store = TokenStore(folder / "store")
    return [store.entry(i) for i in range(len(store))]


def _grid(path, folder):
    shown = io.StringIO()
    with redirect_stdout(shown):
        _command("grid", path, "--rows", 100, "--json")
    rows = load_entries(path)
    tokens = defaultdict(list)
    for record in json.loads(shown.getvalue()):
        tokens[record["row"]].append(record["token_id"])
    expected = [*make_dataset(rows, load_tokenizer(), BOOK_STYLE, "all")]
    shown_rows = [tokens[i][: len(ids)] for i, ids in enumerate(expected)]
    assert shown_rows == expected and len(tokens) == len(rows)
    return rows


def _curate(path, folder):
    _command("curate", path, folder / "new.json", "--keep", 1)


def _reflect(path, folder):
    (folder / "script.json").write_text("[]", encoding="utf-8")
    _command("reflect", path, folder / "out.jsonl", "--backend", f"scripted:{folder}/script.json")


READERS = {
    "finetune": _finetune,
    "grid": _grid,
    "prepare-data": _prepare_data,
    "tokenize": _tokenize,
    "self-instruct": lambda path, folder: load_seeds(path, n_examples=1)[0],
}
# These write something else than the rows that they read.
REFUSERS = READERS | {"curate": _curate, "reflect": _reflect}


def written(folder, name, content):
    path = folder / name
    path.write_bytes(content)
    return path


def fields(entries):
    return [(row["instruction"], row["input"], row["output"]) for row in entries]


GOOD = cases.FILE_FORMS | {
    name: ("rows.jsonl", content, rows) for name, (content, rows) in cases.ROW_FORMS.items()
}
FAULTY = cases.FILE_FAULTS | {
    name: ("my rows.jsonl", content, words) for name, (content, words) in cases.ROW_FAULTS.items()
}


@pytest.mark.parametrize("command", READERS)
@pytest.mark.parametrize("case", GOOD)
def test_every_command_reads_the_same_rows(tmp_path, case, command):
    name, content, rows = GOOD[case]
    path = written(tmp_path, name, content)
    assert fields(READERS[command](path, tmp_path)) == rows


@pytest.mark.parametrize("command", REFUSERS)
@pytest.mark.parametrize("case", FAULTY)
def test_every_command_refuses_with_the_same_words(tmp_path, case, command):
    name, content, words = FAULTY[case]
    path = written(tmp_path, name, content)
    with pytest.raises(UserError) as caught:
        REFUSERS[command](path, tmp_path)
    said = str(caught.value)
    assert words in said and str(path) in said
    assert said.count("\n") <= 3 and len(said) < 1500
    if "python -m" in said or " -d " in said:
        assert shlex.quote(str(path)) in said, "a command can be pasted"
