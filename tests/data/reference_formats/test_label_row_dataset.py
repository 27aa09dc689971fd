"""Label rows as a dataset: the loader's batches are the other project's rows, shifted by one."""

import json
import random

import pytest
import torch

from ch07.config import FinetuneOptions
from ch07.data.byte_pair_vocabulary import add_marks
from ch07.data.dataloader import make_loader
from ch07.data.dataset_statistics import counted_targets_by_role
from ch07.data.loaded_rows import SplitDataset
from ch07.data.reference_formats.alpaca_labels import LabelRow, label_rows
from ch07.data.reference_formats.chatglm_labels import SpecialTokens, chat_prompt, chatglm_rows
from ch07.data.reference_formats.label_collate import collate_label_rows
from ch07.data.reference_formats.label_row_dataset import (
    ROW_MARKS,
    ROW_STYLES,
    LabelRowDataset,
    RowForm,
    make_label_dataset,
    row_form,
)
from ch07.data.reference_formats.lamini_rows import lamini_rows
from ch07.data.row_loading import load_rows
from ch07.data.tokenizer import end_token_id
from ch07.utils.errors import DataError, OptionError
from ch07.utils.run_log import RunLog
from collate import END_OF_TEXT, custom_collate_response_fn
from gpt_model import GPTModel
from instruction_dataset import InstructionDataset, encode_prompt
from train_loop import calc_loss_batch

N = -100


def random_entries(n, seed=0):
    """Short and long prompts and answers, some of which merge with the prompt before them."""
    stream = random.Random(seed)
    words = ["red", "(blue)", "ships", "2016.", "naïve", "东西", '"so"', "\n", "👋🏽"]

    def text(low, high):
        return " ".join(stream.choices(words, k=stream.randint(low, high)))

    return [
        {"instruction": text(1, 30), "input": text(0, 3), "output": text(1, 30)} for _ in range(n)
    ]


def rows_of(form, entries, tokenizer):
    """The rows of a form, asked for where they are made."""
    if form.name == "lamini":
        return lamini_rows(entries, tokenizer, form.max_length).rows
    if form.name == "chatglm":
        special = SpecialTokens(END_OF_TEXT + 1, END_OF_TEXT + 2, END_OF_TEXT)
        lengths = {
            "max_source_length": form.max_source_length,
            "max_target_length": form.max_target_length,
        }
        return chatglm_rows(
            entries, tokenizer, special, original=not form.corrected, **lengths
        ).rows
    style = ROW_STYLES[form.name]
    limits = {"max_length": form.max_length}
    joint = form.name == "alpaca"
    original = not form.corrected
    return label_rows(entries, tokenizer, style, joint=joint, original=original, **limits).rows


FORMS = [
    RowForm("alpaca", max_length=90),
    RowForm("alpaca", corrected=True, max_length=2000),
    RowForm("chinese-alpaca", max_length=90),
    RowForm("chinese-alpaca", corrected=True, max_length=2000),
    RowForm("chatglm", max_source_length=20, max_target_length=20),
    RowForm("chatglm", corrected=True, max_source_length=20, max_target_length=20),
    RowForm("lamini", max_length=60),
]


def form_name(form):
    return f"{form.name}{'-corrected' if form.corrected else ''}"


@pytest.mark.parametrize("form", FORMS, ids=form_name)
def test_the_batches_are_the_label_rows_shifted_by_one(form, tokenizer):
    """`labels[1:]` is our targets: inputs and targets of every batch, cell by cell."""
    tokenizer = add_marks(tokenizer, ROW_MARKS.get(form.name, ()))
    entries = random_entries(60)
    dataset, _ = make_label_dataset(entries, tokenizer, form, context_length=5000)
    rows = rows_of(form, entries, tokenizer)
    split = SplitDataset(dataset, range(len(rows)))
    loader = make_loader(split, 7, "response", seed=3)
    assert [dataset.lengths[i] + 1 for i in range(60)] == [
        len(row.ids) + (not row.has_end()) for row in rows
    ]
    n_seen = 0
    for numbers, (inputs, targets) in zip(loader.batch_sampler, loader, strict=True):
        expected = collate_label_rows([rows[i] for i in numbers])
        # a row without its end has one more column: its last token, which predicts nothing
        width = expected["labels"].shape[1] - 1
        assert torch.equal(inputs[:, :width], expected["input_ids"][:, :-1])
        assert torch.equal(targets[:, :width], expected["labels"][:, 1:])
        assert (targets[:, width:] == N).all() and targets.shape[1] <= width + 1
        n_seen += len(numbers)
    assert n_seen == 60
    assert [sum(not c for c in dataset.counted(i)) for i in range(60)] == dataset.masked_lengths


