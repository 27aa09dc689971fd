"""Weights from any source: the same numbers, or a list of everything that doesn't fit."""

import json
import os
import pickle
import re
import shutil
import sys

import pytest
import torch
import transformers
from published import (
    SMALL,
    header_of,
    hf_config,
    published_shapes,
    random_tensors,
    write_hollow,
    write_published,
)
from safetensors.torch import load_file, save_file

from ch07.models import build_model
from ch07.models.empty_model import empty_model
from ch07.models.hub_download import PUBLISHED
from ch07.models.parameter_names import from_published, plain_name, renames, to_published
from ch07.models.pretrained import find_weights, load_gpt2
from ch07.models.weight_reader import WeightsError
from gpt_model import MODEL_SIZES, GPTConfig, GPTModel

CONFIG = GPTConfig(**SMALL)
IDS = torch.arange(40).view(2, 20)


@pytest.fixture
def peer():
    """A GPT2LMHeadModel with random weights; what it computes is what must come out."""
    config = transformers.GPT2Config(
        vocab_size=1011, n_positions=48, n_embd=32, n_head=4, n_layer=2,
        bos_token_id=1010, eos_token_id=1010,
    )  # fmt: skip
    torch.manual_seed(0)
    model = transformers.GPT2LMHeadModel(config).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.1 * torch.randn_like(weight))
    return model


def same(ours, peer):
    torch.testing.assert_close(ours(IDS), peer(IDS).logits, atol=1e-5, rtol=0)
    assert not ours.training


