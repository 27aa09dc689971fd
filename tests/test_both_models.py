"""What holds for a GPT-2 and a Llama alike; a text ends with the token of its own tokenizer."""

import random
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from chat_model import (
    MISSING,
    STYLE,
    save_small_llama,
    small_llama,
    small_tokenizer,
    small_vocabulary,
)

from ch07.commands.cli import main
from ch07.data.chat_dataset import encode_chat_prompt, encode_turns, make_dataset, token_roles
from ch07.data.dataloader import make_loader
from ch07.data.token_text import END_LABEL
from ch07.data.tokenizer import end_token_id
from ch07.data.tokenizer_files import write_vocabulary
from ch07.generation.backends import complete_with_model
from ch07.generation.decoding import Continuation, Sampling, continue_prompts, generate
from ch07.generation.prompt_lookup import continue_with_lookup
from ch07.generation.respond import respond, respond_streaming
from ch07.models.saved_run import load_run, load_trained_model
from ch07.systems.synthetic_data.reflection import CRITIC
from ch07.training.shared_beginning import sum_loss_with_shared_beginning
from ch07.utils.atomic_files import read_json
from ch07.visualization.token_grid import batch_grid
from gpt_model import GPTModel
from instruction_dataset import BOOK_STYLE, split_at_marks
from train_loop import IGNORE_INDEX, sum_loss

ROOT = Path(__file__).resolve().parent.parent
CHAT = {
    "system": "Be short.",
    "history": [{"instruction": "Name a colour.", "output": "Red"}],
    "instruction": "Another one.",
    "output": "Blue",
}


@pytest.fixture(params=["gpt2", "llama"])
def either(request, tokenizer):
    """A small model with its tokenizer and the style that it is prompted in."""
    if request.param == "llama":
        return SimpleNamespace(model=small_llama(), tokenizer=small_tokenizer(), style=STYLE)
    shape = {"emb_dim": 24, "n_heads": 3, "n_layers": 2, "context_length": 256}
    stream = torch.Generator().manual_seed(0)
    model = GPTModel(shape, stream).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.1 * torch.randn(weight.shape, generator=stream))
    return SimpleNamespace(model=model, tokenizer=tokenizer, style=BOOK_STYLE)


def batch_of(either, entries, loss_on="response"):
    dataset = make_dataset(entries, either.tokenizer, either.style, loss_on)
    end_id = end_token_id(either.tokenizer)
    ((inputs, targets),) = make_loader(dataset, len(entries), loss_on, pad_token_id=end_id)
    return dataset, inputs, targets


def says_end(model, end_id):
    """Change a model so that its next token is always the end."""
    with torch.no_grad():
        for weight in model.parameters():
            weight.zero_()
        model.tok_emb.weight[:, 0] = 1
        model.tok_emb.weight[end_id, 0] = 9
        model.final_norm.weight[0] = 1
        if hasattr(model, "pos_emb"):
            model.final_norm.bias[0] = 1


# --- data -----------------------------------------------------------------------------------------
@pytest.mark.parametrize("loss_on", ["all", "response"])
def test_rows_end_and_are_padded_with_the_model_s_own_token(either, entries, loss_on):
    end_id = end_token_id(either.tokenizer)
    _, inputs, targets = batch_of(either, entries, loss_on)
    for i, entry in enumerate(entries):
        prompt = encode_chat_prompt(entry, either.tokenizer, either.style)
        ids = prompt + either.tokenizer.encode_ordinary(entry["output"])
        n = len(ids)
        assert inputs[i].tolist() == ids + [end_id] * (inputs.shape[1] - n)
        masked = len(prompt) - 1 if loss_on == "response" else 0
        counted = [IGNORE_INDEX] * masked + [*ids[1:], end_id][masked:]
        assert targets[i].tolist() == counted + [IGNORE_INDEX] * (inputs.shape[1] - n)


def test_a_conversation_ends_each_answer_with_that_token(either):
    end_id = end_token_id(either.tokenizer)
    dataset, _, targets = batch_of(either, [CHAT])
    first, second = encode_turns(CHAT, either.tokenizer, either.style)
    assert dataset[0][1] == [*first.prompt, *first.answer, end_id, *second.prompt, *second.answer]
    counted = [target for target in targets[0].tolist() if target != IGNORE_INDEX]
    assert counted == [*first.answer, end_id, *second.answer, end_id]


