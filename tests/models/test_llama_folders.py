"""Folders that transformers wrote: what they mean there, or one sentence."""

import json

import pytest
import torch
from chat_model import STYLE, save_small_llama, small_llama, small_vocabulary
from safetensors.torch import load_file, save_file

from ch07.commands.cli import main
from ch07.data.prompt_styles import chatml_style
from ch07.data.tokenizer import load_tokenizer
from ch07.models.hf_export import export_hf
from ch07.models.pretrained import find_weights, load_gpt2, load_model
from ch07.models.saved_run import load_trained_model
from ch07.models.weight_reader import WeightsError
from gpt_model import MODEL_SIZES, GPTModel

IDS = torch.arange(30)[None]


def change(path, **values):
    """Change keys of a JSON file; None removes one."""
    content = json.loads(path.read_text(encoding="utf-8"))
    for key, value in values.items():
        content.pop(key, None)
        if value is not None:
            content[key] = value
    path.write_text(json.dumps(content), encoding="utf-8")


@pytest.fixture
def folder(tmp_path):
    return save_small_llama(tmp_path / "llama")


LINEAR = {"rope_type": "linear", "factor": 4.0, "rope_theta": 100.0}
REFUSED = [
    ({"rope_parameters": LINEAR}, "rope_parameters is"),
    ({"rope_parameters": {**LINEAR, "rope_type": None, "type": "linear"}}, "rope_parameters is"),
    ({"rope_scaling": {"type": "linear", "factor": 2.0}}, "rope_scaling is"),
    ({"attention_bias": True}, "attention_bias is 'True'"),
    ({"mlp_bias": True}, "mlp_bias is 'True'"),
    ({"hidden_act": "gelu"}, "hidden_act is 'gelu'"),
    ({"head_dim": 8}, "a head has '8' numbers, but must have 4"),
    ({"rms_norm_eps": 2.0}, "norm_eps is '2.0'"),
    ({"rms_norm_eps": float("nan")}, "norm_eps is 'nan'"),
    ({"num_attention_heads": 0}, "n_heads is '0'"),
    ({"num_hidden_layers": 10**9}, "n_layers is"),
    ({"vocab_size": "957"}, "vocab_size is '957'"),
    ({"tie_word_embeddings": "yes"}, "tied_head is 'yes'"),
    ({"num_hidden_layers": 3}, "doesn't fit"),
]


@pytest.mark.parametrize(("values", "words"), REFUSED)
def test_another_model_is_refused_by_name(folder, values, words):
    change(folder / "config.json", **values)
    with pytest.raises(WeightsError) as caught:
        load_model(folder)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    "values", [{"rope_scaling": {}}, {"rope_scaling": {"rope_type": "default"}}]
)
def test_settings_that_change_nothing_are_read(folder, values):
    change(folder / "config.json", **values)
    assert torch.equal(load_model(folder)(IDS), small_llama()(IDS))


def test_an_output_head_of_its_own_is_kept_whatever_the_config_says(folder):
    """As in transformers, which then doesn't tie."""
    tensors = load_file(folder / "model.safetensors")
    head = torch.randn_like(tensors["model.embed_tokens.weight"])
    save_file({**tensors, "lm_head.weight": head}, folder / "model.safetensors")
    model = load_model(folder)
    assert not model.config.tied_head and torch.equal(model.out_head.weight, head)
    same = tensors["model.embed_tokens.weight"].clone()
    save_file({**tensors, "lm_head.weight": same}, folder / "model.safetensors")
    assert load_model(folder).config.tied_head


@pytest.mark.parametrize("kind", ["mistral", "qwen2"])
def test_other_kinds_of_models_are_named(folder, kind, capsys):
    change(folder / "config.json", model_type=kind)
    assert main(["respond", str(folder), "Hi"]) == 1
    said = capsys.readouterr().err
    assert f"holds a model of the kind '{kind}'; GPT-2 and Llama can be read" in said


def test_the_end_is_that_of_the_template(folder):
    """Some files name the token that ends a text, with which a chat model would not stop."""
    change(folder / "config.json", prompt_style=None)
    change(folder / "tokenizer_config.json", eos_token="<|endoftext|>")
    trained = load_trained_model(str(folder))
    assert trained.style == STYLE
    assert trained.tokenizer.decode([trained.tokenizer.eot_token]) == "<|im_end|>"


def test_a_template_that_is_not_known_is_said(folder, number_data, tmp_path, capsys):
    change(folder / "config.json", prompt_style=None)
    (folder / "chat_template.jinja").write_text("{{ messages[0]['content'] }}", encoding="utf-8")
    arguments = ["--model", str(folder), "--data", str(number_data), "--max-steps", "1"]
    assert main(["finetune", *arguments, "--out", str(tmp_path / "run")]) == 0
    assert "chat template is not one of the styles here" in capsys.readouterr().err
    assert load_trained_model(str(tmp_path / "run")).style.name == "book"


def test_a_model_of_single_questions_stays_one_when_it_is_exported(tmp_path):
    for has_turns in (False, True):
        target = tmp_path / str(has_turns)
        vocabulary = small_vocabulary()
        export_hf(small_llama(), target, STYLE, conversations=has_turns, vocabulary=vocabulary)
        assert (load_trained_model(str(target)).conversations is not None) == has_turns


def test_a_padded_vocabulary_is_said(tmp_path):
    model = small_llama(vocab_size=960)
    path = save_small_llama(tmp_path / "llama")
    weights = {"model.embed_tokens.weight": model.tok_emb.weight.detach().contiguous()}
    save_file({**load_file(path / "model.safetensors"), **weights}, path / "model.safetensors")
    change(path / "config.json", vocab_size=960)
    with pytest.raises(WeightsError, match=r"has 960 tokens, but its tokenizer .* 957.*padded"):
        find_weights(path).tokenizer()


# --- a GPT-2 and its tokenizer --------------------------------------------------------------------
@pytest.fixture
def gpt2_folder(tmp_path):
    shape = {**MODEL_SIZES["gpt2-tiny"], "n_layers": 1}
    return export_hf(GPTModel(shape, torch.Generator().manual_seed(0)), tmp_path / "gpt2")


def test_gpt2_s_own_tokenizer_needs_no_settings_beside_it(gpt2_folder):
    change(gpt2_folder / "tokenizer_config.json", eos_token=None)  # as in the published folder
    assert find_weights(gpt2_folder).tokenizer() is load_tokenizer()
    (gpt2_folder / "tokenizer_config.json").unlink()
    assert find_weights(gpt2_folder).tokenizer() is load_tokenizer()


def test_a_gpt2_with_another_tokenizer_uses_that(gpt2_folder):
    path = gpt2_folder / "tokenizer.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    vocab = content["model"]["vocab"]
    vocab["!"], vocab['"'] = vocab['"'], vocab["!"]
    path.write_text(json.dumps(content), encoding="utf-8")
    assert find_weights(gpt2_folder).tokenizer().encode_ordinary("!") == [1]


def test_a_llama_is_no_gpt2(folder):
    with pytest.raises(WeightsError, match="is not a GPT-2: use load_model"):
        load_gpt2(folder)


def test_a_style_s_text_comes_with_the_export(tmp_path):
    style = chatml_style("Answer in {one} word.")
    export_hf(small_llama(), tmp_path / "m", style, vocabulary=small_vocabulary())
    assert load_trained_model(str(tmp_path / "m")).style == style
    change(tmp_path / "m" / "config.json", prompt_style=None)
    assert load_trained_model(str(tmp_path / "m")).style == style, "from the template alone"