@pytest.mark.parametrize("form", FORMS, ids=form_name)
def test_the_loss_is_that_of_the_labels(form, tokenizer):
    """Mean cross-entropy over `labels[:, 1:]`, as transformers computes it from such rows."""
    tokenizer = add_marks(tokenizer, ROW_MARKS.get(form.name, ()))
    entries = random_entries(8, seed=1)
    dataset, _ = make_label_dataset(entries, tokenizer, form, context_length=5000)
    rows = rows_of(form, entries, tokenizer)
    shape = {"vocab_size": tokenizer.n_vocab, "context_length": 600, "emb_dim": 8, "n_layers": 1}
    model = GPTModel({**shape, "n_heads": 2}, torch.Generator().manual_seed(0)).eval()
    (batch,) = make_loader(SplitDataset(dataset, range(8)), 8, "response")
    with torch.no_grad():
        ours = calc_loss_batch(*batch, model, "cpu")
        expected = collate_label_rows(rows)
        logits = model(expected["input_ids"])[:, :-1]
    theirs = torch.nn.functional.cross_entropy(
        logits.flatten(0, 1), expected["labels"][:, 1:].flatten()
    )
    assert torch.allclose(ours, theirs, atol=1e-6)


def test_another_tokenizer_has_another_end(tokenizer):
    """The end of a row is that of the tokenizer, also where it is not GPT-2's."""
    tokenizer = add_marks(tokenizer, ["<|eot|>"], end="<|eot|>")
    entries = [{"instruction": "Name a colour.", "output": "Red"}]
    for form in FORMS[1:4:2]:
        dataset, _ = make_label_dataset(entries, tokenizer, form, 1000)
        ((counted, ids),) = list(dataset)
        assert dataset.end_id == end_token_id(tokenizer) == 50257 and ids[-1] != dataset.end_id
        assert counted == [False] * (len(ids) - 1) + [True, True]


def test_what_a_model_is_prompted_with_is_what_its_rows_begin_with(tokenizer):
    """Without a merge at the seam, the prompt of the style is the masked part of the row."""
    entries = random_entries(40, seed=2)
    for entry in entries:
        entry["output"] = "Red"
    for form in FORMS:
        with_marks = add_marks(tokenizer, ROW_MARKS.get(form.name, ()))
        wide = RowForm(form.name, form.corrected, 4000, 1000, 1000)
        if form.name != "chatglm":
            wide = RowForm(form.name, form.corrected, 4000)
        dataset, found = make_label_dataset(entries, with_marks, wide, 5000)
        assert not found
        for entry, (_, ids), n in zip(entries, dataset, dataset.prompt_lengths, strict=True):
            prompt = encode_prompt(entry, with_marks, form.style)
            assert n == len(prompt)
            if form.name != "lamini":
                assert ids[:n] == prompt


def test_a_conversation_of_chatglm_is_one_question(tokenizer):
    """Training, evaluation and chat use the same text, with all its rounds."""
    tokenizer = add_marks(tokenizer, ROW_MARKS["chatglm"])
    entry = {
        "instruction": "Why?", "input": "", "output": "So.", "family": "talk",
        "history": [{"instruction": "Who?", "input": "Ann", "output": "I."}],
    }  # fmt: skip
    form = RowForm("chatglm", max_source_length=64, max_target_length=64)
    dataset, found = make_label_dataset([entry], tokenizer, form, 1000)
    assert not found
    (question,) = dataset.data
    rounds = chat_prompt("Why?", [("Who?\nAnn", "I.")])
    assert question["instruction"] == rounds and rounds.startswith("[Round 0]")
    assert question["family"] == "talk" and "history" not in question
    _, ids = dataset[0]
    assert ids[: dataset.prompt_lengths[0]] == encode_prompt(question, tokenizer, form.style)


