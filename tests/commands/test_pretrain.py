"""Pretraining: no token is lost, nothing held out is told, and its run is like any other."""

import gzip
import hashlib
import json
import os
import re
import threading
from collections import Counter
from contextlib import contextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

import gpt_model
from ch07.commands import finetune as command
from ch07.commands.cli import main
from ch07.commands.parser import make_parser
from ch07.config import FinetuneOptions
from ch07.data.dataloader import make_loader
from ch07.data.loaded_rows import SplitDataset
from ch07.data.pretraining_dataset import (
    PretrainingDataset,
    load_pretraining_data,
    read_documents,
    token_stream,
)
from ch07.data.splits import sample_rows
from ch07.data.toy_instructions import words
from ch07.data.toy_instructions.build import DATA_FILE
from ch07.data.toy_instructions.corpus import make_corpus
from ch07.data.toy_instructions.facts import FACT_FAMILIES
from ch07.data.toy_instructions.lists import LIST_FAMILIES, LIST_WORDS
from ch07.models.saved_run import load_run
from ch07.runs import run_folder
from ch07.utils.atomic_files import read_json, sha256_of
from ch07.utils.errors import DataError
from ch07.utils.run_log import RunLog
from collate import END_OF_TEXT

# --- rows of text -------------------------------------------------------------------------------

streams = st.lists(st.integers(0, END_OF_TEXT), min_size=1, max_size=60)


@given(streams, st.integers(1, 9), st.integers(1, 4))
def test_no_token_is_lost_and_targets_are_inputs_shifted(ids, width, batch_size):
    """All batches together are the stream; so are their targets, one place on."""
    read, wanted = [], []
    for inputs, targets in make_loader(PretrainingDataset(ids, width), batch_size, "all", width):
        assert inputs.shape[1] <= width
        for row, answers in zip(inputs, targets, strict=True):
            real = answers != -100
            read += row[real].tolist()
            wanted += answers[real].tolist()
    assert read == ids
    assert wanted == [*ids[1:], END_OF_TEXT]


@given(streams, st.integers(1, 9))
def test_whole_rows_are_those_of_the_books_dataset(ids, width):
    """Its `GPTDatasetV1` with stride = max_length, which drops what is left over."""
    theirs = [
        (ids[i : i + width], ids[i + 1 : i + width + 1]) for i in range(0, len(ids) - width, width)
    ]
    ours = [(row[:-1], row[1:]) for row in PretrainingDataset(ids, width) if len(row) == width + 1]
    assert ours == theirs


@given(streams, st.integers(1, 9), st.integers(0, 60))
def test_rows_that_are_held_back_are_the_others(ids, width, n):
    whole = list(PretrainingDataset(ids, width))
    n = min(n, len(whole))
    parts = (
        SplitDataset(PretrainingDataset(ids, width), range(n)),
        SplitDataset(PretrainingDataset(ids, width), range(n, len(whole))),
    )
    assert [*parts[0], *parts[1]] == whole
    assert [len(row) for part in parts for row in part] == [*parts[0].lengths, *parts[1].lengths]


def test_one_end_of_text_stands_between_documents(tokenizer):
    ids = token_stream(["One.", "Two <|endoftext|>", "Three."], tokenizer).tolist()
    assert ids.count(END_OF_TEXT) == 2, "typed out, it is ordinary text"
    assert tokenizer.decode(ids) == "One.<|endoftext|>Two <|endoftext|><|endoftext|>Three."


@pytest.mark.parametrize(
    ("text", "documents"),
    [
        ("One\ntwo.\n\n \nThree.\n", ["One\ntwo.", "Three."]),
        ("One\r\n\r\nTwo\r\n", ["One", "Two"]),
        ("One\n\ntwo<|endoftext|>\nThree<|endoftext|>", ["One\n\ntwo", "Three"]),
        ("\ufeffOne", ["One"]),
    ],
)
def test_documents_of_a_file(tmp_path, text, documents):
    path = tmp_path / "text.txt"
    path.write_bytes(text.encode())
    assert read_documents(path) == (documents, sha256_of(path))


