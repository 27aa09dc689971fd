"""Clauses of the edge-case table that no other file holds, in its order: equalities, sentences."""

import json
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, strategies
from torch.utils.data import DataLoader

import collate as book
import train_loop as loop
from ch07.commands.cli import main
from ch07.config import FinetuneOptions
from ch07.data.dataloader import make_loader
from ch07.data.entries import read_data
from ch07.data.prompt_styles import STYLES
from ch07.data.row_checks import check_lengths
from ch07.data.splits import positional_split, split_entries
from ch07.generation.decoding import Continuation
from ch07.generation.respond import Answer, respond
from ch07.models.pretrained import load_gpt2
from ch07.models.saved_run import load_run, save_model
from ch07.runs import run_folder
from ch07.training.job import build_job
from ch07.utils.atomic_files import write_json
from ch07.utils.errors import DataError
from gpt_model import MODEL_SIZES, GPTModel
from instruction_dataset import InstructionDataset

GOOD = {"instruction": "Name a colour.", "input": "", "output": "Red"}
LINE = json.dumps(GOOD)


def written(tmp_path, content):
    path = tmp_path / "data.json"
    path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    return path


@pytest.mark.parametrize("style", STYLES.values(), ids=STYLES)
def test_every_way_to_have_no_input_is_the_same_prompt(style):
    asked = {"instruction": "Name a colour."}
    ways = [asked, *({**asked, "input": none} for none in (None, "", " \n\t"))]
    (prompt,) = {style.prompt(entry) for entry in ways}
    assert "None" not in prompt and prompt != style.prompt({**asked, "input": "None"})


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"output": "y", "input": "z"}, "'instruction' is missing; keys found: 'output', 'input'"),
        ({"conversations": []}, "'conversations': the list is empty"),
        ({**GOOD, "instruction": None}, "'instruction' is null; keys found: 'instruction', 'inp"),
        ({**GOOD, "output": None}, "'output' is null; keys found: 'instruction', 'input', 'outp"),
    ],
)
def test_a_row_without_an_instruction_or_an_answer_is_named(tmp_path, row, said):
    with pytest.raises(DataError) as caught:
        read_data(written(tmp_path, [GOOD, row]))
    assert f"row 2: {said}" in str(caught.value)


@pytest.mark.parametrize("bad", [LINE[:-1], LINE[:-1] + ",}", LINE.replace('"', "'"), LINE + ";"])
def test_a_bad_line_is_told_with_its_column_and_what_stands_there(tmp_path, bad):
    with pytest.raises(json.JSONDecodeError) as expected:
        json.loads(bad)
    place = expected.value.pos
    near = repr(bad[max(0, place - 20) : place + 20])
    with pytest.raises(DataError) as caught:
        read_data(written(tmp_path, f"{LINE}\n\n{bad}\n".encode()))
    assert "1 faulty row" in str(caught.value) and "line 3: not JSON" in str(caught.value)
    assert f"column {place + 1}, near {near}" in str(caught.value)


def test_a_mark_and_crlf_make_no_difference_to_lines(tmp_path):
    text = f"{LINE}\n\n \n{LINE.replace('Red', 'Blue')}\n".encode()
    plain = read_data(written(tmp_path, text))
    marked = read_data(written(tmp_path, b"\xef\xbb\xbf" + text.replace(b"\n", b"\r\n")))
    assert marked.entries == plain.entries and marked.findings == plain.findings == []
    assert marked.places == plain.places == ["line 1", "line 4"]


@pytest.mark.parametrize("before", ["", "ü", "猫" * 5000])
def test_the_position_of_a_bad_byte_is_counted_in_bytes(tmp_path, before):
    data = f'["{before}'.encode() + b"\xff"
    with pytest.raises(DataError, match=f"byte {len(data) - 1} is 0xff"):
        read_data(written(tmp_path, data))


@given(strategies.integers(0, 60), strategies.tuples(*[strategies.integers(0, 7)] * 3).filter(any))
def test_splits_of_any_fractions_hold_each_row_once(n, parts):
    fractions = [part / sum(parts) for part in parts]
    entries = [{"instruction": str(i)} for i in range(n)]
    for split in (positional_split, split_entries):
        rows = [entry for part in split(entries, fractions).values() for entry in part]
        assert sorted(map(id, rows)) == sorted(map(id, entries))
        with pytest.raises(ValueError, match="three shares that sum to 1"):
            split(entries, [float("nan"), *fractions[1:]])