@pytest.mark.parametrize("corrected", [False, True])
def test_a_first_round_is_that_of_the_original(corrected, tokenizer, tmp_path):
    """A file of chats as ChatGLM's README has it: the reader drops the empty history."""
    tokenizer = add_marks(tokenizer, ROW_MARKS["chatglm"])
    chats = []
    for i in range(20):
        first = {"instruction": f"Who is {i}?", "output": f"I, {i}.", "history": []}
        turn = [first["instruction"], first["output"]]
        chats += [first, {"instruction": "Why?", "output": "So.", "history": [turn]}]
    path = tmp_path / "chats.json"
    path.write_text(json.dumps(chats), encoding="utf-8")
    rows = load(tokenizer, [], "chatglm", rows="chatglm", corrected=corrected, data=str(path))
    special = SpecialTokens(END_OF_TEXT + 1, END_OF_TEXT + 2, END_OF_TEXT)
    n_seen = 0
    for split in rows.datasets.values():
        for i, (_, ids) in zip(split.indices, split, strict=True):
            chat = chats[i]
            if corrected and not chat["history"]:
                chat = {**chat, "history": None}
            ((row,), _) = chatglm_rows([chat], tokenizer, special, original=not corrected)
            assert [*ids, END_OF_TEXT] == row.ids
            n_seen += 1
        asked = [entry["instruction"] for entry in split.data]
        assert asked == [
            chat_prompt(chats[i]["instruction"], chats[i]["history"], training=False)
            for i in split.indices
        ]
    assert n_seen == 40


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        (RowForm("alpaca", max_length=20), {}),
        (RowForm("alpaca", corrected=True, max_source_length=30), {"answer": 1, "end": 1}),
        (RowForm("chatglm"), {"prompt": 1, "answer": 1, "end": 1}),  # <sop> is learned
        (RowForm("lamini", max_length=10), {"prompt": 8, "answer": 1}),
        (RowForm("lamini", max_length=1), {}),
    ],
)
def test_a_cut_prompt_ends_where_it_ends_in_the_row(form, expected, tokenizer):
    tokenizer = add_marks(tokenizer, ROW_MARKS.get(form.name, ()))
    long = {"instruction": "why " * 100, "output": "Red"}
    dataset, _ = make_label_dataset([long], tokenizer, form, 1000)
    split = SplitDataset(dataset, [0])
    assert counted_targets_by_role(split, tokenizer, form.style, "response") == expected


@pytest.mark.parametrize("corrected", [False, True])
def test_what_a_limit_costs_is_found(corrected, tokenizer):
    long = {"instruction": "why " * 100, "output": "Red"}
    wordy = {"instruction": "Why?", "output": "red " * 100}
    short = {"instruction": "Why?", "output": "Red"}
    form = RowForm("alpaca", corrected, max_length=60)
    dataset, found = make_label_dataset([long, short, wordy], tokenizer, form, 1000)
    lost = "cut so short that nothing of the answer is left to learn"
    if corrected:
        assert found[0][0] == "error" and "leaves no token for the answer" in found[0][1]
    else:
        assert found[0] == ("note", lost)
    assert found[2] == ("note", "answer cut, end-of-text lost")
    assert set(found) == {0, 2} and len(dataset) == 3
    _, found = make_label_dataset([long, short], tokenizer, form, context_length=80)
    assert found == {0: ("error", "the prompt alone exceeds the model's context of 80")}


