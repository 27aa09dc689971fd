"""verify-weights: published facts are met by the right weights alone."""

import hashlib
import math
from dataclasses import replace

import pytest
import torch
import transformers
from published import write_published

from ch07.commands import verify_weights as module
from ch07.commands.cli import main
from ch07.commands.verify_weights import (
    PUBLISHED_RESULTS,
    PublishedContinuation,
    PublishedLoss,
    coriolanus_ids,
)
from ch07.models.hub_download import PUBLISHED
from ch07.models.pretrained import load_gpt2
from gpt_model import MODEL_SIZES, GPTConfig

NARROW = {"emb_dim": 32, "n_heads": 4, "n_layers": 2}


@pytest.fixture
def weights(tmp_path, monkeypatch):
    """A narrow stand-in for gpt2-small with the published layout, and its peer in transformers."""
    config = GPTConfig(**NARROW)
    path = tmp_path / "model.safetensors"
    tensors = write_published(path, config)
    monkeypatch.setitem(MODEL_SIZES, "gpt2-small", NARROW)
    fake = replace(PUBLISHED["gpt2-small"], sha256=hashlib.sha256(path.read_bytes()).hexdigest())
    monkeypatch.setitem(PUBLISHED, "gpt2-small", fake)
    peer = transformers.GPT2LMHeadModel(
        transformers.GPT2Config(n_embd=32, n_head=4, n_layer=2)
    ).eval()
    names = [name for name in tensors if not name.endswith(".attn.bias")]
    peer.transformer.load_state_dict({name: tensors[name] for name in names})
    (tmp_path / "config.json").write_text('{"n_head": 4, "n_layer": 2}', encoding="utf-8")
    return path, peer


def facts_of(peer, tokenizer):
    """What somebody would have published of this model, by transformers' own means."""
    ids = torch.tensor(coriolanus_ids(tokenizer))
    x, y = ids[:256].view(4, 64), ids[1:257].view(4, 64)
    with torch.inference_mode():
        loss = torch.nn.functional.cross_entropy(peer(x).logits.flatten(0, 1), y.flatten())
        before, text = (tokenizer.encode_ordinary(t) for t in ("Once upon", " a time"))
        logits = peer(torch.tensor([before + text])).logits[0].log_softmax(-1)
    own = -sum(logits[len(before) + i - 1, token].item() for i, token in enumerate(text))
    prompt = torch.tensor([tokenizer.encode_ordinary("The dog")])
    new = peer.generate(
        prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=6, do_sample=False,
        pad_token_id=50256,
    )  # fmt: skip
    continuation = new[0, prompt.shape[1] :].tolist()
    return [
        PublishedLoss("a", loss.item()),
        PublishedLoss("b", own / len(text), " a time", before="Once upon"),
        PublishedContinuation("c", "The dog", tokenizer.decode(continuation)),
    ], continuation


def test_the_right_weights(weights, tokenizer, monkeypatch, capsys):
    path, peer = weights
    facts, continuation = facts_of(peer, tokenizer)
    if tokenizer.encode_ordinary(facts[-1].continuation) != continuation:  # not what BPE would say
        facts[-1] = PublishedContinuation("c", "The dog", tokenizer.decode(continuation[:1]))
    monkeypatch.setitem(PUBLISHED_RESULTS, "gpt2-small", facts)
    assert main(["verify-weights", "gpt2-small", "--path", str(path)]) == 0
    out = capsys.readouterr().out
    assert out.count("\nequal: ") == 3 and "the published file" in out and "DIFFERENT" not in out


def test_the_wrong_weights(weights, capsys):
    path, _ = weights
    assert main(["verify-weights", "gpt2-small", "--path", str(path)]) == 1
    captured = capsys.readouterr()
    assert captured.out.count("\nDIFFERENT: ") == 4
    assert "loss" in captured.out and "published 5.2700 (llm.c, test_gpt2.c)" in captured.out
    assert "'The dog' goes on" in captured.out and "something differs" in captured.err


def test_another_file_is_told(weights, tokenizer, monkeypatch, capsys):
    path, peer = weights
    monkeypatch.setitem(PUBLISHED_RESULTS, "gpt2-small", facts_of(peer, tokenizer)[0][:1])
    monkeypatch.setitem(PUBLISHED, "gpt2-small", replace(PUBLISHED["gpt2-small"], sha256="0" * 64))
    assert main(["verify-weights", "gpt2-small", "--path", str(path)]) == 1
    assert "not the published file" in capsys.readouterr().out