def test_what_is_found_in_the_data_is_told_with_rows_and_kept(tmp_path):
    cut = {"instruction": "Count.", "input": "", "output": "one two three " * 20}
    seam, asked = {**GOOD, "output": "绿"}, {**GOOD, "input": "N/A"}
    path = written(tmp_path, [seam, GOOD, {**GOOD, "output": ""}, {**GOOD, "input": 5}, asked, cut])
    said, out = [], str(tmp_path / "run")
    options = {"prompt_style": "chinese-alpaca", "skip_bad_rows": True, "allowed_max_length": 60}
    facts = build_job(FinetuneOptions(data=str(path), out=out, **options), said.append).facts
    for what, row in (
        ("left out: 'output' is empty", "row 3"),
        ("left out: 'input' is a number, but must be text", "row 4"),
        ("'input' is the placeholder 'N/A'", "row 5"),
        ("tokenizing prompt and answer together would merge", "row 2"),
        ("cut at 60 tokens, end-of-text lost", "row 6"),
        ("no validation rows", ""),
    ):
        (line,) = [line for line in said if what in line]
        assert row in line and line in facts["findings"]


def test_the_sibling_refuses_what_the_final_version_refuses():
    for batch, limit, message in (
        ([], None, "empty batch"),
        ([(1, [1]), (0, [])], None, "row 1 of the batch: expected a list of token ids"),
        ([(1, [1, -100])], None, "row 0 of the batch: -100 is not a token id"),
        ([(1, [1, 2])], 0, "allowed_max_length is 0"),
    ):
        with pytest.raises(ValueError, match=message):
            book.custom_collate_response_fn(batch, allowed_max_length=limit)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int32, np.int64])
def test_every_version_gives_int64_whatever_the_rows_are(dtype):
    rows = [np.array([1, 2, 3], dtype), torch.tensor(np.array([4], dtype))]
    tensors = [book.custom_collate_draft_1(rows), *book.custom_collate_draft_2(rows)]
    tensors += book.custom_collate_fn(rows)
    tensors += book.custom_collate_response_fn([(1, row) for row in rows])
    assert {tensor.dtype for tensor in tensors} == {torch.int64}


@pytest.mark.parametrize("batch", [[[1, 2, 3]], [[7]], [[1, 50256, 3], [4, 5, 6], [50256] * 3]])
def test_rows_of_one_length_have_their_end_and_no_masked_target(batch):
    inputs, targets = (made.tolist() for made in book.custom_collate_fn(batch))
    assert (inputs, targets) == (batch, [[*row[1:], 50256] for row in batch])


def test_what_is_said_of_a_limit_is_what_the_batch_then_holds(tokenizer, entries):
    dataset = InstructionDataset(entries, tokenizer, with_prompt_length=True)
    for limit in range(1, max(dataset.lengths) + 2):
        report = check_lengths(dataset, 1024, limit)
        _, targets = book.custom_collate_response_fn(dataset, allowed_max_length=limit)
        rows = range(len(dataset))
        assert report.answerless == [i for i in rows if (targets[i] == -100).all()]
        assert report.cut == [i for i in rows if not (targets[i] == 50256).any()]
        _, every = book.custom_collate_fn([ids for _, ids in dataset], allowed_max_length=limit)
        assert loop.count_tokens(every) == sum(min(n, limit) for n in dataset.lengths)


def test_a_loader_pins_no_memory_of_its_own_accord(tokenizer, entries):
    dataset = InstructionDataset(entries, tokenizer)
    assert not any(make_loader(dataset, 2, seed=seed).pin_memory for seed in (None, 1))


def padded(batch, ignore_index=-100):
    return book.custom_collate_fn(batch, pad_token_id=59, ignore_index=ignore_index)


def model():
    config = {"vocab_size": 60, "context_length": 16, "emb_dim": 16, "n_heads": 2, "n_layers": 1}
    return GPTModel(config, torch.Generator().manual_seed(3))


def test_batches_without_targets_are_left_out_of_averages_and_windows():
    full, means, models = [padded([[1, 2], [3]]), padded([[4, 5]])], [], [model(), model()]
    empty = (full[0][0], torch.full_like(full[0][1], -100))
    settings = loop.TrainSettings(grad_clip=torch.inf)
    for gpt, window in zip(models, (full, [full[0], empty, full[1]]), strict=True):
        means.append(loop.calc_loss_loader(DataLoader(window, batch_size=None), gpt, "cpu"))
        loop.train_step(window, gpt, torch.optim.SGD(gpt.parameters()), "cpu", 0.1, settings)
    assert means[0] == means[1]
    for a, b in zip(*(gpt.parameters() for gpt in models), strict=True):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=0)


