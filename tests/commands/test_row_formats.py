"""`finetune --rows`, `--end-of-turn`, and the dropout of LIMA and P-tuning v2, to the export."""

import json
from contextlib import nullcontext

import pytest
import torch
import transformers

import gpt_model
from ch07.commands.cli import main
from ch07.config import FinetuneOptions
from ch07.data.byte_pair_vocabulary import END_OF_TURN_MARK
from ch07.data.chat_dataset import encode_chat_prompt
from ch07.data.reference_formats.chatglm_labels import chat_prompt
from ch07.data.tokenizer import end_token_id
from ch07.generation.respond import Answer
from ch07.models.saved_run import load_run
from ch07.runs.run_folder import read_config
from ch07.training.job import build_job
from collate import END_OF_TEXT
from train_loop import sum_loss

QUICK = ["--batch-size", "8", "--max-steps", "4", "--eval-freq", "2", "--dtype", "float32"]
ENTRY = {"instruction": "Write <sop> in words.", "input": "7", "output": ""}
FORMS = ("alpaca", "chinese-alpaca", "chatglm", "lamini")


@pytest.fixture(autouse=True, scope="module")
def tiny():
    """The tiny model, tinier."""
    size = {"emb_dim": 8, "n_layers": 2, "n_heads": 2, "context_length": 320}
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(gpt_model.MODEL_SIZES, "gpt2-tiny", size)
        yield


def finetune(data, out, *more):
    return main(["finetune", "--data", str(data), "--out", str(out), *QUICK, *more])


@pytest.fixture(scope="module", params=FORMS)
def formed(request, few_answers, tmp_path_factory):
    """(name of the form, a short run on its rows)."""
    folder = tmp_path_factory.mktemp("rows") / request.param
    assert finetune(few_answers, folder, "--rows", request.param) == 0
    return request.param, folder


# What comes before an answer in each of the original projects.
PROMPT_ENDS = {
    "alpaca": "\n\n### Response:",
    "chinese-alpaca": "\n\n### Response: ",
    "chatglm": "\n7[gMASK]<sop>",
    "lamini": "words.\n7",
}


def test_a_run_is_prompted_with_what_it_was_trained_on(formed):
    name, folder = formed
    run = load_run(folder)
    ids = encode_chat_prompt(ENTRY, run.tokenizer, run.style)
    assert run.tokenizer.decode(ids).endswith(PROMPT_ENDS[name])
    new = 2 if name == "chatglm" else 0
    assert run.tokenizer.n_vocab == run.model.config.vocab_size == 50257 + new
    assert [i for i in ids if i >= END_OF_TEXT] == [50257, 50258][:new], "a typed mark is text"
    assert read_config(folder)["options"]["rows"] == name
    responses = json.loads((folder / "responses.json").read_text("utf-8"))
    assert len(responses) == 2 and all("model_response" in row for row in responses)


def test_interrupted_equals_uninterrupted(formed, few_answers, tmp_path, monkeypatch):
    name, folder = formed
    asked = iter([False, True])
    with monkeypatch.context() as patch:  # asked to stop after its second step
        patch.setattr(
            "ch07.commands.finetune.stop_on_signal",
            lambda note: nullcontext(lambda: next(asked, True)),
        )
        assert finetune(few_answers, tmp_path / "run", "--rows", name) == 130
    assert main(["finetune", "--resume", "--out", str(tmp_path / "run")]) == 0
    for file in ("model.safetensors", "responses.json"):
        assert (tmp_path / "run" / file).read_bytes() == (folder / file).read_bytes(), file


def test_an_export_has_the_same_tokens_and_logits(formed, tmp_path):
    name, folder = formed
    assert main(["export", str(folder), str(tmp_path / "hf"), "--gguf", "f32"]) == 0
    run = load_run(folder)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "hf").eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "hf")
    message = {"role": "user", "content": "Write it in words.", "input": "7"}
    found = tokenizer.apply_chat_template([message], add_generation_prompt=True)["input_ids"]
    entry = {"instruction": message["content"], "input": "7", "output": ""}
    ids = encode_chat_prompt(entry, run.tokenizer, run.style)
    assert found == ids
    assert tokenizer.eos_token_id == end_token_id(run.tokenizer) == END_OF_TEXT
    with torch.no_grad():
        expected = run.model(torch.tensor([ids]))
        torch.testing.assert_close(theirs(torch.tensor([ids])).logits, expected, atol=1e-4, rtol=0)
    card = (tmp_path / "hf" / "README.md").read_text("utf-8")
    assert f"the labels of `--rows {name}`" in card