def write(folder, tensors, config=None, name="model.safetensors"):
    folder.mkdir(exist_ok=True)
    save_file(tensors, folder / name, {"format": "pt"})
    if config is not None:
        (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder


# --- sources ------------------------------------------------------------------------------------


@pytest.mark.parametrize("part", ["whole", "body"])
@pytest.mark.parametrize("shard", ["50GB", "40KB"])
def test_a_folder_of_save_pretrained(tmp_path, peer, part, shard):
    """With and without "transformer." before the names, in one file and in shards."""
    (peer if part == "whole" else peer.transformer).save_pretrained(tmp_path, max_shard_size=shard)
    assert len(list(tmp_path.glob("*.safetensors"))) > (shard == "40KB")
    same(load_gpt2(tmp_path), peer)
    assert load_gpt2(tmp_path).config.tied_head


def test_an_untied_head(tmp_path, peer):
    peer.config.tie_word_embeddings = False
    peer.lm_head.weight = torch.nn.Parameter(torch.randn(1011, 32))
    peer.save_pretrained(tmp_path)
    ours = load_gpt2(tmp_path)
    assert not ours.config.tied_head and ours.out_head.weight is not ours.tok_emb.weight
    same(ours, peer)


def test_a_head_that_equals_the_embedding_is_tied_as_in_transformers(tmp_path, peer):
    tensors = {name: t.clone() for name, t in peer.state_dict().items()}
    assert torch.equal(tensors["lm_head.weight"], tensors["transformer.wte.weight"])
    ours = load_gpt2(write(tmp_path, tensors, hf_config(CONFIG)))
    assert ours.config.tied_head and ours.out_head.weight is ours.tok_emb.weight
    tensors["lm_head.weight"] += 1
    assert not load_gpt2(write(tmp_path, tensors, hf_config(CONFIG))).config.tied_head


def test_the_published_layout(tmp_path, peer):
    """No prefix, masks, a header that isn't aligned: config.json beside it says the heads."""
    tensors = write_published(tmp_path / "model.safetensors", CONFIG)
    assert len(header_of(published_shapes(CONFIG))[0]) % 4, "numbers don't begin where floats do"
    (tmp_path / "config.json").write_text(json.dumps(hf_config(CONFIG)), encoding="utf-8")
    body = {name: t for name, t in tensors.items() if not name.endswith(".attn.bias")}
    peer.transformer.load_state_dict(body)
    for path in (tmp_path, tmp_path / "model.safetensors"):
        same(load_gpt2(path), peer)


@pytest.mark.parametrize(
    ("name", "apart"),
    [("gpt2-medium", 0), ("gpt2-large", 0), ("gpt2-small", -56), ("gpt2-xl", 2)],
)
def test_the_layout_has_the_published_number_of_bytes(name, apart):
    """13 tensors a block, masks included, no head, no padding: to the byte for two sizes.

    In the other two the tensors lie in another order, which changes how many digits the header's
    offsets have, and nothing else: for gpt2-small the published header is known to have 14,283
    bytes, and its data 548,090,880.
    """
    header, data = header_of(published_shapes(GPTConfig(**MODEL_SIZES[name])))
    assert len(header) + data == PUBLISHED[name].n_bytes - apart
    if name == "gpt2-small":
        assert (data, len(header) + apart) == (548_090_880, 8 + 14_283)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_number_formats_become_float32(tmp_path, peer, dtype):
    state = {name: t.to(dtype) for name, t in peer.transformer.state_dict().items()}
    ours = load_gpt2(write(tmp_path, state, hf_config(CONFIG)))
    assert {p.dtype for p in ours.parameters()} == {torch.float32}
    assert torch.equal(ours.tok_emb.weight, state["wte.weight"].float())
    half = load_gpt2(tmp_path, dtype=torch.bfloat16)
    assert {p.dtype for p in half.parameters()} == {torch.bfloat16}


def test_a_run_folder(run):
    from ch07.models.saved_run import load_run

    expected = load_run(run).model.state_dict()
    for path in (run, run / "model.safetensors"):
        found = load_gpt2(path).state_dict()
        assert all(torch.equal(found[name], expected[name]) for name in expected)


def book_state(model):
    """A state dict with the names of the book's own classes, its masks and its untied head."""
    state = {"trf_blocks.0.att.mask": torch.ones(4, 4), "trf_blocks.1.att.mask": torch.ones(4, 4)}
    for name, tensor in model.state_dict().items():
        norm = re.sub(r"(norm\d?)\.weight", r"\1.scale", name)
        state[re.sub(r"(norm\d?)\.bias", r"\1.shift", norm)] = tensor.clone()
    return state


@pytest.mark.parametrize("form", ["state", "checkpoint", "compiled"])
@pytest.mark.parametrize("tied", [True, False])
def test_a_pth_file_of_the_books_readers(tmp_path, form, tied):
    size = {**MODEL_SIZES["gpt2-tiny"], "vocab_size": 211, "context_length": 48}
    model = GPTModel({**size, "tied_head": tied})
    state = book_state(model)
    if form == "checkpoint":
        state = {"model_state_dict": state, "optimizer_state_dict": {"lr": 0.1}}
    if form == "compiled":
        state = {f"_orig_mod.{name}": tensor for name, tensor in state.items()}
    torch.save(state, tmp_path / "gpt2.pth")
    ours = load_gpt2(tmp_path / "gpt2.pth")
    assert ours.config == model.config
    assert torch.equal(ours(IDS), model.eval()(IDS))


def test_a_book_model_without_biases(tmp_path):
    size = {**MODEL_SIZES["gpt2-tiny"], "vocab_size": 211, "qkv_bias": False}
    model = GPTModel(size).eval()
    torch.save(book_state(model), tmp_path / "gpt.pth")
    ours = load_gpt2(tmp_path / "gpt.pth")
    assert ours.config == model.config
    published = to_published(ours.state_dict(), ours.config)  # GPT-2's names want biases
    again = GPTModel(GPTConfig(**{**size, "qkv_bias": True})).eval()
    again.load_state_dict(from_published(published, again.config))
    assert torch.equal(again(IDS), model(IDS))


def test_a_run_folder_that_was_altered(run, tmp_path):
    from ch07.utils.errors import RunFolderError

    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    tensors = load_file(copy / "model.safetensors")
    tensors["pos_emb.weight"][0, 0] += 1
    save_file(tensors, copy / "model.safetensors")
    with pytest.raises(RunFolderError, match="not what the run wrote"):
        load_gpt2(copy)


def test_what_was_loaded_can_be_trained_and_belongs_to_the_model_alone(tmp_path, peer):
    """Nothing stays mapped to the file, and no two weights share memory."""
    peer.save_pretrained(tmp_path)
    ours = load_gpt2(tmp_path)
    before = (tmp_path / "model.safetensors").read_bytes()
    ours.train()(IDS).sum().backward()
    with torch.no_grad():
        for weight in ours.parameters():
            weight.sub_(weight.grad)
    assert (tmp_path / "model.safetensors").read_bytes() == before
    places = [p.untyped_storage().data_ptr() for p in ours.parameters()]
    assert len(places) == len(set(places))
    sizes = [(p.untyped_storage().nbytes(), p.numel() * 4) for p in ours.parameters()]
    assert all(a == b for a, b in sizes)


# --- names --------------------------------------------------------------------------------------


def test_there_and_back_for_every_tensor():
    for tied in (True, False):
        config = GPTConfig(**{**SMALL, "tied_head": tied})
        model = GPTModel(config)
        published = to_published(model.state_dict(), config)
        back = from_published(published, config)
        state = model.state_dict()
        assert back.keys() == state.keys()
        assert all(torch.equal(back[name], state[name]) for name in state)
        assert ("lm_head.weight" in published) != tied


def test_the_table_names_each_tensor_once():
    rows = renames(CONFIG)
    ours = [name for row in rows for name in row.ours]
    assert len(ours) == len(set(ours)) == len(dict(GPTModel(CONFIG).named_parameters()))
    assert {row.published for row in rows} == set(published_shapes(CONFIG, masks=False))


@pytest.mark.parametrize("tied", [True, False])
def test_the_shape_of_joined_tensors_is_known_without_joining_them(tied):
    config = GPTConfig(**{**SMALL, "tied_head": tied})
    state = GPTModel(config).state_dict()
    for row in renames(config):
        parts = [state[name] for name in row.ours]
        assert row.joined_shape([p.shape for p in parts]) == row.join(parts).shape


# --- threads, and a model without memory --------------------------------------------------------


@pytest.fixture
def four_threads(monkeypatch):
    """Four threads read, and every tensor is large enough to be read by itself."""
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    monkeypatch.setattr(build_model, "LARGE", 1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("form", ["published", "shards", "zip", "old"])
def test_several_threads_read_the_same_model(tmp_path, peer, form, four_threads, monkeypatch):
    path = tmp_path
    if form == "published":
        write(path, random_tensors(published_shapes(CONFIG)), hf_config(CONFIG))
    elif form == "shards":
        peer.save_pretrained(path, max_shard_size="40KB")
    else:
        path = tmp_path / "gpt.pth"
        state = GPTModel({**MODEL_SIZES["gpt2-tiny"], "vocab_size": 211}).state_dict()
        torch.save(state, path, _use_new_zipfile_serialization=form == "zip")
    in_threads = load_gpt2(path).state_dict()
    monkeypatch.setattr(build_model, "LARGE", 2**40)
    torch.set_num_threads(1)
    one_by_one = load_gpt2(path).state_dict()
    assert in_threads.keys() == one_by_one.keys()
    assert all(torch.equal(in_threads[name], one_by_one[name]) for name in one_by_one)
    assert all(tensor.is_contiguous() for tensor in in_threads.values())


def test_what_one_of_several_threads_finds_is_reported(tmp_path, four_threads):
    tensors = random_tensors(published_shapes(CONFIG))
    tensors["h.0.attn.c_attn.weight"][3, 70] = torch.inf
    folder = write(tmp_path, tensors, hf_config(CONFIG))
    refused(folder, "h.0.attn.c_attn.weight holds NaN or infinity")


def test_tensors_are_read_in_the_order_asked_for(tmp_path, peer):
    peer.save_pretrained(tmp_path, max_shard_size="40KB")
    weights = find_weights(tmp_path).weights
    names = sorted(weights.shapes, key=lambda name: name[::-1])  # every shard more than once
    state = {plain_name(name): tensor for name, tensor in peer.state_dict().items()}
    for name, tensor in zip(names, weights.read(names), strict=True):
        assert torch.equal(tensor, state[name])


@pytest.mark.parametrize("tied", [True, False])
def test_an_empty_model_is_the_model_without_numbers(tied):
    config = GPTConfig(**{**SMALL, "tied_head": tied})
    empty, model = empty_model(config), GPTModel(config)
    assert empty.config == config
    assert (empty.out_head.weight is empty.tok_emb.weight) == tied
    shapes = {name: (p.shape, p.dtype, p.requires_grad) for name, p in empty.named_parameters()}
    assert shapes == {
        name: (p.shape, p.dtype, p.requires_grad) for name, p in model.named_parameters()
    }
    assert all(p.is_meta for p in empty.parameters())
    weights = GPTModel(config, torch.Generator().manual_seed(0))  # nothing stays switched off
    assert weights.pos_emb.weight.std() > 0


def test_loading_imports_no_compiler(tmp_path, run_command):
    """PyTorch's meta device imports its compiler for some operations, which takes seconds."""
    write(tmp_path, random_tensors(published_shapes(CONFIG)), hf_config(CONFIG))
    code = (
        "import sys; from ch07.models.pretrained import load_gpt2; load_gpt2(sys.argv[1]); "
        "sys.exit('torch._dynamo' in sys.modules)"
    )
    done = run_command("-c", code, tmp_path)
    assert done.returncode == 0, done.stderr


# --- what doesn't fit ---------------------------------------------------------------------------


def refused(path, *parts):
    with pytest.raises(WeightsError) as caught:
        load_gpt2(path)
    for part in parts:
        assert part in str(caught.value), str(caught.value)
    return str(caught.value)


def test_every_tensor_that_does_not_fit_is_listed(tmp_path):
    tensors = random_tensors(published_shapes(CONFIG))
    del tensors["h.1.ln_2.bias"], tensors["ln_f.weight"]
    tensors["h.0.mlp.c_fc.weight"] = torch.zeros(128, 32)
    tensors["h.0.attn.rotary"] = torch.zeros(3)
    message = refused(
        write(tmp_path, tensors, hf_config(CONFIG)),
        "doesn't fit: 4 tensors",
        "missing: h.1.ln_2.bias, expected (32,)",
        "missing: ln_f.weight, expected (32,)",
        "wrong shape: h.0.mlp.c_fc.weight, expected (32, 128), found (128, 32)",
        "unexpected: h.0.attn.rotary, found (3,)",
    )
    assert message.count("\n") == 4


def test_fewer_or_more_blocks_than_config_says(tmp_path):
    tensors = random_tensors(published_shapes(CONFIG))
    message = refused(write(tmp_path, tensors, hf_config(CONFIG, n_layer=3)), "missing: h.2.ln_1")
    assert message.count("missing: ") == 12
    refused(write(tmp_path, tensors, hf_config(CONFIG, n_layer=1)), "unexpected: h.1.mlp.c_fc")


def test_a_head_that_config_calls_its_own_but_is_not_there(tmp_path):
    tensors = random_tensors(published_shapes(CONFIG))
    folder = write(tmp_path, tensors, hf_config(CONFIG, tie_word_embeddings=False))
    refused(folder, "missing: lm_head.weight, expected (1011, 32)")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "opt"}, "model_type is 'opt', but must be 'gpt2'"),
        ({"activation_function": "gelu"}, "activation_function is 'gelu'"),
        ({"layer_norm_epsilon": 1e-6}, "layer_norm_epsilon is 1e-06"),
        ({"scale_attn_by_inverse_layer_idx": True}, "scale_attn_by_inverse_layer_idx is True"),
        ({"n_inner": 100}, "n_inner is 100, but must be 128"),
        ({"n_head": 5}, "n_head is 5, but must divide the width of 32"),
        ({"n_head": "4"}, "n_head is '4'"),
        ({"n_layer": None}, "n_layer is None"),
        ({"n_layer": 10**9}, "n_layer is 1000000000, but must be a number from 1 to 1000"),
        ({"n_layer": 0}, "n_layer is 0"),
        ({"n_head": True}, "n_head is True"),
        ({"n_positions": 1024}, "n_positions is 1024, but the weights have 48"),
        ({"vocab_size": 99}, "vocab_size is 99, but the weights have 1011"),
        ({"tie_word_embeddings": "x"}, "tie_word_embeddings is 'x'"),
    ],
)
def test_a_config_that_makes_another_model(tmp_path, changes, message):
    tensors = random_tensors(published_shapes(CONFIG))
    refused(write(tmp_path, tensors, hf_config(CONFIG, **changes)), message)


