"""Answers: the training prompt, batches that change nothing, text that is never cut."""

import io
from types import SimpleNamespace

import pytest
import torch

from ch07.commands.cli import main
from ch07.data.prompt_styles import STYLES
from ch07.generation import respond as module
from ch07.generation.decoding import Continuation
from ch07.generation.respond import respond
from gpt_model import GPTModel
from instruction_dataset import encode_prompt


@pytest.fixture(scope="module")
def model():
    config = {"emb_dim": 16, "n_heads": 2, "n_layers": 1, "context_length": 128}
    gpt = GPTModel(config, torch.Generator().manual_seed(0)).eval()
    with torch.no_grad():
        gpt.pos_emb.weight.mul_(40)  # so that it doesn't repeat one token
    return gpt


def test_answers_come_in_the_order_of_the_entries_whatever_the_batch(
    model, tokenizer, entries, monkeypatch
):
    together = respond(model, tokenizer, entries, max_new_tokens=6)
    assert together == [respond(model, tokenizer, [e], max_new_tokens=6)[0] for e in entries]
    monkeypatch.setattr(module, "answers_at_once", lambda config, n_tokens: 2)
    assert respond(model, tokenizer, entries, max_new_tokens=6) == together
    assert respond(model, tokenizer, [], max_new_tokens=6) == []


def test_the_output_of_an_entry_is_ignored(model, tokenizer, entries):
    asked = [{key: entry[key] for key in ("instruction", "input")} for entry in entries]
    assert respond(model, tokenizer, asked, max_new_tokens=4) == respond(
        model, tokenizer, entries, max_new_tokens=4
    )


@pytest.mark.parametrize("style", STYLES.values(), ids=STYLES)
def test_every_style_prompts_with_its_own_text(model, tokenizer, entries, style, monkeypatch):
    seen = []

    def continue_prompt(model, prompt, *given, **how):
        seen.append(prompt)
        return Continuation(0)

    monkeypatch.setattr(module, "continue_prompt", continue_prompt)
    respond(model, tokenizer, entries[:1], style)
    assert seen == [encode_prompt(entries[0], tokenizer, style)]


def test_text_that_looks_like_a_header_stays(model, tokenizer, monkeypatch):
    """The book's `.replace("### Response:", "")` would delete it from the model's own words."""
    said = "### Response: is a header."
    row = Continuation(99, tokenizer.encode_ordinary(said), "end")
    monkeypatch.setattr(module, "continue_prompt", lambda *a, **k: row)
    (answer,) = respond(model, tokenizer, [{"instruction": "x"}])
    assert (answer.text, answer.stopped) == (said, "end")


def test_half_a_character_that_is_typed_is_refused_in_a_sentence(
    model, tokenizer, monkeypatch, capsys
):
    """Python makes one of a byte that is no UTF-8; the tokenizer would change it in silence."""
    run = SimpleNamespace(
        model=model, tokenizer=tokenizer, style=STYLES["book"], conversations=None
    )
    monkeypatch.setattr("ch07.commands.chat.load_model_to_answer", lambda *a: run)
    said = "the text contains half a character (a lone surrogate): type it as UTF-8\n"
    for asked in (["Say \udcff it."], ["Say it.", "--input", "\ud800"]):
        assert main(["respond", "RUN", *asked]) == 1
        assert capsys.readouterr() == ("", f"error: {said}")
    monkeypatch.setattr("sys.stdin", io.StringIO("Say \udcff it.\n"))
    assert main(["chat", "RUN"]) == 0
    assert capsys.readouterr() == ("", said)