def test_doctor_says_what_these_rows_are(formed, few_answers, capsys):
    name, _ = formed
    assert main(["doctor", "--data", str(few_answers), "--rows", name]) == 0
    out = capsys.readouterr().out
    joint = name in ("alpaca", "lamini")
    assert ("tokenized as one text" in out) == joint
    parts = {
        "alpaca": "answer",
        "chinese-alpaca": "answer",
        "chatglm": "prompt",  # <sop> is learned
        "lamini": "prompt",
    }
    assert f"of these: {parts[name]} " in out
    assert f"finetune --data {few_answers} --rows {name}" in out.replace("'", "")


def test_doctor_tries_a_step_on_a_model_with_new_tokens(few_answers, tmp_path):
    start = tmp_path / "start"
    assert finetune(few_answers, start) == 0
    for more in (("--rows", "chatglm"), ("--end-of-turn", "--residual-dropout", "0.2")):
        assert main(["doctor", "--data", str(few_answers), "--model", str(start), *more]) == 0


def test_a_run_like_another_may_have_other_tokens(few_answers, tmp_path, capsys):
    start = tmp_path / "start"
    assert finetune(few_answers, start) == 0
    for name, more in {"rows": ("--rows", "chatglm"), "end": ("--end-of-turn",)}.items():
        out = tmp_path / name
        assert main(["finetune", "--like", str(start), "--out", str(out), *more]) == 0
        assert "facts.tokenizer was 'gpt2', now" in capsys.readouterr().err


def test_p_tuning_on_a_model_that_has_the_marks(few_answers, tmp_path):
    """As ChatGLM-6B does it: the model is frozen, and only a prefix learns the new rows."""
    start = tmp_path / "start"
    assert finetune(few_answers, start, "--rows", "chatglm") == 0
    more = ("--rows", "chatglm", "--corrected", "--method", "prefix", "--prefix-length", "4")
    out = tmp_path / "run"
    assert finetune(few_answers, out, "--model", str(start), *more, "--prefix-dropout", "0.1") == 0
    run = load_run(out)
    assert run.tokenizer.n_vocab == 50259, "the marks are not added twice"
    before = load_run(start).model.state_dict()
    for name, weight in run.model.base.state_dict().items():
        assert torch.equal(weight, before[name])


def test_a_model_with_weights_gets_rows_for_the_marks(few_answers, tmp_path):
    """Their embedding starts as the mean of the others, as in Stanford Alpaca."""
    start = tmp_path / "start"
    assert finetune(few_answers, start) == 0
    options = FinetuneOptions(data=str(few_answers), model=str(start), rows="chatglm")
    job = build_job(options, lambda text: None)
    old = load_run(start).model.tok_emb.weight
    new = job.model.tok_emb.weight
    assert torch.equal(new[:50257], old)
    torch.testing.assert_close(new[50257:], old.mean(0).expand(2, -1), atol=1e-6, rtol=0)


@pytest.mark.parametrize("method", ["full", "lora", "prefix"])
def test_marks_that_are_not_trained_are_said(method, few_answers, tmp_path):
    start = tmp_path / "start"
    assert finetune(few_answers, start) == 0
    notes = []
    options = FinetuneOptions(
        data=str(few_answers), model=str(start), rows="chatglm", method=method
    )
    build_job(options, notes.append)
    said = [note for note in notes if "lacks the tokens [gMASK] and <sop>" in note]
    assert len(said) == (method != "full")