def test_the_prompt_of_training_is_the_prompt_of_an_answer(either, entries):
    for entry in [*entries, CHAT]:
        dataset = make_dataset([entry], either.tokenizer, either.style, "all")
        prompt = encode_chat_prompt(entry, either.tokenizer, either.style)
        assert dataset[0][: len(prompt)] == prompt


def test_a_mark_that_a_user_types_is_ordinary_text(either):
    marks = either.tokenizer.special_tokens_set
    typed = {"instruction": " ".join(sorted(marks)), "input": "", "output": ""}
    plain = {"instruction": "a", "input": "", "output": ""}
    special = {either.tokenizer.encode_single_token(mark) for mark in marks}

    def count_special(entry):
        ids = encode_chat_prompt(entry, either.tokenizer, either.style)
        return sum(token_id in special for token_id in ids)

    assert count_special(typed) == count_special(plain)
    assert either.tokenizer.decode(
        encode_chat_prompt(typed, either.tokenizer, either.style)
    ) == either.style.prompt(typed)


def test_of_marks_that_begin_alike_the_longest_is_found():
    marks = frozenset({"<|im", "<|im_start|>", "<|im_st"})
    assert split_at_marks("<|im_start|>user<|im", marks) == ("<|im_start|>", "user", "<|im")


def test_what_the_vocabulary_lacks_moves_no_role():
    """A byte without a token is left out of the text, so it must be left out of the count, too."""
    entry = {"instruction": f"x{MISSING * 3} hi", "input": "", "output": "a"}
    clean = {**entry, "instruction": "x hi"}
    tokenizer = small_tokenizer()
    assert token_roles(entry, tokenizer, STYLE) == token_roles(clean, tokenizer, STYLE)


def test_the_grid_names_the_end_and_the_padding(either, entries):
    grid = batch_grid(entries, either.tokenizer, either.style)
    for cells in grid.rows:
        counted = [cell for cell in cells if cell.counted]
        assert {cell.target_role for cell in counted[:-1]} == {"answer"}
        assert (counted[-1].target_role, counted[-1].target_text) == ("end", END_LABEL)
        assert all(c.text == END_LABEL for c in cells if c.role == "padding")


# --- loss and generation --------------------------------------------------------------------------
def test_a_shared_beginning_changes_no_loss(either, entries):
    _, inputs, targets = batch_of(either, entries * 3)
    expected, n = sum_loss(inputs, targets, either.model, "cpu")
    loss, n_shared = sum_loss_with_shared_beginning(inputs, targets, either.model, "cpu")
    assert n == n_shared
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=0)


def test_together_alone_cached_or_with_guesses_an_answer_is_the_same(either, entries):
    prompts = [encode_chat_prompt(e, either.tokenizer, either.style) for e in [*entries, CHAT]]
    options = {"end_id": end_token_id(either.tokenizer)}
    together = generate(either.model, prompts, 12, **options)
    assert together == generate(either.model, prompts, 12, use_cache=False, **options)
    for prompt, ids in zip(prompts, together, strict=True):
        assert generate(either.model, [prompt], 12, **options) == [ids]
        assert continue_with_lookup(either.model, prompt, 12, **options).token_ids == ids


def test_an_answer_stops_at_the_model_s_own_end(either, entries):
    says_end(either.model, end_token_id(either.tokenizer))
    for answer in respond(either.model, either.tokenizer, entries, either.style, 5):
        assert (answer.text, answer.stopped) == ("", "end")


@pytest.mark.parametrize("sampling", [Sampling(), Sampling(1.3, top_p=0.9)])
def test_the_pieces_of_an_answer_are_the_answer(either, entries, sampling):
    pieces = []

    def options():
        return {"sampling": sampling, "generator": torch.Generator().manual_seed(3)}

    streamed = respond_streaming(
        either.model,
        either.tokenizer,
        entries[0],
        either.style,
        20,
        pieces.append,
        **options(),
    )
    (answer,) = respond(either.model, either.tokenizer, entries[:1], either.style, 20, **options())
    assert streamed == answer
    assert "".join(pieces) == answer.text and len(pieces) > 1


# --- a run of each kind ---------------------------------------------------------------------------
@pytest.fixture(scope="module")
def start(tmp_path_factory):
    """A small Llama in a folder of transformers."""
    return save_small_llama(tmp_path_factory.mktemp("start") / "llama")


SHORT = ["--max-steps", "6", "--batch-size", "8", "--eval-freq", "3", "--seed", "1"]
SHORT += ["--dtype", "float32"]


@pytest.fixture(scope="module")
def llama_run(start, few_answers, tmp_path_factory):
    folder = tmp_path_factory.mktemp("llama") / "run"
    arguments = ["--model", str(start), "--data", str(few_answers), "--out", str(folder)]
    assert main(["finetune", *arguments, *SHORT]) == 0
    return folder