def test_numbers_of_heads_that_nobody_tells(tmp_path):
    refused(write(tmp_path, random_tensors(published_shapes(CONFIG))), "put a config.json with n_h")


def test_other_models_and_no_models(tmp_path):
    refused(write(tmp_path / "bert", {"bert.embeddings.weight": torch.ones(2, 2)}),
            "doesn't hold GPT-2's weights", "bert.embeddings.weight")  # fmt: skip
    refused(write(tmp_path / "none", {}), "doesn't hold GPT-2's weights", "nothing")
    (tmp_path / "empty").mkdir()
    refused(tmp_path / "empty", "holds no weights: none of model.safetensors")
    refused("gpt3", "there is no model 'gpt3': choose one of gpt2-small, gpt2-medium")
    refused("gpt2", "use gpt2-small")
    refused("openai-community/gpt2-xl", "use gpt2-xl")
    refused("gpt2-tiny", "gpt2-tiny has no weights before you train it")


def test_heads_of_a_book_model_stand_in_a_config_beside_it(tmp_path):
    model = GPTModel(SMALL).eval()
    torch.save(book_state(model), tmp_path / "gpt.pth")
    refused(tmp_path / "gpt.pth", "put a config.json with n_head and n_layer beside them")
    (tmp_path / "config.json").write_text('{"n_head": 4, "n_layer": 2}', encoding="utf-8")
    assert torch.equal(load_gpt2(tmp_path / "gpt.pth")(IDS), model(IDS))