def test_a_token_store_has_rows_of_its_own(few_answers, tmp_path, capsys):
    store = tmp_path / "store"
    assert main(["tokenize", str(few_answers), str(store)]) == 0
    assert finetune(store, tmp_path / "run", "--rows", "alpaca") == 2
    assert "use the file that they were made from" in capsys.readouterr().err


# --- LIMA: a token that ends a turn, dropout that rises with depth --------------------------------
def test_an_end_of_turn_is_a_token_of_its_own(few_answers, tmp_path, capsys):
    out = tmp_path / "run"
    assert finetune(few_answers, out, "--end-of-turn") == 0
    run = load_run(out)
    assert end_token_id(run.tokenizer) == 50257 == run.model.config.vocab_size - 1
    assert run.tokenizer.decode([50257]) == END_OF_TURN_MARK
    assert run.tokenizer.encode_ordinary(END_OF_TURN_MARK + "<|endoftext|>")[-1] < END_OF_TEXT
    again = tmp_path / "again"
    assert finetune(few_answers, again, "--model", str(out), "--end-of-turn") == 0
    assert load_run(again).tokenizer.n_vocab == 50258, "it is not added twice"
    assert main(["export", str(out), str(tmp_path / "hf")]) == 0
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "hf")
    assert tokenizer.eos_token == END_OF_TURN_MARK
    adapter = ("--model", str(tmp_path / "plain"), "--method", "lora", "--end-of-turn")
    assert finetune(few_answers, tmp_path / "plain") == 0
    assert finetune(few_answers, tmp_path / "no", *adapter) == 2
    assert "which --method lora would not train" in capsys.readouterr().err


def test_end_of_text_is_not_a_target_where_turns_have_an_end(few_answers):
    options = FinetuneOptions(data=str(few_answers), end_of_turn=True)
    job = build_job(options, lambda text: None)
    for inputs, targets in job.plan.train_loader:
        assert not ((inputs == END_OF_TEXT) | (targets == END_OF_TEXT)).any()
        assert ((targets == 50257).sum(1) == 1).all()


def test_a_model_that_ends_turns_already_needs_no_other_token(few_answers, tmp_path, smollm2):
    given = {"data": str(few_answers), "model": "smollm2", "end_of_turn": True}
    with pytest.raises(Exception, match=r"a token of its own already, <\|im_end\|>"):
        build_job(FinetuneOptions(**given), lambda text: None)


def test_dropout_rises_with_depth_and_resumes(few_answers, tmp_path, monkeypatch):
    options = FinetuneOptions(data=str(few_answers), residual_dropout=0.3)
    job = build_job(options, lambda text: None)
    assert job.plan.settings.batch_loss is sum_loss, "each row of a batch drops for itself"
    blocks = job.model.trf_blocks
    assert [block.drop_shortcut.p for block in blocks] == [0.0, 0.3]
    whole = tmp_path / "whole"
    assert finetune(few_answers, whole, "--residual-dropout", "0.3") == 0
    asked = iter([False, True])
    with monkeypatch.context() as patch:
        patch.setattr(
            "ch07.commands.finetune.stop_on_signal",
            lambda note: nullcontext(lambda: next(asked, True)),
        )
        assert finetune(few_answers, tmp_path / "run", "--residual-dropout", "0.3") == 130
    assert main(["finetune", "--resume", "--out", str(tmp_path / "run")]) == 0
    model = "model.safetensors"
    assert (whole / model).read_bytes() == (tmp_path / "run" / model).read_bytes()
    assert finetune(few_answers, tmp_path / "none") == 0
    assert (whole / model).read_bytes() != (tmp_path / "none" / model).read_bytes()