# --- the toy corpus -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def corpus():
    return make_corpus()


@pytest.fixture(scope="module")
def toy():
    return json.loads(DATA_FILE.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def told(corpus):
    """All that the corpus says, each sentence once."""
    return "\n".join(dict.fromkeys(part for text in corpus for part in text.split(". ")))


def test_the_same_seed_tells_the_same(corpus):
    assert make_corpus(n_documents=300) == corpus[:300]
    assert make_corpus(seed=1, n_documents=300) != corpus[:300]


def test_no_instruction_stands_in_it(told, toy):
    """Neither a held-out prompt, nor the form of any."""
    text = told.casefold()
    assert not any(mark in text for mark in ("###", "instruction", "response", "below is"))
    for entry in toy:
        if "split" in entry:
            assert entry["instruction"].casefold() not in text, entry


def test_nothing_that_is_held_out_is_composed_in_it(told, toy):
    """By the text: what a held-out entry works on, and what it answers, stands nowhere."""
    looked_for = set()
    for entry in toy:
        if "split" in entry and entry["family"] not in FACT_FAMILIES:
            asked = entry["input"] or re.split(r"[:?] ", entry["instruction"], maxsplit=1)[-1]
            looked_for |= {asked, entry["output"]}
    composed = {text for text in looked_for if len(text.split()) > 2 or ", " in text}
    assert len(composed) > 600
    found = [one for one in composed if one in told]  # "1 and 20" may stand in "31 and 20"
    assert not [one for one in found if re.search(rf"\b{re.escape(one)}(?!\w)", told)]


def test_no_words_that_are_held_out_come_together_in_it(corpus, toy):
    """By the words, in whatever form: who did what to what, and the members of lists."""
    base = {form: verb[0] for verb in [*words.VERBS, *words.INTRANSITIVE] for form in verb}
    nouns = {*words.ACTORS, *words.THINGS, *words.ANIMALS}

    def content(sentence):
        found = re.findall(r"[a-z]+", sentence.casefold())
        return frozenset(base.get(word, word) for word in found if word in nouns or word in base)

    def members(text):
        return [frozenset(found.split(", ")) for found in re.findall(r"[\w]+(?:, [\w]+)+", text)]

    sentences, lists = set(), set()
    for entry in toy:
        if "split" in entry and entry["family"] in LIST_FAMILIES:
            lists |= set(members(f"{entry['instruction']} {entry['input']}"))
        elif "split" in entry and entry["family"] not in FACT_FAMILIES:
            sentences.add(content(f"{entry['input'] or entry['instruction']} {entry['output']}"))
    told = {content(sentence) for text in corpus for sentence in re.split(r"[.?\"]", text)}
    trios = {sentence for sentence in told if len(sentence) == 3}
    assert len(trios) > 4000 and len(sentences) > 250
    assert not [(one, held) for held in sentences for one in trios if one <= held]
    assert not {one for text in corpus for one in members(text)} & lists


def test_it_tells_every_fact_and_uses_every_word(corpus):
    text = " ".join(corpus)
    told = set(re.findall(r"[\w+-]+", text))
    assert {*words.ACTORS, *words.THINGS, *words.ANIMALS, *LIST_WORDS, *words.ADJECTIVES} <= told
    for facts, _ in FACT_FAMILIES.values():
        for _, answer in facts:
            assert answer in text, answer


# --- a few rows ---------------------------------------------------------------------------------

families = st.lists(st.sampled_from("abcd"), max_size=40)


@given(families, st.integers(1, 45), st.integers(0, 3))
def test_few_rows_are_balanced_and_in_order(names, n, seed):
    rows = sample_rows(names, n, seed)
    assert len(rows) == min(n, len(names)) and rows == sample_rows(names, n, seed)
    assert rows == sorted(set(rows))
    taken, there = Counter(names[row] for row in rows), Counter(names)
    most = max(taken.values(), default=0)
    assert all(taken[name] >= min(there[name], most - 1) for name in there)


def test_few_rows_depend_on_the_seed():
    families = [None] * 100
    assert sample_rows(families, 10, 1) != sample_rows(families, 10, 2)


# --- runs ---------------------------------------------------------------------------------------

TEXT = "The boy found the book. " * 40 + "\n\n" + "The girl lost the key. " * 40
STEPS = ["--max-steps", "6", "--allowed-max-length", "16", "--batch-size", "2", "--eval-freq", "2"]
STEPS += ["--dtype", "float32", "--device", "cpu", "--seed", "5"]


@pytest.fixture(scope="module")
def tiny():
    """The tiny model, tinier."""
    size = {"emb_dim": 8, "n_layers": 1, "n_heads": 2, "context_length": 128}
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(gpt_model.MODEL_SIZES, "gpt2-tiny", size)
        yield


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    path = tmp_path_factory.mktemp("text") / "text.txt"
    path.write_text(TEXT, encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def pretrained(tiny, text):
    folder = text.with_name("pretrained")
    assert main(["pretrain", "--corpus", str(text), "--out", str(folder), *STEPS]) == 0
    return folder


def test_it_is_not_done_again_by_finetune(pretrained, tmp_path, capsys):
    """Which would read the rows of a data file as plain text."""
    assert main(["finetune", "--like", str(pretrained), "--out", str(tmp_path / "new")]) == 2
    assert "python -m ch07 pretrain" in capsys.readouterr().err


def test_a_run_folder_like_any_other(pretrained, text, capsys):
    names = {path.name for path in pretrained.iterdir() if path.name != ".lock"}
    assert names == {
        run_folder.CONFIG,
        run_folder.MODEL,
        run_folder.METRICS,
        run_folder.PLOT,
        run_folder.CHECKPOINT,
    }
    run = load_run(pretrained)
    assert run.style.name == "book" and run.model.config.emb_dim == 8
    assert run.config["facts"]["data_sha256"] == sha256_of(text)
    assert run.config["options"]["optimizer"] == "auto" and run.config["options"]["text"]
    first, *_, last = run_folder.read_metrics(pretrained)
    assert last["tokens_seen"] == 6 * 2 * 16
    assert last["val_loss"] is not None and last["train_loss"] < first["train_loss"]
    assert main(["evaluate", str(pretrained), "--losses"]) == 0, "the same losses, computed anew"


def test_fine_tuning_starts_from_it(pretrained, number_data, tmp_path, capsys):
    arguments = ["--data", number_data, "--model", pretrained, "--out", tmp_path / "tuned"]
    arguments += ["--max-steps", 1, "--train-rows", 20, "--dtype", "float32"]
    capsys.readouterr()
    assert main(["finetune", *map(str, arguments)]) == 0
    config = read_json(tmp_path / "tuned" / run_folder.CONFIG)
    assert config["facts"]["start_sha256"] == sha256_of(pretrained / run_folder.MODEL)
    assert config["prompt_style"]["name"] == "book" and not config["options"]["text"]
    assert config["options"]["train_rows"] == config["facts"]["rows"]["train"] == 20
    assert "data: training on 20 of 119 training rows" in capsys.readouterr().err
    whole = rows_held_out(number_data, None)
    assert rows_held_out(number_data, 20) == whole and len(whole) > 15


def rows_held_out(data, train_rows):
    from ch07.training.run_plan import build_plan

    options = FinetuneOptions(data=str(data), train_rows=train_rows)
    datasets = build_plan(options, lambda text: None).rows.datasets
    return [*datasets["test"].data, *datasets["validation"].data]


def test_it_is_not_exported_as_what_answers(pretrained, tmp_path, capsys):
    assert main(["export", str(pretrained), str(tmp_path / "hf")]) == 1
    assert "was trained on plain text only" in capsys.readouterr().err
    assert not (tmp_path / "hf").exists()


def test_what_it_prints_can_be_typed(pretrained, capsys):
    assert main(["pretrain", "--resume", "--out", str(pretrained)]) == 0
    commands = re.findall(r"python -m ch07 (finetune .*)", capsys.readouterr().out)
    both = [vars(make_parser().parse_args(line.split())) for line in commands]
    assert [flags.get("model") for flags in both] == [str(pretrained), None]
    for flags in both:
        assert {"train_rows", "epochs", "batch_size", "lr"} <= set(flags), "no hidden default"
        unasked = ("command", "verbose", "resume", "like")
        options = FinetuneOptions(**{k: v for k, v in flags.items() if k not in unasked})
        assert options.train_rows == 1000 and options.chosen_optimizer == "muon"


def test_a_run_that_was_stopped_ends_at_the_same_bits(
    pretrained, text, tmp_path, monkeypatch, capsys
):
    """By the command that it prints."""
    folder = tmp_path / "stopped"
    with monkeypatch.context() as patch:
        patch.setattr(command, "stop_on_signal", stop_at_step(3))
        assert main(["pretrain", "--corpus", str(text), "--out", str(folder), *STEPS]) == 130
    assert (
        run_folder.read_metrics(folder)[-1]["step"] == 2
        and not (folder / run_folder.MODEL).exists()
    )
    (line,) = re.findall(r"python -m ch07 (.* --resume .*)", capsys.readouterr().err)
    assert main(line.split()) == 0
    assert sha256_of(folder / run_folder.MODEL) == sha256_of(pretrained / run_folder.MODEL)
    one, two = (
        [record | {"seconds": 0} for record in run_folder.read_metrics(place)]
        for place in (folder, pretrained)
    )
    assert one == two


def stop_at_step(n):
    """A `polite_stop` that is asked after each step, and says yes the nth time."""

    @contextmanager
    def stop(note):
        asked = iter(range(1, 1000))
        yield lambda: next(asked) >= n

    return stop


def test_the_toy_corpus_is_read_where_no_file_is_given(corpus):
    said = []
    rows = load_pretraining_data(None, 128, RunLog(said.append))
    assert said[0].startswith(f"data: {len(corpus)} documents of ")
    n = {name: len(dataset) for name, dataset in rows.datasets.items()}
    assert n["test"] == 0 and 190 < n["train"] / n["validation"] < 200
    ids = rows.datasets["train"].dataset.ids
    assert sum(n.values()) == -(-len(ids) // 128) and (ids == END_OF_TEXT).sum() == len(corpus) - 1
    assert rows.place_of("train", 1) == "tokens 129 to 256"


# --- what can't be ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "the file is empty"),
        (b" \n\n \n", "the file is empty"),
        (b"<|endoftext|>\n<|endoftext|>", "the file is empty"),
        (
            b"Caf\xe9 noir, and so on",
            "not UTF-8: byte 3 is 0xe9 (in line 1); save the file with UTF-8",
        ),
        (b"One two three.", "4 tokens of text, but a row takes 16 and one more"),
        (None, "No such file"),
    ],
)
def test_a_text_that_cannot_be_read_is_said(tmp_path, tiny, capsys, content, problem):
    path, folder = tmp_path / "bad.txt", tmp_path / "run"
    if content is not None:
        path.write_bytes(content)
    assert main(["pretrain", "--corpus", str(path), "--out", str(folder), *STEPS]) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"error: {path}: ") and error.count("\n") == 1 and problem in error
    assert not folder.exists(), "a run that can't start leaves no folder"