def test_entries_that_the_form_has_no_place_for(tokenizer):
    chat = {"instruction": "Why?", "output": "So.", "history": []}
    told = {"instruction": "Why?", "output": "So.", "system": "Be brief."}
    silent = {"instruction": "Why?", "input": "", "output": ""}
    marked = add_marks(tokenizer, ROW_MARKS["chatglm"])
    form = RowForm("chatglm", max_source_length=64, max_target_length=64)
    unlearned = {**chat, "counts": False}
    _, found = make_label_dataset([chat, told, silent, chat, unlearned], marked, form, 1000)
    assert found == {
        1: ("error", "a system message, which --rows chatglm doesn't have"),
        2: ("dropped", "the answer is empty"),
        4: (
            "dropped",
            "its last answer, the only one that --rows chatglm learns, has the weight 0",
        ),
    }
    for name in ("alpaca", "lamini"):
        _, found = make_label_dataset([told, chat], tokenizer, RowForm(name), 1000)
        assert found == {
            0: ("error", f"a system message, which --rows {name} doesn't have"),
            1: ("error", f"a conversation, but --rows {name} has single questions"),
        }


def test_a_row_of_lamini_has_no_end_of_text_to_lose(tokenizer):
    entries = [{"instruction": "why " * 10, "output": "Red"}]
    _, found = make_label_dataset(entries, tokenizer, RowForm("lamini", max_length=5), 1000)
    assert found == {0: ("note", "prompt cut")}


def test_more_rows_than_are_made_at_once(tokenizer, monkeypatch):
    from ch07.data.reference_formats import label_row_dataset as module

    entries = random_entries(25, seed=4)
    entries[13]["history"] = []
    whole = make_label_dataset(entries, tokenizer, FORMS[0], 5000)
    monkeypatch.setattr(module, "ROWS_AT_ONCE", 4)
    parts = make_label_dataset(entries, tokenizer, FORMS[0], 5000)
    assert list(whole[0]) == list(parts[0]) and whole[1] == parts[1] and 13 in whole[1]


def test_an_item_is_that_of_our_own_dataset_where_the_rows_are_the_same(tokenizer):
    """Chinese-LLaMA-Alpaca tokenizes apart, as this project does: the batches are equal."""
    entries = random_entries(20, seed=5)
    form = FORMS[3]
    dataset, _ = make_label_dataset(entries, tokenizer, form, 5000)
    own = InstructionDataset(entries, tokenizer, form.style, with_prompt_length=True)
    expected = custom_collate_response_fn([own[i] for i in range(20)])
    (batch,) = make_loader(SplitDataset(dataset, range(20)), 20, "response")
    assert torch.equal(batch[0], expected[0]) and torch.equal(batch[1], expected[1])
    assert dataset.lengths == own.lengths and dataset.prompt_lengths == own.prompt_lengths


def test_ids_of_a_large_vocabulary_are_kept():
    dataset = LabelRowDataset(200_000, end_id=150_000)
    dataset.append_label_row({}, LabelRow([70_000, 199_999], [N, 199_999], n_prompt=1), 1)
    assert dataset[0] == ([False, True, False], [70_000, 199_999])
    assert dataset[-1] == dataset[0]
    with pytest.raises(IndexError):
        dataset[1]


# --- settings -------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"corrected": True}, "--corrected has no use with --rows own"),
        ({"max_source_length": 9}, "--max-source-length has no use with --rows own"),
        ({"rows": "alpaca", "loss_on": "all"}, "--loss-on has no use with --rows alpaca"),
        ({"rows": "alpaca", "prompt_style": "book"}, "--prompt-style has no use"),
        ({"rows": "alpaca", "end_of_turn": True}, "--end-of-turn has no use"),
        ({"rows": "alpaca", "max_target_length": 9}, "use --allowed-max-length, or add --correct"),
        ({"rows": "chatglm", "allowed_max_length": 9}, "use --max-source-length and --max-targ"),
        ({"rows": "lamini", "corrected": True}, "use --rows own --prompt-style question-answer"),
        ({"rows": "lamini", "max_source_length": 9}, "use --allowed-max-length$"),
        ({"rows": "own ", "seed": 1}, "rows is 'own ', but must be one of own, alpaca"),
    ],
)
def test_settings_that_would_do_nothing_are_refused(given, message):
    with pytest.raises(OptionError, match=message):
        FinetuneOptions(**given)


