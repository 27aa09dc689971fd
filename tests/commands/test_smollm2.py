"""The real model in every command that takes one; skipped, with a sentence, without its package."""

import io
import json

import pytest

from ch07.commands.cli import main
from ch07.data.chat_dataset import encode_chat_prompt
from ch07.generation.backends import open_backend
from ch07.models.saved_run import load_run

pytestmark = pytest.mark.slow
SYSTEM_LINE = "You are a helpful AI assistant named SmolLM, trained by Hugging Face"


@pytest.fixture(autouse=True)
def needs_the_package(smollm2):
    """Skips all of these tests where the package is missing."""


@pytest.fixture
def rows(tmp_path):
    data = [
        {"instruction": "What is the capital of France?", "input": "", "output": "Paris."},
        {"instruction": "Give the opposite.", "input": "hot", "output": "cold"},
    ]
    path = tmp_path / "rows.json"
    path.write_text(json.dumps(data * 12), encoding="utf-8")
    return path


def test_it_knows_the_capital_of_france(capsys):
    assert main(["respond", "smollm2", "What is the capital of France?"]) == 0
    assert capsys.readouterr().out == "The capital of France is Paris.\n"


def test_it_remembers_and_obeys_a_system_prompt(monkeypatch, capsys):
    lines = ["/prompt", "My name is Ada.", "What is my name?", "/system Answer in one word."]
    monkeypatch.setattr("sys.stdin", io.StringIO("\n".join([*lines, "Say yes."])))
    assert main(["chat", "smollm2", "--max-new-tokens", "20"]) == 0
    out, err = capsys.readouterr()
    assert "Ada" in out
    assert err.count(SYSTEM_LINE) == 2, "as published, for questions without a system prompt"
    assert "<|im_start|>system\nAnswer in one word.<|im_end|>\n<|im_start|>user\nSay yes." in err


def test_its_prompt_is_the_one_that_its_file_describes(smollm2):
    """The template in the file, rendered by Jinja as llama.cpp and transformers do."""
    import jinja2

    template = jinja2.Template(smollm2.tokenizer.vocabulary.template)
    chat = {
        "history": [{"instruction": "Say 1.", "output": "1"}],
        "instruction": "And 2?",
        "output": "",
    }
    for entry in (chat, {**chat, "system": "Be brief."}, {"instruction": "Hi", "output": ""}):
        messages = [{"role": "system", "content": entry["system"]}] if "system" in entry else []
        for turn in entry.get("history", []):
            messages.append({"role": "user", "content": turn["instruction"]})
            messages.append({"role": "assistant", "content": turn["output"]})
        messages.append({"role": "user", "content": entry["instruction"]})
        text = template.render(messages=messages, add_generation_prompt=True)
        expected = smollm2.tokenizer.encode(text, allowed_special="all")
        assert encode_chat_prompt(entry, smollm2.tokenizer, smollm2.style) == expected


def test_it_is_scored_shown_and_judged_as_a_run_is(rows, capsys):
    assert main(["evaluate", "smollm2", "--data", str(rows), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["n"] == 24
    assert main(["grid", str(rows), "--rows", "1", "--run", "smollm2", "--json"]) == 0
    cells = json.loads(capsys.readouterr().out)
    assert [cell["text"] for cell in cells[:2]] == ["<|im_start|>", "system"]
    assert cells[-1]["target_text"] == "<END>" and cells[-1]["loss"] > 0
    assert main(["evaluate", "smollm2"]) == 1
    assert "smollm2 has no held-out entries: name some with --data FILE" in capsys.readouterr().err


def test_it_writes_for_other_commands():
    complete = open_backend("smollm2", raw=False)
    assert "Paris" in complete("What is the capital of France?", max_new_tokens=20).text


def test_it_learns_and_is_resumed(rows, tmp_path, capsys):
    out = tmp_path / "run"
    short = ["--max-steps", "2", "--batch-size", "4", "--dtype", "float32", "--train-rows", "8"]
    assert main(["doctor", str(rows), "--model", "smollm2", *short]) == 0
    said = capsys.readouterr().out
    assert "READY" in said and "--model smollm2" in said
    arguments = ["--model", "smollm2", "--data", str(rows), "--out", str(out), *short]
    assert main(["finetune", *arguments]) == 0
    run = load_run(out)
    assert run.style.prompt({"instruction": "Hi", "input": ""}).count(SYSTEM_LINE) == 1
    assert run.config["options"]["model"] == "smollm2"
    capsys.readouterr()
    assert main(["finetune", "--resume", "--out", str(out)]) == 0
    assert "has finished" in capsys.readouterr().err