def test_a_folder_is_no_text(tmp_path, tiny, capsys):
    assert main(["pretrain", "--corpus", str(tmp_path)]) == 1
    assert "is a folder, but must be a file of plain text" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["finetune", "--text"], ["pretrain", "--loss-on", "all"]])
def test_flags_of_the_other_command_are_unknown(arguments):
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2


def test_what_does_not_go_together_is_said(pretrained, number_data, tmp_path, capsys):
    started = tmp_path / "rows"
    short = ["--max-steps", "1", "--dtype", "float32"]
    assert main(["finetune", "--data", str(number_data), "--out", str(started), *short]) == 0
    assert main(["tokenize", str(jsonl(number_data, tmp_path)), str(tmp_path / "store")]) == 0
    like = ["finetune", "--like", str(pretrained), "--out", str(tmp_path / "new")]
    capsys.readouterr()
    for arguments, problem in (
        (["pretrain", "--resume"], "--resume needs --out"),
        (["pretrain", "--resume", "--out", str(started)], "text was False, now True"),
        ([*like, "--loss-on", "response"], "plain text has no responses"),
        ([*like, "--train-rows", "3"], "leave out --loss-on and --train-rows"),
        (["finetune", "--train-rows", "0"], "train_rows is 0"),
        (["finetune", "--train-rows", "3", "--data", str(tmp_path / "store")], "a token store"),
    ):
        assert main(arguments) == 2
        error = capsys.readouterr().err
        assert problem in error and error.count("\n") == 1