def test_another_file_in_a_run_folder_is_that_file(run, tmp_path):
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    size = {**MODEL_SIZES["gpt2-tiny"], "vocab_size": 211}
    torch.save(GPTModel(size).state_dict(), copy / "mine.pth")
    assert load_gpt2(copy / "mine.pth").config.vocab_size == 211
    refused(copy / "loss.png", "loss.png")


@pytest.mark.parametrize("form", ["zip", "old"])
def test_a_pth_file_is_read_twice_if_asked_twice(tmp_path, form):
    model = GPTModel({**MODEL_SIZES["gpt2-tiny"], "vocab_size": 211})
    new = form == "zip"
    torch.save(model.state_dict(), tmp_path / "a.pth", _use_new_zipfile_serialization=new)
    source = find_weights(tmp_path / "a.pth")
    first, second = source.load().state_dict(), source.load().state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_not_a_number(tmp_path):
    tensors = random_tensors(published_shapes(CONFIG))
    tensors["h.1.ln_1.bias"][3] = torch.nan
    refused(write(tmp_path, tensors, hf_config(CONFIG)), "h.1.ln_1.bias holds NaN or infinity")


@pytest.mark.parametrize("dtype", [torch.int8, torch.bool, torch.int64, torch.complex64])
def test_numbers_that_are_no_weights(tmp_path, dtype):
    tensors = random_tensors(published_shapes(CONFIG))
    tensors["h.0.mlp.c_fc.weight"] = tensors["h.0.mlp.c_fc.weight"].to(dtype)
    refused(write(tmp_path, tensors, hf_config(CONFIG)), "h.0.mlp.c_fc.weight holds", str(dtype))


