"""docs/reference/book_listings.md: every name resolves, and each alias is what it stands for."""

import json
import math
import re

import pytest
import torch
from completion_server import ollama, serving
from documented_names import ROOT, assert_is_defined, dotted_names, table_rows
from torch import nn

from ch07 import book_names
from ch07.data.entries import load_entries
from ch07.data.pretraining_dataset import PretrainingDataset
from ch07.evaluation.llm_judge import judge_prompt
from ch07.generation.completion import CompletionError
from ch07.generation.decoding import Sampling, continue_prompts
from ch07.utils.errors import DataError
from collate import custom_collate_fn

TEXT = (ROOT / "docs" / "reference" / "book_listings.md").read_text(encoding="utf-8")
ROWS = table_rows(TEXT, n_cells=4)  # section, name in the book, name here, remarks
BOOK = """
    download_and_load_file format_input InstructionDataset custom_collate_draft_1
    custom_collate_draft_2 custom_collate_fn calc_loss_batch calc_loss_loader evaluate_model
    train_model_simple plot_losses generate text_to_token_ids token_ids_to_text query_model
    check_if_running generate_model_scores generate_and_print_sample generate_text_simple
    LayerNorm GELU FeedForward MultiHeadAttention TransformerBlock GPTModel load_weights_into_gpt
    download_and_load_gpt2 create_dataloader_v1 GPTDatasetV1
""".split()


@pytest.mark.parametrize("name", BOOK)
def test_each_listing_of_the_book_has_a_row(name):
    assert any(f"`{name}`" in book for _, book, _, _ in ROWS)


@pytest.mark.parametrize("exercise", ["7.1", "7.2", "7.3", "7.4"])
def test_each_exercise_of_the_book_has_a_row(exercise):
    assert re.search(rf"^\| {exercise}, ", TEXT, flags=re.M)


@pytest.mark.parametrize("path", sorted(set(dotted_names(TEXT))))
def test_each_name_is_where_the_table_says(path):
    assert_is_defined(path)


def test_each_row_says_where_or_that_it_is_not_here():
    assert len(ROWS) >= len(BOOK)
    for _, book, here, _ in ROWS:
        assert here == "not here" or re.fullmatch(r"`[\w.]+`", here), book


def test_same_and_alias_mean_that_the_name_is_the_same():
    for _, in_book, here, remarks in ROWS:
        if remarks.startswith(("Same", "Alias")):
            book = re.search(r"`(\w+)`", in_book).group(1)
            assert here.strip("`").endswith(f".{book}")


def test_the_aliases_are_all_in_the_table():
    ours = {
        name
        for name, value in vars(book_names).items()
        if getattr(value, "__module__", None) == book_names.__name__
    }
    assert ours == set(re.findall(r"`ch07\.book_names\.(\w+)`", TEXT))


# --- the aliases ----------------------------------------------------------------------------------
def test_a_file_that_exists_is_read_and_another_is_asked_for(tmp_path, entries):
    path = tmp_path / "data.json"
    with pytest.raises(DataError, match=r"curl -o .*data\.json https://example\.org/x"):
        book_names.download_and_load_file(path, "https://example.org/x")
    path.write_text(json.dumps(entries), encoding="utf-8")
    assert book_names.download_and_load_file(path, "https://example.org/x") == load_entries(path)


@pytest.mark.parametrize("text", ["Every effort moves you", "Ünï 你好\n", "a <|endoftext|> b"])
def test_text_to_ids_and_back(text, tokenizer):
    token_ids = book_names.text_to_token_ids(text, tokenizer)
    assert token_ids.tolist() == [tokenizer.encode_ordinary(text)]
    assert token_ids.dtype == torch.int64
    assert book_names.token_ids_to_text(token_ids, tokenizer) == text
    assert book_names.token_ids_to_text(token_ids[0], tokenizer) == text


def book_loop(model, idx, max_new_tokens, context_size):
    """What the book's loop computes: read everything again, and take the likeliest token."""
    for _ in range(max_new_tokens):
        with torch.no_grad():
            logits = model(idx[:, -context_size:])
        idx = torch.cat([idx, logits[:, -1].argmax(dim=-1, keepdim=True)], dim=1)
    return idx


def test_generate_text_simple_is_the_books_loop(small_model):
    idx = torch.randint(97, (3, 5))
    wanted = book_loop(small_model, idx, 12, 32)
    assert torch.equal(book_names.generate_text_simple(small_model, idx, 12, 32), wanted)
    assert torch.equal(book_names.generate(small_model, idx, 12, 32), wanted)