def jsonl(data, folder):
    rows = json.loads(data.read_text(encoding="utf-8"))
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_more_blanks_than_the_tokenizer_bears_are_named(tmp_path, capsys):
    """A million of them overflow its stack, and no Python error comes of that."""
    path = tmp_path / "blanks.txt"
    path.write_text("One.\n\nx" + " " * 1_000_000 + "y", encoding="utf-8")
    assert main(["pretrain", "--corpus", str(path), "--out", str(tmp_path / "run")]) == 1
    assert "document 2 has 100,000 or more consecutive" in capsys.readouterr().err


# --- corpora in rows ------------------------------------------------------------------------------
DOCUMENTS = [f"Document {i} says so." for i in range(30)]
TEXT_ROWS = [{"text": text, "url": "u"} for text in DOCUMENTS]


@pytest.mark.parametrize(
    "content",
    [
        "\n".join(map(json.dumps, TEXT_ROWS)),
        json.dumps(TEXT_ROWS),
        json.dumps(TEXT_ROWS, indent=2),
        json.dumps({"data": TEXT_ROWS}, indent=2),
        "text,url\n" + "\n".join(f'"{text}",u' for text in DOCUMENTS),
        "\n\n".join(DOCUMENTS),
        "<|endoftext|>".join(DOCUMENTS),
    ],
    ids=["JSONL", "list", "indented", "container", "CSV", "prose", "prose with ends"],
)
@pytest.mark.parametrize("how", ["file", "gzip", "pipe"])
def test_a_corpus_in_any_form_gives_the_same_documents(tmp_path, content, how):
    path = tmp_path / ("corpus.csv" if content.startswith("text,") else "corpus")
    data = content.encode()
    if how == "pipe":
        os.mkfifo(path)
        writer = threading.Thread(target=path.write_bytes, args=(data,))
        writer.start()
        documents, sha256 = read_documents(path)
        writer.join()
    else:
        data = gzip.compress(data) if how == "gzip" else data
        path.write_bytes(data)
        documents, sha256 = read_documents(path)
    assert documents == DOCUMENTS and sha256 == hashlib.sha256(data).hexdigest()


@pytest.mark.parametrize(
    "content", ["{braces} are fine.\n\nSo is this.", "[1] A note.\n\nAnd so on."]
)
def test_prose_may_begin_with_a_bracket(tmp_path, content):
    (tmp_path / "corpus").write_text(content, encoding="utf-8")
    assert read_documents(tmp_path / "corpus")[0] == content.split("\n\n")


def test_faulty_rows_of_a_corpus_are_listed(tmp_path):
    lines = [json.dumps(TEXT_ROWS[0]), json.dumps({"body": "x"}), "{broken"]
    (tmp_path / "corpus").write_text("\n".join(lines), encoding="utf-8")
    with pytest.raises(DataError, match=r"2 faulty rows.*\n  line 2: there is no text.*\n  line 3"):
        read_documents(tmp_path / "corpus")