def test_what_float16_cannot_hold(tmp_path):
    tensors = random_tensors(published_shapes(CONFIG))
    tensors["h.0.ln_1.bias"][:] = 3e38  # finite, though their sum isn't
    folder = write(tmp_path, tensors, hf_config(CONFIG))
    load_gpt2(folder)
    with pytest.raises(WeightsError, match=r"ln_1.bias holds NaN or infinity, as torch.float16"):
        load_gpt2(folder, dtype=torch.float16)


def test_one_flipped_bit_in_a_pth_file(tmp_path):
    path = tmp_path / "gpt.pth"
    torch.save(GPTModel({**MODEL_SIZES["gpt2-tiny"], "vocab_size": 211}).state_dict(), path)
    load_gpt2(path)
    whole = bytearray(path.read_bytes())
    whole[len(whole) // 2] ^= 1
    path.write_bytes(whole)
    refused(path, "is damaged (in ", "get it or save it again")


def test_sparse_and_quantised_tensors(tmp_path):
    state = GPTModel({**MODEL_SIZES["gpt2-tiny"], "vocab_size": 211}).state_dict()
    state["pos_emb.weight"] = state["pos_emb.weight"].to_sparse()
    torch.save(state, tmp_path / "gpt.pth")
    refused(tmp_path / "gpt.pth", "other special tensors: pos_emb.weight")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
def test_pipes_and_devices_are_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "model.safetensors")
    refused(tmp_path / "model.safetensors", "is neither a file nor a folder")
    refused("/dev/zero", "is neither a file nor a folder")