def test_generate_is_what_stands_behind_it(small_model):
    idx = torch.randint(97, (2, 5))
    end = int(book_loop(small_model, idx[:1], 4, 32)[0, -1])
    new = book_names.generate(small_model, idx, 9, 32, eos_id=end)[:, 5:]
    rows = continue_prompts(small_model, idx.tolist(), 9, end_id=end)
    assert [row.token_ids for row in rows] == [
        [token for token in row if token != end] for row in new.tolist()
    ]
    torch.manual_seed(1)
    drawn = book_names.generate(small_model, idx, 9, 32, temperature=1.5, top_k=3)
    torch.manual_seed(1)
    rows = continue_prompts(small_model, idx.tolist(), 9, sampling=Sampling(1.5, 3), end_id=-1)
    assert drawn[:, 5:].tolist() == [row.token_ids for row in rows]


def test_generate_stops_where_the_context_is_full(small_model):
    idx = torch.randint(97, (1, 5))
    assert book_names.generate(small_model, idx, 9, 8).shape == (1, 8)
    assert torch.equal(book_names.generate(small_model, idx, 0, 8), idx)
    with pytest.raises(ValueError, match="5 tokens, but context_size is 4"):
        book_names.generate(small_model, idx, 9, 4)


class Letters:
    """As much of a tokenizer as a model of 97 tokens needs: a letter for each."""

    def encode_ordinary(self, text):
        return [ord(letter) - 32 for letter in text]

    def decode(self, token_ids):
        return "".join("\n" if token == 90 else chr(token + 32) for token in token_ids)


def test_a_sample_is_printed_on_one_line(small_model, capsys):
    model = small_model.train()
    book_names.generate_and_print_sample(model, Letters(), "cpu", "Every")
    printed = capsys.readouterr().out
    idx = torch.tensor([Letters().encode_ordinary("Every")])
    wanted = book_names.generate_text_simple(model, idx, 50, 32)[0].tolist()
    assert printed == Letters().decode(wanted).replace("\n", " ") + "\n"
    assert model.training


def test_query_model_asks_ollama_without_randomness():
    with serving((200, ollama("Llamas eat grass."))) as stub:
        answer = book_names.query_model("What do llamas eat?", "m", stub.url + "/api/chat")
    ((path, _, body),) = stub.asked
    assert (answer, path, body["model"]) == ("Llamas eat grass.", "/api/chat", "m")
    assert body["messages"] == [{"role": "user", "content": "What do llamas eat?"}]
    assert body["options"]["temperature"] == 0
    assert body["options"]["seed"] == 123


def test_scores_are_the_judges_and_none_is_left_out(entries):
    rows = [{**entry, "model_response": f"answer {i}"} for i, entry in enumerate(entries)]
    with serving(*((200, ollama(reply)) for reply in ("85", "I like it.", "Score: 40"))) as stub:
        scores = book_names.generate_model_scores(rows, "model_response", "m", stub.url)
    assert scores == [85.0, None, 40.0]
    asked = [body["messages"][0]["content"] for _, _, body in stub.asked]
    assert asked == [judge_prompt(row, row["model_response"], as_json=True) for row in rows]
    with (
        serving((404, json.dumps({"error": "no such model"}))) as stub,
        pytest.raises(CompletionError),
    ):
        book_names.generate_model_scores(rows, "model_response", "m", stub.url)


# --- what the remarks say of classes that are PyTorch's or ours -----------------------------------
def test_layer_norm_and_gelu_are_the_books_formulas():
    x = torch.randn(4, 7, 16)
    mean = x.mean(dim=-1, keepdim=True)
    variance = x.var(dim=-1, keepdim=True, unbiased=False)
    torch.testing.assert_close(nn.LayerNorm(16)(x), (x - mean) / torch.sqrt(variance + 1e-5))
    inner = math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)
    torch.testing.assert_close(nn.GELU(approximate="tanh")(x), 0.5 * x * (1 + torch.tanh(inner)))


def test_pretraining_rows_are_the_books_windows_with_stride_equal_to_length():
    ids, width = list(range(13)), 4
    inputs, targets = custom_collate_fn(
        list(PretrainingDataset(ids, width))[:3], allowed_max_length=width
    )
    starts = range(0, len(ids) - width, width)
    assert inputs.tolist() == [ids[i : i + width] for i in starts]
    assert targets.tolist() == [ids[i + 1 : i + width + 1] for i in starts]