def test_limits_are_those_of_the_original_and_never_beyond_the_context():
    forms = {
        name: row_form(FinetuneOptions(rows=name), 1000)
        for name in ("alpaca", "chinese-alpaca", "chatglm", "lamini")
    }
    assert forms["alpaca"].max_length == forms["chinese-alpaca"].max_length == 512
    assert forms["lamini"].max_length == 1000
    assert (forms["chatglm"].max_source_length, forms["chatglm"].max_target_length) == (64, 64)
    options = FinetuneOptions(rows="alpaca", allowed_max_length=700)
    assert row_form(options, 1000).max_length == 700 and row_form(options, 80).max_length == 80


def load(tokenizer, log, style="alpaca", **options):
    return load_rows(
        FinetuneOptions(**options),
        store=None,
        tokenizer=tokenizer,
        style=ROW_STYLES[style],
        context_length=1024,
        allowed_max_length=None,
        log=RunLog(log.append),
    )


def test_conversations_are_refused_by_name(tokenizer):
    with pytest.raises(DataError, match="a conversation, but --rows alpaca has single questions"):
        load(tokenizer, [], rows="alpaca", data="toy:conversations")


def test_a_limit_below_the_project_s_own_is_said(number_data, tokenizer):
    log = []
    load(tokenizer, log, "lamini", rows="lamini", data=str(number_data))
    assert "rows: lamini cuts rows at 2048 tokens, this run at the model's context of 1024" in log
    log = []
    load(tokenizer, log, rows="alpaca", data=str(number_data))
    assert not [line for line in log if line.startswith("rows:")]


def split_rows_of(tmp_path, **lengths):
    """A file with rows of so many words in each split."""
    rows = [
        {"instruction": "why " * n + str(i), "output": "Red", "split": split}
        for split, numbers in lengths.items()
        for i, n in enumerate(numbers)
    ]
    path = tmp_path / "rows.json"
    path.write_text(json.dumps(rows), encoding="utf-8")
    return str(path)


def test_rows_that_teach_nothing_stay_as_in_the_original(tmp_path, tokenizer):
    """They are said, but not left out: the original's batches have them, too."""
    data = split_rows_of(tmp_path, train=[3, 90, 90, 3], validation=[90, 3], test=[90])
    limits = {"rows": "alpaca", "data": data, "allowed_max_length": 60}
    log = []
    rows = load(tokenizer, log, **limits)
    assert {name: len(split) for name, split in rows.datasets.items()} == {
        "train": 4,
        "validation": 2,
        "test": 1,
    }
    assert any("nothing of the answer is left to learn (4: row 2" in line for line in log)
    with pytest.raises(DataError, match="leaves no token for the answer"):
        load(tokenizer, [], corrected=True, **limits)
    rows = load(tokenizer, [], corrected=True, skip_bad_rows=True, **limits)
    assert [len(split) for split in rows.datasets.values()] == [2, 0, 1]


def test_a_split_without_anything_to_learn(tmp_path, tokenizer):
    limits = {"rows": "alpaca", "allowed_max_length": 60}
    data = split_rows_of(tmp_path, train=[90, 90], validation=[3], test=[3])
    with pytest.raises(DataError, match="nothing of the answers is left to learn in any training"):
        load(tokenizer, [], data=data, **limits)
    log = []
    data = split_rows_of(tmp_path, train=[3, 90], validation=[90, 90], test=[3])
    rows = load(tokenizer, log, data=data, **limits)
    assert len(rows.datasets["train"]) == 2 and len(rows.datasets["validation"]) == 0
    assert any("2 validation rows left out" in line for line in log)
    limits = {"rows": "lamini", "allowed_max_length": 1}  # nothing predicts a row's first token
    with pytest.raises(DataError, match="nothing of the answers is left to learn in any training"):
        load(tokenizer, [], "lamini", data=data, **limits)