def test_a_cut_shard_is_the_file_that_is_named(tmp_path, peer):
    peer.save_pretrained(tmp_path, max_shard_size="40KB")
    shard = sorted(tmp_path.glob("*.safetensors"))[0]
    shard.write_bytes(shard.read_bytes()[:-9])
    refused(tmp_path, f"{shard.name} is not a valid safetensors file")


def test_a_deep_config(tmp_path):
    write(tmp_path, random_tensors(published_shapes(CONFIG)))
    (tmp_path / "config.json").write_text("[" * 100_000, encoding="utf-8")
    refused(tmp_path, "config.json is not valid JSON")


@pytest.mark.parametrize("style", [["book"], {}, 5, None])
def test_a_prompt_style_that_is_none_of_ours(tmp_path, style):
    tensors = random_tensors(published_shapes(CONFIG))
    folder = write(tmp_path, tensors, hf_config(CONFIG, prompt_style=style))
    assert find_weights(folder).style is None


def test_one_tensor_under_two_names(tmp_path):
    tensors = random_tensors(published_shapes(CONFIG))
    tensors["transformer.wpe.weight"] = tensors["wpe.weight"].clone()
    refused(write(tmp_path, tensors), "wpe.weight twice")


@pytest.mark.parametrize("keep", [0, 5, 300, 30_000])
def test_half_a_safetensors_file(tmp_path, keep):
    path = tmp_path / "model.safetensors"
    write_published(path, CONFIG)
    path.write_bytes(path.read_bytes()[:keep])
    refused(path, "is not a valid safetensors file", "get it again")


def test_a_header_that_lies(tmp_path):
    path = tmp_path / "model.safetensors"
    write_published(path, CONFIG)
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b"[1011,32]", b"[9011,32]", 1))
    refused(path, "is not a valid safetensors file")
    path.write_bytes(b"\xff" * 8 + whole[8:])
    refused(path, "is not a valid safetensors file")