def test_a_run_keeps_its_tokenizer_and_style(llama_run, start):
    run = load_run(llama_run)
    assert run.tokenizer.name == small_tokenizer().name == run.config["facts"]["tokenizer"]
    assert run.style == STYLE == load_trained_model(str(start)).style
    text = "Say 12 <|im_end|> 好."
    assert run.tokenizer.encode_ordinary(text) == small_tokenizer().encode_ordinary(text)


@pytest.mark.parametrize("method", ["lora", "prefix"])
def test_an_adapter_of_a_llama_comes_back(method, start, few_answers, tmp_path):
    folder = tmp_path / "run"
    arguments = ["--model", str(start), "--data", str(few_answers), "--out", str(folder)]
    assert main(["finetune", *arguments, *SHORT, "--method", method]) == 0
    run = load_run(folder)
    held_out = read_json(folder / "responses.json")
    answers = respond(run.model, run.tokenizer, held_out, run.style)
    assert [answer.text for answer in answers] == [row["model_response"] for row in held_out]


def test_an_interrupted_run_of_a_llama_ends_with_the_same_bits(
    start, few_answers, llama_run, tmp_path, run_command
):
    folder = tmp_path / "run"
    arguments = ["--model", start, "--data", few_answers, "--out", folder, *SHORT]
    stop = (
        "import os, signal, sys\n"
        "from ch07.commands.cli import main\n"
        "import ch07.commands.finetune as command\n"
        "save = command.run_folder.save_metrics\n"
        "def stop(folder, history):\n"
        "    save(folder, history)\n"
        "    if history[-1]['step'] == 3:\n"
        "        os.kill(os.getpid(), signal.SIGINT)\n"
        "command.run_folder.save_metrics = stop\n"
        "sys.exit(main(['finetune', *sys.argv[1:]]))\n"
    )
    assert run_command("-c", stop, *arguments).returncode == 130
    assert main(["finetune", "--resume", "--out", str(folder)]) == 0
    name = "model.safetensors"
    assert (folder / name).read_bytes() == (llama_run / name).read_bytes()


def test_every_command_takes_such_a_run(llama_run, number_data, tmp_path, capsys):
    folder = str(llama_run)
    for arguments in (
        ["respond", folder, "Write 7 as a word."],
        ["evaluate", folder],
        ["evaluate", folder, "--losses"],
        ["grid", str(number_data), "--run", folder],
        ["export", folder, str(tmp_path / "exported")],
        ["finetune", "--model", folder, "--data", str(number_data), "--max-steps", "1",
         "--out", str(tmp_path / "next")],
    ):  # fmt: skip
        assert main(arguments) == 0, arguments
    capsys.readouterr()
    assert main(["respond", str(tmp_path / "exported"), "Write 7 as a word."]) == 0
    exported = capsys.readouterr().out
    assert main(["respond", folder, "Write 7 as a word."]) == 0
    assert capsys.readouterr().out == exported


def test_a_chat_model_learns_preferences_and_stays_one(start, tmp_path):
    folder = tmp_path / "run"
    arguments = ["--max-steps", "1", "--batch-size", "2", "--out", str(folder)]
    assert main(["prefer", str(start), *arguments]) == 0
    run = load_run(folder)
    assert run.conversations == {"turns": None, "system": True}
    assert run.tokenizer.name == small_tokenizer().name
    assert main(["export", str(folder), str(tmp_path / "exported")]) == 0
    card = (tmp_path / "exported" / "README.md").read_text(encoding="utf-8")
    assert "conversations of several turns, some with a system message" in card
    assert "A Llama with" in card and "tags: [llama" in card


def test_several_processes_learn_what_one_does(start, few_answers, llama_run, tmp_path):
    """Also with every weight spread over them."""
    import subprocess
    import sys

    for more in ([], ["--shard"]):
        folder = tmp_path / f"run{len(more)}"
        command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
        arguments = ["--model", start, "--data", few_answers, "--out", folder, *SHORT, *more]
        command += ["-m", "ch07", "finetune", *map(str, arguments)]
        subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
        ours = load_run(folder).model.state_dict()
        for name, weight in load_run(llama_run).model.state_dict().items():
            torch.testing.assert_close(ours[name], weight, rtol=1e-3, atol=1e-5)


