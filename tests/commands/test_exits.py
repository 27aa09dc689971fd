"""What leaves a run: limits that fit, cards that tell all, commands that can be pasted."""

import json
import re
import shlex
from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch
import transformers

from ch07.commands.cli import main
from ch07.data.prompt_styles import STYLES
from ch07.data.tokenizer import load_tokenizer
from ch07.models.gguf_export import write_gguf
from ch07.models.hf_export import export_hf
from ch07.models.model_card import model_card
from ch07.models.resize_embeddings import smart_embedding_resize
from ch07.models.saved_run import load_run
from ch07.utils.errors import InputError
from gpt_model import GPTModel

SMALL = {"context_length": 64, "emb_dim": 16, "n_heads": 2, "n_layers": 1}
CHAT = [
    {"role": "system", "content": "Be short."},
    {"role": "user", "content": "Name a fruit."},
    {"role": "assistant", "content": "Lime"},
    {"role": "user", "content": "And its plural?"},
]


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    folder = tmp_path_factory.mktemp("small") / "out"
    export_hf(GPTModel(SMALL), folder, STYLES["question-answer"], conversations=True)
    return folder


# --- limits ---------------------------------------------------------------------------------------
def test_nothing_beyond_the_context_is_asked_for(exported):
    """As a card says it: a pipeline without further limits, which used to end in an IndexError."""
    generate = transformers.pipeline("text-generation", str(exported))
    messages = [{"role": "user", "content": "Name a colour and say why you like it."}]
    (answer,) = generate(messages, return_full_text=False)
    assert isinstance(answer["generated_text"], str)
    ids = generate.tokenizer.apply_chat_template(messages, return_dict=True)["input_ids"]
    out = generate.model.generate(torch.tensor([ids]))
    assert len(ids) < out.shape[1] <= 64


def test_the_context_is_the_limit_that_is_written(exported):
    limits = json.loads((exported / "generation_config.json").read_text("utf-8"))
    assert limits["max_length"] == 64 and "max_new_tokens" not in limits


# --- conversations --------------------------------------------------------------------------------
def test_the_template_of_a_run_of_conversations_takes_them(exported):
    tokenizer = transformers.AutoTokenizer.from_pretrained(exported)
    text = tokenizer.apply_chat_template(CHAT, tokenize=False)
    assert text == (
        "Be short.\n\n### Question:\nName a fruit.\n\n### Answer:\nLime<|endoftext|>"
        "\n\n### Question:\nAnd its plural?\n\n### Answer:\n"
    )


@pytest.mark.parametrize(
    "messages", [[], CHAT[:1], [CHAT[1], CHAT[1]], [*CHAT[1:], CHAT[0]], [CHAT[2]]]
)
def test_the_template_refuses_what_is_no_conversation(exported, messages):
    tokenizer = transformers.AutoTokenizer.from_pretrained(exported)
    with pytest.raises(Exception, match=r"empty conversation|take turns|give a user message"):
        tokenizer.apply_chat_template(messages, tokenize=False)


# --- cards ----------------------------------------------------------------------------------------
def changed(run, **parts):
    """The run with parts of its config changed, without its file."""
    ours = load_run(run)
    config = json.loads(json.dumps(ours.config))
    for part, values in parts.items():
        config[part] = {**config.get(part, {}), **values}
    return SimpleNamespace(
        tokenizer=load_tokenizer(),
        folder=ours.folder,
        config=config,
        model=ours.model,
        style=ours.style,
        conversations=config["facts"].get("conversations"),
    )


def test_the_card_of_a_run_on_pairs_says_so(run):
    preference = {"beta": 0.25, "label_smoothing": 0.1, "reduction": "mean"}
    card = model_card(changed(run, preference=preference))
    assert "direct preference optimization (DPO) with beta 0.25, label smoothing 0.1" in card
    assert "the mean of each answer's log-probabilities (counted: answer-and-end)" in card
    assert re.search(r"\| data \| .* train, .* pairs of answers \|", card)
    assert re.search(r"\| training \| .* of 16 pairs, peak", card)
    assert "DPO" not in model_card(changed(run)) and "pairs" not in model_card(changed(run))