def test_shards(tmp_path, peer):
    peer.save_pretrained(tmp_path, max_shard_size="40KB")
    index = tmp_path / "model.safetensors.index.json"
    whole = json.loads(index.read_text("utf-8"))
    for damage, message in (
        ({"weight_map": {**whole["weight_map"], "x": "../x.safetensors"}}, "outside its folder"),
        ({"weight_map": {**whole["weight_map"], "x": "gone.safetensors"}}, "gone.safetensors miss"),
        ({"weight_map": [1]}, "is not an index of shards"),
        ({}, "is not an index of shards"),
    ):
        index.write_text(json.dumps(damage), encoding="utf-8")
        refused(tmp_path, message)
    shard = next(iter(whole["weight_map"].values()))
    places = {**whole["weight_map"], "transformer.extra": shard}
    index.write_text(json.dumps({"weight_map": places}), encoding="utf-8")
    refused(tmp_path, f"{shard} lacks transformer.extra")


class Evil:
    def __reduce__(self):
        return print, ("this must never be printed",)


@pytest.mark.parametrize("what", ["pickle", "object", "text", "half", "numbers", "list", "dot"])
def test_a_pth_file_that_is_none(tmp_path, what, capsys):
    path = tmp_path / "gpt2.pth"
    match what:
        case "pickle":
            path.write_bytes(pickle.dumps(Evil()))
        case "object":
            torch.save({"model": Evil()}, path)
        case "text":
            path.write_text("weights", encoding="utf-8")
        case "half":
            torch.save(GPTModel(SMALL).state_dict(), path)
            path.write_bytes(path.read_bytes()[:5000])
        case "dot":
            path.write_bytes(b".")
        case "numbers":
            torch.save({"tok_emb.weight": 3}, path)
        case "list":
            torch.save([torch.ones(2)], path)
    message = refused(path)
    assert "gpt2.pth" in message and "\n" not in message
    assert "never be printed" not in capsys.readouterr().out


# --- memory -------------------------------------------------------------------------------------

PEAK = """
import re, sys
from ch07.models.pretrained import load_gpt2
def memory(what):
    return int(re.search(what + r":\\s+(\\d+) kB", open("/proc/self/status").read())[1]) * 1024
before = memory("VmRSS")
model = load_gpt2(sys.argv[1])
print((memory("VmHWM") - before) / sum(4 * p.numel() for p in model.parameters()))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_loading_takes_little_more_memory_than_the_weights(tmp_path, run_command):
    """At GPT-2's own width; `python -m benchmarks.loading` does it for all four sizes."""
    config = GPTConfig(n_layers=8)
    write_hollow(tmp_path / "model.safetensors", config)
    (tmp_path / "config.json").write_text(json.dumps(hf_config(config)), encoding="utf-8")
    done = run_command("-c", PEAK, tmp_path)
    assert done.returncode == 0, done.stderr
    assert 0.9 < float(done.stdout) < 1.3


def test_the_hash_tells_what_was_loaded(tmp_path, peer):
    peer.save_pretrained(tmp_path / "a")
    peer.save_pretrained(tmp_path / "b", max_shard_size="40KB")
    first = find_weights(tmp_path / "a").sha256()
    assert find_weights(tmp_path / "a" / "model.safetensors").sha256() == first
    sharded = find_weights(tmp_path / "b").sha256()
    tensors = load_file(tmp_path / "a" / "model.safetensors")
    tensors["transformer.ln_f.bias"] += 1
    save_file(tensors, tmp_path / "a" / "model.safetensors")
    assert len({first, sharded, find_weights(tmp_path / "a").sha256()}) == 3


def test_a_model_of_another_tokenizer_is_refused_before_training(tmp_path, number_data, capsys):
    from ch07.commands.cli import main

    folder = write(tmp_path / "m", random_tensors(published_shapes(CONFIG)), hf_config(CONFIG))
    arguments = ["--data", str(number_data), "--model", str(folder), "--out", str(tmp_path / "r")]
    assert main(["finetune", *arguments]) == 1
    error = capsys.readouterr().err
    assert "has 1,011 tokens, but its tokenizer (gpt2) has 50,257" in error
    assert not (tmp_path / "r").exists()