def log_probabilities(model, prompts, order, batch_size, monkeypatch):
    """{prompt: [(id, log-probability) of each new token]}, answered in batches, in some order."""
    rows = []

    def choose_tokens(logits, *given):
        rows.extend(logits.float().log_softmax(-1))
        return logits.argmax(-1)

    monkeypatch.setattr("ch07.generation.decoding.choose_tokens", choose_tokens)
    found = {i: [] for i in order}
    for start in range(0, len(order), batch_size):
        batch = order[start : start + batch_size]

        def note(row, token_id, batch=batch):
            found[batch[row]].append((token_id, rows.pop(0)[token_id].item()))

        continue_prompts(model, [prompts[i] for i in batch], 8, end_id=-1, on_token=note)
    return found


def test_an_answer_does_not_depend_on_its_batch_mates(either, monkeypatch):
    """Ids are the same; log-probabilities differ by the order in which kernels add, at most 1e-5.

    A matrix product of one row and of 64 is computed by different kernels, so not every last bit
    is the same.
    """
    stream = random.Random(0)
    vocabulary = either.model.config.vocab_size
    prompts = [
        [stream.randrange(vocabulary) for _ in range(stream.randint(1, 30))] for _ in range(64)
    ]
    order = list(range(64))
    alone = log_probabilities(either.model, prompts, order, 1, monkeypatch)
    for batch_size in (7, 64):
        for _ in range(2):
            found = log_probabilities(either.model, prompts, order, batch_size, monkeypatch)
            for i in order:
                assert [token for token, _ in found[i]] == [token for token, _ in alone[i]]
                for (_, one), (_, other) in zip(found[i], alone[i], strict=True):
                    assert one == pytest.approx(other, abs=1e-5)
            stream.shuffle(order)


def test_a_chat_model_as_a_backend_reads_its_marks_and_a_system_message(start):
    complete = complete_with_model(str(start))
    answer = complete_with_model(str(start), raw=False)
    options = {"max_new_tokens": 8}
    prompt = STYLE.prompt({"instruction": "Say 1.", "input": ""})
    assert complete(prompt, **options) == answer("Say 1.", **options)
    system = "<|im_start|>system\nBe.<|im_end|>\n<|im_start|>user\nSay 1.<|im_end|>\n"
    raw = complete(system + "<|im_start|>assistant\n", **options)
    assert raw == answer("Say 1.", system="Be.", **options)


def test_a_chat_model_hears_the_critic_in_its_system_message(start, tmp_path, monkeypatch):
    asked = []

    def continue_prompt(model, prompt, *given, **how):
        asked.append(prompt)
        return Continuation(1, [5], "end")

    monkeypatch.setattr("ch07.generation.backends.continue_prompt", continue_prompt)
    rows = tmp_path / "rows.json"
    rows.write_text('[{"instruction": "Say 1.", "output": "2"}]', encoding="utf-8")
    command = ["reflect", str(rows), str(tmp_path / "new.jsonl"), "--backend", str(start)]
    assert main(command) == 0
    text = load_trained_model(str(start)).tokenizer.decode(asked[0])
    assert text.startswith(f"<|im_start|>system\n{CRITIC}<|im_end|>\n<|im_start|>user\n")


def test_a_token_store_of_gpt2_is_refused(start, number_data, tmp_path, capsys):
    store = tmp_path / "store"
    assert main(["tokenize", str(number_data), str(store)]) == 0
    assert main(["finetune", "--model", str(start), "--data", str(store)]) == 2
    assert "holds ids of the tokenizer gpt2" in capsys.readouterr().err


# --- what doesn't fit -----------------------------------------------------------------------------
def test_a_run_whose_tokenizer_was_lost_or_exchanged_is_refused(llama_run, tmp_path, capsys):
    folder = shutil.copytree(llama_run, tmp_path / "run")
    (folder / "tokenizer.json").unlink()
    assert main(["respond", str(folder), "Say 1."]) == 1
    assert "tokenizer.json is missing" in capsys.readouterr().err
    vocabulary = replace(small_vocabulary(), end="<|endoftext|>")
    write_vocabulary(folder, vocabulary, 256)
    for command in (["respond", str(folder), "Say 1."], ["finetune", "--model", str(folder)]):
        assert main(command) == 1
        assert "but the run was trained with smollm-" in capsys.readouterr().err
    changed = (llama_run / "tokenizer.json").read_text(encoding="utf-8").replace("Digits", "Digit")
    (folder / "tokenizer.json").write_text(changed, encoding="utf-8")
    assert main(["respond", str(folder), "Say 1."]) == 1
    assert "in a way that is not known here" in capsys.readouterr().err