@pytest.mark.parametrize("system", [True, False])
def test_the_card_of_a_run_on_conversations_says_so(run, system):
    card = model_card(changed(run, facts={"conversations": {"turns": 3, "system": system}}))
    assert "fine-tuned to hold conversations" in card and "of up to 3 turns" in card
    assert ("some with a system message" in card) == system
    assert "trained neither" not in card
    assert "trained neither with\nconversations nor with system messages" in model_card(
        changed(run)
    )


# --- a vocabulary that was enlarged ---------------------------------------------------------------
def test_a_model_with_other_tokens_than_the_tokenizer_stays(tmp_path):
    pytest.importorskip("gguf")
    model = smart_embedding_resize(GPTModel(SMALL), 50257 + 3)
    with pytest.raises(InputError, match=r"the model has 50,260 tokens, but the tokenizer .* 50,2"):
        export_hf(model, tmp_path / "out")
    with pytest.raises(InputError, match="was enlarged can't be exported"):
        write_gguf(model, tmp_path / "out.gguf", STYLES["book"], name="x")
    assert not list(tmp_path.iterdir())


# --- commands that are printed --------------------------------------------------------------------
def test_every_command_that_is_printed_can_be_pasted(tmp_path, monkeypatch, capsys):
    """Names with a space and a quote: each command names a path that exists, or a new one."""
    folder = tmp_path / "My Drive" / "it's"
    folder.mkdir(parents=True)
    monkeypatch.chdir(folder)
    rows = [{"instruction": f"Say {i}.", "output": str(i)} for i in range(30)]
    (folder / "my rows.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    small = ["--max-steps", "1", "--allowed-max-length", "64"]
    assert main(["finetune", "my rows.jsonl", "--out", "run 1", *small]) == 0
    for command in (
        ["prepare-data", "my rows.jsonl", "new rows.jsonl"],
        ["tokenize", "my rows.jsonl", "a store"],
        ["curate", "my rows.jsonl", "few rows.json", "--keep", "2"],
        ["doctor", "my rows.jsonl", "--max-steps", "1"],
        ["check", "--start", "my exercises"],
    ):
        assert main(command) == 0
    for command in (["my rows.jsonl"], ["prefer", "run 1", "my rows.jsonl"]):
        with pytest.raises(SystemExit) if len(command) == 1 else nullcontext():
            assert main(command) == 1
    assert main(["finetune", "my rows.jsonl", "--out", "run 1"]) == 1
    out, err = capsys.readouterr()
    printed = re.findall(r"python -m ch07 [^\n]*", out + err)
    printed = [line for line in printed if not line.endswith("--help")]
    assert len(printed) >= 8
    for line in printed:
        words = shlex.split(line)
        paths = [word for word in words if " " in word or word.startswith("/")]
        assert paths, line
        for path in paths:
            assert (folder / path).exists(), line


# --- a run that is resumed somewhere else ---------------------------------------------------------
def test_a_run_that_is_resumed_elsewhere_says_how_to_name_its_model(
    run, number_data, tmp_path, monkeypatch, capsys
):
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    there.mkdir()
    (here / "base").symlink_to(run)
    (here / "rows.json").symlink_to(number_data)
    monkeypatch.chdir(here)
    options = ["--model", "base", "--data", "rows.json", "--epochs", "1", "--batch-size", "16"]
    with monkeypatch.context() as patch:
        patch.setattr("ch07.commands.finetune.stop_on_signal", _stopping)
        assert main(["finetune", *options, "--out", str(tmp_path / "new")]) == 130
    monkeypatch.chdir(there)
    capsys.readouterr()
    resume = ["finetune", "--resume", "--out", str(tmp_path / "new")]
    assert main(resume) == 1
    error = capsys.readouterr().err
    assert f"relative to {there}" in error
    assert "the model base: if it moved, say where with --model PATH" in error
    assert "the data rows.json: if it moved, say where with --data PATH" in error
    assert main([*resume, "--model", "../here/base", "--data", "../here/rows.json"]) == 0


class _stopping:
    """Stands in for `stop_on_signal`: the run is asked to stop after its second step."""

    def __init__(self, report):
        self.asked = 0

    def __enter__(self):
        def stop_requested():
            self.asked += 1
            return self.asked >= 2

        return stop_requested

    def __exit__(self, *error):
        return False