def test_another_model_is_no_traceback(tmp_path, capsys):
    write_published(tmp_path / "model.safetensors", NARROW)
    (tmp_path / "config.json").write_text('{"n_head": 4, "n_layer": 2}', encoding="utf-8")
    assert main(["verify-weights", "gpt2-small", "--path", str(tmp_path)]) == 1
    assert (
        "isn't gpt2-small: it has 2 blocks of width 32 and 50,257 tokens" in capsys.readouterr().err
    )


def test_without_a_network_it_says_what_to_do(capsys, monkeypatch, tmp_path):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    assert main(["verify-weights", "gpt2-medium"]) == 1
    assert "gpt2-medium isn't in" in capsys.readouterr().err


def test_too_little_memory(weights, monkeypatch, capsys):
    monkeypatch.setattr(module, "available_memory", lambda device: 1e6)
    assert main(["verify-weights", "gpt2-small", "--path", str(weights[0])]) == 1
    assert "gpt2-small needs 0.3 GB, but 0.0 GB are free" in capsys.readouterr().err


# --- the facts themselves -----------------------------------------------------------------------


def test_the_batch_of_llm_c(tokenizer):
    """Its debug state is said to hold 135 distinct tokens; without the ends there would be 134."""
    ids = coriolanus_ids(tokenizer)
    assert len(ids) == 257 and len(set(ids[:256])) == 135
    assert ids[:4] == [50256, 5962, 22307, 25] and ids[-3:] == [198, 454, 279]


def test_the_text_of_the_harness_has_as_many_tokens_as_it_adds_up(tokenizer):
    """17 log probabilities, literally from lm-evaluation-harness, tests/test_models.py."""
    addends = [
        -4.9599953, -8.069298, -8.308624, -10.178513, -8.906924, -1.9318912, -7.745445, -7.146077,
        -5.2072, -3.5882986, -1.9957212, -8.044922, -0.20841774, -5.1096807, -0.099879116,
        -8.888423, -4.6180487,
    ]  # fmt: skip
    fact = PUBLISHED_RESULTS["gpt2-small"][1]
    assert len(tokenizer.encode_ordinary(fact.text)) == len(addends)
    assert fact.value == pytest.approx(-math.fsum(addends) / 17, abs=1e-4)


def test_continuations_have_the_published_ids(tokenizer):
    """Literal ids where the source prints ids: transformers, test_modeling_gpt2.py."""
    the_dog = [464, 3290, 373, 1043, 287, 257, 2214, 1474, 262, 16246, 286, 2688, 290, 2688, 27262]
    the_dog += [13, 198, 198, 464, 3290]
    fact = PUBLISHED_RESULTS["gpt2-small"][2]
    assert tokenizer.encode_ordinary(fact.prompt + fact.continuation) == the_dog
    assert {len(PUBLISHED_RESULTS[name]) > 0 for name in PUBLISHED} == {
        True
    } and PUBLISHED_RESULTS.keys() == PUBLISHED.keys()


def test_loading_by_name_takes_the_same_way(weights, monkeypatch):
    monkeypatch.setattr("ch07.models.pretrained.download", lambda name: weights[0])
    ids = torch.arange(20)[None]
    torch.testing.assert_close(
        load_gpt2("gpt2-small")(ids), weights[1](ids).logits, atol=1e-5, rtol=0
    )


def test_a_published_size_is_fine_tuned_resumed_and_exported(
    weights, number_data, monkeypatch, tmp_path, capsys
):
    """The whole way of a reader with a network, from the name to the model card."""
    from ch07.utils.atomic_files import read_json

    monkeypatch.setattr("ch07.models.pretrained.download", lambda name: weights[0])
    run, out = tmp_path / "run", tmp_path / "out"
    data = ["finetune", "--data", str(number_data), "--model", "gpt2-small"]
    assert main([*data, "--out", str(run), "--max-steps", "2"]) == 0
    config = read_json(run / "config.json")
    assert config["facts"]["start_sha256"] == PUBLISHED["gpt2-small"].sha256
    assert (config["settings"]["peak_lr"], config["options"]["batch_size"]) == (5e-5, 8)
    assert main(["finetune", "--resume", "--out", str(run)]) == 0
    assert main(["export", str(run), str(out)]) == 0
    card = (out / "README.md").read_text("utf-8")
    assert "base_model: openai-community/gpt2\n" in card and "random" not in card
    start = PUBLISHED["gpt2-small"].sha256
    assert f"It started from `openai-community/gpt2` (sha256 of the weights `{start}`" in card