# --- evaluation -----------------------------------------------------------------------------------
def evaluated(capsys, *arguments):
    capsys.readouterr()  # of the training
    assert main(["evaluate", *map(str, arguments), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_the_losses_of_a_run_are_computed_again(formed, capsys):
    _, folder = formed
    found = evaluated(capsys, folder, "--losses")
    assert found["train_loss"]["equal"] and found["val_loss"]["equal"]


def test_chatglm_s_own_evaluation(tmp_path, few_answers, capsys, monkeypatch):
    """Prompts and references are those of `preprocess_function_eval`, cut and all."""
    folder = tmp_path / "run"
    assert finetune(few_answers, folder, "--rows", "chatglm") == 0
    turn = {"instruction": "Who?", "output": "I."}
    rows = [
        {"instruction": "why " * 100, "output": "Red"},
        {"instruction": "Why?", "output": "red " * 100},
        {"instruction": "Why?", "output": "Red", "history": [turn]},
    ]
    data = tmp_path / "rows.json"
    data.write_text(json.dumps(rows), encoding="utf-8")
    asked = []

    def answer(model, tokenizer, prompts, limit):
        asked.append([tokenizer.decode(prompt) for prompt in prompts])
        return [Answer("Red", "end")] * len(prompts)

    with monkeypatch.context() as patch:
        patch.setattr("ch07.commands.evaluate.answer_prompts", answer)
        scores = evaluated(capsys, folder, "--data", data, "--as-chatglm")
    (prompts,) = asked
    marks = "[gMASK]<sop>"
    assert prompts[0] == "why" + " why" * 61 + marks
    assert prompts[1] == f"Why?{marks}"
    assert prompts[2] == chat_prompt("Why?", [("Who?", "I.")]) + marks
    assert (scores["n"], scores["exact_match"]) == (3, 2 / 3)
    assert main(["evaluate", str(folder), "--as-chatglm"]) == 0
    read = []
    with monkeypatch.context() as patch:  # by default, a conversation is asked as in training
        patch.setattr(
            "ch07.commands.evaluate.respond",
            lambda model, tokenizer, entries, *rest: read.extend(entries) or [],
        )
        patch.setattr("ch07.commands.evaluate.score_answers", lambda *rest: {})
        evaluated(capsys, folder, "--data", data)
    assert [entry["instruction"] for entry in read] == [
        rows[0]["instruction"].strip(),
        "Why?",
        chat_prompt("Why?", [("Who?", "I.")]),
    ]


def test_a_system_message_left_out_is_said(tmp_path, few_answers, capsys):
    folder = tmp_path / "run"
    assert finetune(few_answers, folder, "--rows", "chatglm") == 0
    row = {"instruction": "Why?", "output": "So.", "system": "Be brief."}
    data = tmp_path / "rows.json"
    data.write_text(json.dumps([row]), encoding="utf-8")
    capsys.readouterr()
    assert main(["evaluate", str(folder), "--data", str(data), "--as-chatglm"]) == 0
    assert "1 system message left out" in capsys.readouterr().err


def test_chatglm_s_evaluation_cuts_where_the_training_did(
    few_answers, tmp_path, capsys, monkeypatch
):
    folder = tmp_path / "run"
    lengths = ("--max-source-length", "9", "--max-target-length", "5")
    assert finetune(few_answers, folder, "--rows", "chatglm", *lengths) == 0
    data = tmp_path / "rows.json"
    row = {"instruction": "why " * 100, "output": "red " * 100}
    data.write_text(json.dumps([row]), encoding="utf-8")
    asked = []

    def answer(model, tokenizer, prompts, limit):
        asked.extend(tokenizer.decode(prompt) for prompt in prompts)
        return [Answer("red red red", "end")]

    with monkeypatch.context() as patch:
        patch.setattr("ch07.commands.evaluate.answer_prompts", answer)
        scores = evaluated(capsys, folder, "--data", data, "--as-chatglm")
    assert asked == ["why" + " why" * 6 + "[gMASK]<sop>"]
    assert scores["exact_match"] == 1


def test_losses_are_not_computed_as_chatglm_evaluates(tmp_path, capsys):
    assert main(["evaluate", str(tmp_path), "--losses", "--as-chatglm"]) == 2
    assert "leave out --as-chatglm" in capsys.readouterr().err


def test_another_run_has_no_such_evaluation(few_answers, tmp_path, capsys):
    run = tmp_path / "run"  # not the shared one, which must not be trained this small
    assert finetune(few_answers, run) == 0
    assert main(["evaluate", str(run), "--as-chatglm"]) == 2
    assert "needs a run of python -m ch07 finetune --rows chatglm" in capsys.readouterr().err