def test_a_whole_run_follows_the_ignore_index():
    rows, seen = [[1, 2, 3, 4], [5], [6, 7], [8, 9, 10]], []
    for ignore in (-100, -7):
        gpt, settings = model(), loop.TrainSettings(eval_freq=1, ignore_index=ignore)
        loaders = [DataLoader(rows, 2, collate_fn=lambda b, i=ignore: padded(b, i))] * 2
        optimizer = loop.make_optimizer(gpt.parameters())
        state = loop.train_model(gpt, *loaders, optimizer, settings=settings, progress=False)
        seen.append((state.tokens_seen, [record | {"seconds": 0} for record in state.history]))
    assert seen[0] == seen[1] and seen[0][0] == 2 * sum(map(len, rows))


def test_the_axes_have_recorded_places_and_no_curve_without_losses(tmp_path, monkeypatch):
    """Uneven places, which no even spacing meets."""
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)  # it would look for a display
    epochs, tokens, path = [0, 0.5, 2], [0, 7000, 9000], tmp_path / "loss.png"
    below, above = loop.plot_losses(epochs, tokens, [3, 2, 1], [None] * 3, path).axes
    lines = {line.get_label(): line.get_xdata().tolist() for line in below.get_lines()}
    assert lines == {"training": epochs}
    labels = [label.get_text() for label in above.get_xticklabels()]
    marked = dict(zip(above.get_xticks().tolist(), labels, strict=True))
    assert (marked[0.0], marked[0.5], marked[2.0]) == ("0", "7k", "9k")


@pytest.fixture
def short_run(tmp_path):
    """A finished run that knows nothing, with a context of 64 tokens."""
    gpt = GPTModel({"context_length": 64, "emb_dim": 8, "n_heads": 2, "n_layers": 1})
    config = {"model": vars(gpt.config), "prompt_style": vars(STYLES["book"])}
    write_json(tmp_path / run_folder.CONFIG, config | {"options": {}, "settings": {}, "facts": {}})
    save_model(tmp_path, gpt)
    return str(tmp_path)


def test_a_full_context_and_an_empty_answer_are_said(short_run, capsys, monkeypatch):
    assert main(["respond", short_run, "Say it."]) == 0
    assert capsys.readouterr().err == "[the context is full]\n"
    monkeypatch.setattr("ch07.commands.chat.respond_streaming", lambda *a, **k: Answer("", "end"))
    assert main(["respond", short_run, "Say it."]) == 0
    assert capsys.readouterr() == ("\n", "[an empty answer]\n")


def test_typed_fields_are_stripped_as_read_ones_are(short_run, monkeypatch, tmp_path):
    asked, answer = [], Answer("x", "end")
    monkeypatch.setattr(
        "ch07.commands.chat.respond_streaming",
        lambda m, t, row, *a, **k: asked.append(row) or answer,
    )
    assert main(["respond", short_run, " a  b\n", "--input", "\t c "]) == 0
    row = {"instruction": " a  b\n", "input": "\t c ", "output": "x"}
    (entry,) = read_data(written(tmp_path, [row])).entries
    assert asked == [{key: entry[key] for key in ("instruction", "input")}]


@pytest.mark.parametrize("said", ["  two spaces ", "\n\n", "### Instruction:\nx", "<|endoftext|>"])
def test_an_answer_is_every_letter_that_the_model_wrote(short_run, tokenizer, said, monkeypatch):
    row = Continuation(99, tokenizer.encode_ordinary(said), "end")
    monkeypatch.setattr("ch07.generation.respond.continue_prompt", lambda *a, **k: row)
    assert respond(load_run(short_run).model, tokenizer, [GOOD]) == [Answer(said, "end")]


def test_weights_saved_on_another_device_load(tmp_path, monkeypatch):
    gpt, path = GPTModel({**MODEL_SIZES["gpt2-tiny"], "vocab_size": 61}), tmp_path / "gpt.pth"
    with monkeypatch.context() as patch:  # the file says what one saved on a GPU would say
        patch.setattr(torch.serialization, "location_tag", lambda storage: "cuda:7")
        torch.save(gpt.state_dict(), path)
    with pytest.raises(RuntimeError, match="map_location"):
        torch.load(path)
    for a, b in zip(gpt.parameters(), load_gpt2(path).parameters(), strict=True):
        assert torch.equal(a, b) and b.device.type == "cpu"
