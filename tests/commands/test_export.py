"""What goes out: a folder that transformers loads, prompts and answers with as we do."""

import hashlib
import json
import os
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import gguf
import pytest
import torch
import transformers
from hypothesis import given
from hypothesis import strategies as st

from ch07.commands.cli import main
from ch07.commands.run_arguments import GGUF_FORMATS, PUBLISHED_SIZES
from ch07.data.entries import load_entries
from ch07.data.prompt_styles import STYLES
from ch07.data.toy_instructions.build import DATA_FILE
from ch07.generation.decoding import generate
from ch07.generation.respond import respond
from ch07.models import gguf_export
from ch07.models.hf_export import export_hf
from ch07.models.hf_files import chat_template, gpt2_tokenizer_files
from ch07.models.hub_download import PUBLISHED
from ch07.models.model_card import model_card
from ch07.models.pretrained import load_gpt2
from ch07.models.saved_run import load_run
from ch07.utils.errors import InputError
from gpt_model import GPTConfig, GPTModel
from instruction_dataset import PromptStyle, encode_prompt


@pytest.fixture(scope="module")
def exported(run, tmp_path_factory):
    """The shared run, exported by the command."""
    folder = tmp_path_factory.mktemp("export") / "numbers"
    assert main(["export", str(run), str(folder), "--gguf", "f32"]) == 0
    return folder


@pytest.fixture(scope="module")
def peer(exported):
    return transformers.AutoModelForCausalLM.from_pretrained(exported)


@pytest.fixture(scope="module")
def peer_tokenizer(exported):
    return transformers.AutoTokenizer.from_pretrained(exported)


def messages(entry):
    return [{"role": "user", "content": entry["instruction"], "input": entry.get("input", "")}]


# --- used as its readers will use it ------------------------------------------------------------


def test_held_out_answers_are_ours_token_by_token(run, peer, peer_tokenizer):
    """50 questions through AutoModelForCausalLM and apply_chat_template, 50 through `respond`."""
    ours = load_run(run)
    entries = json.loads((run / "responses.json").read_text("utf-8"))
    entries += [e for e in load_entries(DATA_FILE) if e.get("split") == "test"]
    entries = entries[:50]
    prompts = [encode_prompt(entry, ours.tokenizer, ours.style) for entry in entries]
    expected = generate(ours.model, prompts, 24)
    answers = respond(ours.model, ours.tokenizer, entries, ours.style, max_new_tokens=24)
    assert [answer.text for answer in answers] == [ours.tokenizer.decode(ids) for ids in expected]
    batch = peer_tokenizer.apply_chat_template(
        [messages(entry) for entry in entries],
        add_generation_prompt=True,
        padding=True,
        return_tensors="pt",
        return_dict=True,
    )
    new = peer.generate(**batch, max_new_tokens=24)[:, batch["input_ids"].shape[1] :]
    theirs = [row[: row.index(50256)] if 50256 in row else row for row in new.tolist()]
    assert theirs == expected
    assert len({tuple(row) for row in theirs}) > 7, "they differ, so the comparison means something"


def test_a_pipeline_answers(run, exported):
    entry = json.loads((run / "responses.json").read_text("utf-8"))[0]
    generate = transformers.pipeline("text-generation", str(exported))
    (answer,) = generate(messages(entry), return_full_text=False)
    assert answer["generated_text"] == entry["model_response"]


def test_the_same_logits(run, peer):
    ids = torch.arange(100).view(4, 25)
    ours = load_run(run).model(ids)
    torch.testing.assert_close(ours, peer(ids).logits, atol=1e-4, rtol=0)


def test_the_same_bits_come_back(run, exported):
    expected, found = load_run(run).model.state_dict(), load_gpt2(exported).state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_a_trip_through_save_pretrained_and_on(peer, exported, tmp_path, number_data, capsys):
    """A run of ours, loaded and saved by transformers, is trained on."""
    peer.save_pretrained(tmp_path / "theirs")
    common = ["finetune", "--data", str(number_data), "--max-steps", "3", "--eval-freq", "1"]
    losses = []
    for name, model in (("a", exported), ("b", tmp_path / "theirs")):
        out = tmp_path / name
        assert main([*common, "--model", str(model), "--out", str(out)]) == 0
        lines = (out / "metrics.jsonl").read_text("utf-8").splitlines()
        losses.append([json.loads(line)["train_loss"] for line in lines])
    assert losses[0] == losses[1], "the same start, to the bit"
    assert losses[0][0] < 0.5, "it hadn't forgotten"
    assert "weights" not in capsys.readouterr().err


# --- the prompt ---------------------------------------------------------------------------------

text = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)


def rendered(style, conversation):
    """As transformers compiles it."""
    from transformers.utils.chat_template_utils import render_jinja_template

    (whole,), _ = render_jinja_template(
        [conversation], chat_template=chat_template(style), eos_token="<|endoftext|>"
    )
    return whole


@pytest.mark.parametrize("name", STYLES)
@given(instruction=text, context=text)
def test_the_template_writes_the_training_prompt_byte_for_byte(name, instruction, context):
    entry = {"instruction": instruction, "input": context}
    style = STYLES[name]
    assert rendered(style, messages(entry)) == style.prompt(entry)
    plain = [{"role": "user", "content": instruction}]
    assert rendered(style, plain) == style.prompt({"instruction": instruction})
    both = [*messages(entry), {"role": "assistant", "content": "Yes {{ 1 }}"}]
    assert rendered(style, both) == style.prompt(entry) + "Yes {{ 1 }}<|endoftext|>"


def test_signs_that_jinja_could_take_for_its_own():
    style = PromptStyle("odd", '{{"\\n"}} \\ {instruction}\'"\t{input}', "{{{{ {instruction} %}}")
    for entry in ({"instruction": "{{ x }}"}, {"instruction": "{% y %}", "input": "\\n"}):
        assert rendered(style, messages(entry)) == style.prompt(entry)


@pytest.mark.parametrize(
    "conversation",
    [
        [],
        [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}],
        [{"role": "user", "content": "Hi"}] * 3,
        [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}],
        [{"role": "user", "content": "Hi"}] * 2,
        [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": None}],
    ],
)
def test_what_was_never_trained_is_refused_not_guessed(conversation):
    import jinja2

    with pytest.raises((jinja2.TemplateError, ValueError)):
        rendered(STYLES["book"], conversation)


def test_prompts_have_the_same_ids(run, peer_tokenizer, entries):
    ours = load_run(run)
    for entry in [*entries, {"instruction": "Übersetze 你好 🙂.\n\n ", "input": " a  b\t"}]:
        ids = peer_tokenizer.apply_chat_template(messages(entry), add_generation_prompt=True)
        assert ids["input_ids"] == encode_prompt(entry, ours.tokenizer, ours.style)


# --- the files ----------------------------------------------------------------------------------


@given(text)
def test_their_tokenizer_gives_our_ids(peer_tokenizer, tokenizer, words):
    expected = tokenizer.encode_ordinary(words)
    assert peer_tokenizer(words, split_special_tokens=True)["input_ids"] == expected
    assert peer_tokenizer.decode(expected) == tokenizer.decode(expected)


def test_the_tokenizer_files_are_the_published_ones(tokenizer_cache):
    """The hashes that openai-community/gpt2 shows on the Hub."""
    files = gpt2_tokenizer_files(1024)
    published = {
        "vocab.json": "196139668be63f3b5d6574427317ae82f612a97c5d1cdaf36ed2256dbf636783",
        "merges.txt": "1ce1664773c50f3e0cc8842619a93edc4624525b728b188a9e0be33b7726adc5",
        "tokenizer.json": "8414cab924d8b9b33013f0d221c5862f365ee9be39c5c2bfae8a5a9e970478a6",
    }
    assert {name: hashlib.sha256(files[name]).hexdigest() for name in published} == published


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("qkv_bias", [True, False])
def test_every_kind_of_model_goes_out_and_comes_back(tmp_path, tied, qkv_bias):
    size = {"emb_dim": 32, "n_heads": 4, "n_layers": 2, "context_length": 64, "drop_rate": 0.1}
    model = GPTModel(GPTConfig(**size, tied_head=tied, qkv_bias=qkv_bias)).eval()
    export_hf(model, tmp_path / "out")
    config = json.loads((tmp_path / "out" / "config.json").read_text("utf-8"))
    assert config["tie_word_embeddings"] == tied
    assert config["n_ctx"] == config["n_positions"] == 64
    theirs, log = transformers.GPT2LMHeadModel.from_pretrained(
        tmp_path / "out", output_loading_info=True
    )
    assert not any(log.values()), log
    ids = torch.arange(60).view(2, 30)
    torch.testing.assert_close(theirs.eval()(ids).logits, model(ids), atol=1e-5, rtol=0)
    assert (theirs.lm_head.weight is theirs.transformer.wte.weight) == tied
    ours = load_gpt2(tmp_path / "out")
    assert torch.equal(ours(ids), model(ids)) and ours.config.tied_head == tied


def test_the_card_says_what_the_run_says(run, exported):
    card = (exported / "README.md").read_text("utf-8")
    config = json.loads((run / "config.json").read_text("utf-8"))
    scores = json.loads((run / "scores.json").read_text("utf-8"))
    assert config["facts"]["data_sha256"] in card
    assert f"| exact_match | {scores['exact_match']:.3f} |" in card
    assert f"{scores['n']:,} rows held out" in card
    assert "random weights" in card and "Muon" in card and "steps (20 epochs) of 16 rows" in card
    code = card.split("```python\n")[1].split("```")[0]
    compile(code, "card", "exec")
    assert 'pipeline("text-generation", "numbers")' in code
    assert str(exported.parent) not in card, "paths of this machine are nobody's business"


@pytest.mark.parametrize("change", ["no scores", "no rows", "odd rows", "max steps", "a path"])
def test_the_card_of_other_runs(run, change):
    ours = load_run(run)
    ours = replace(ours, config=json.loads(json.dumps(ours.config)))
    config, odd = ours.config, None
    if change == "no rows":
        config["facts"]["rows"]["test"] = 0
    if change == "odd rows":
        odd = [{"instruction": "```x"}, {"instruction": 'a\r"b', "input": "\\"}]
    if change == "max steps":
        config["settings"]["max_steps"] = 3
    if change == "a path":
        config["options"]["model"], config["facts"]["start_sha256"] = "/home/me/base", "ab12"
    card = model_card(ours, None, odd)
    said = {
        "no scores": "it has not answered them yet",
        "no rows": "No rows were held out",
        "odd rows": r'''"content": "a\r\"b", "input": "\\"''',
        "max steps": "3 steps (0.",
        "a path": "It started from `base` (sha256 of the weights `ab12`)",
    }[change]
    assert said in card and "Measured on" not in card
    compile(card.split("```python\n")[1].split("```")[0], "card", "exec")
    del config["options"]["model"], config["facts"]["rows"]
    with pytest.raises(ValueError, match="is not as this version writes it"):
        model_card(ours)


def test_a_folder_that_is_not_empty_is_left_alone(run, tmp_path, capsys):
    (tmp_path / "mine.txt").write_text("mine", encoding="utf-8")
    assert main(["export", str(run), str(tmp_path)]) == 1
    assert "exists and is not empty" in capsys.readouterr().err
    assert [p.name for p in tmp_path.iterdir()] == ["mine.txt"]


@pytest.mark.parametrize(
    "where", ["models.hf_export.gpt2_tokenizer_files", "models.gguf_export.chat_template"]
)
def test_what_fails_halfway_leaves_nothing(run, tmp_path, monkeypatch, where):
    def full(*arguments):
        raise OSError("disk full")

    monkeypatch.setattr(f"ch07.{where}", full)
    assert main(["export", str(run), str(tmp_path / "out"), "--gguf", "f16"]) == 1
    assert not list(tmp_path.iterdir())


def test_awkward_targets(run, tmp_path, monkeypatch):
    for name in ("here", "real"):
        (tmp_path / name).mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert main(["export", str(run), str(tmp_path / "link")]) == 0
    assert (tmp_path / "real" / "config.json").is_file()
    monkeypatch.chdir(tmp_path / "here")
    assert main(["export", str(run), "."]) == 0
    assert (tmp_path / "here" / "config.json").is_file()


def test_a_folder_that_is_there_keeps_its_rights(run, tmp_path):
    folder = tmp_path / "mine"
    folder.mkdir(mode=0o700)
    before = os.stat(folder)
    assert main(["export", str(run), str(folder)]) == 0
    after = os.stat(folder)
    assert (before.st_ino, before.st_mode) == (after.st_ino, after.st_mode)
    assert not [p for p in folder.iterdir() if p.is_dir()]


def test_odd_names_and_styles(run, tmp_path, capsys):
    assert main(["export", str(run), str(tmp_path / 'a"b')]) == 0
    card = (tmp_path / 'a"b' / "README.md").read_text("utf-8")
    compile(card.split("```python\n")[1].split("```")[0], "card", "exec")
    assert main(["export", str(run), ""]) == 2
    with pytest.raises(ValueError, match=r"can't have \{question\}"):
        chat_template(PromptStyle("mine", "{question}", "x"))
    odd = PromptStyle("odd", "NO_INPUT {instruction} {input}", "WITH_INPUT {instruction}")
    entry = {"instruction": "NO_INPUT", "input": "WITH_INPUT"}
    assert rendered(odd, messages(entry)) == odd.prompt(entry)


@pytest.mark.parametrize("name", ["scores.json", "responses.json"])
@pytest.mark.parametrize("content", ["", "[]", "{}", "5", '[{"instruction": 5}]', "[" * 99_999])
def test_altered_results_are_named(run, tmp_path, capsys, name, content):
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    (copy / name).write_text(content, encoding="utf-8")
    code = main(["export", str(copy), str(tmp_path / "out")])
    error = capsys.readouterr().err
    harmless = name == "responses.json" and content in ("[]", "{}")
    assert (code, name in error) == ((0, False) if harmless else (1, True))


def test_a_head_of_its_own_stays_its_own_even_if_it_equals_the_embedding(tmp_path):
    size = {"emb_dim": 32, "n_heads": 4, "n_layers": 1, "context_length": 64}
    model = GPTModel(GPTConfig(**size, tied_head=False))
    with torch.no_grad():
        model.out_head.weight.copy_(model.tok_emb.weight)
    assert not load_gpt2(export_hf(model, tmp_path / "out")).config.tied_head


def test_bfloat16_is_told(tmp_path):
    size = {"emb_dim": 32, "n_heads": 4, "n_layers": 1, "context_length": 64}
    export_hf(GPTModel(size).to(torch.bfloat16), tmp_path / "out")
    assert json.loads((tmp_path / "out/config.json").read_text("utf-8"))["dtype"] == "bfloat16"


# --- GGUF ---------------------------------------------------------------------------------------


def test_gguf_read_back_tensor_by_tensor(run, exported):
    reader = gguf.GGUFReader(exported / "model.gguf")
    stored = {t.name: torch.tensor(t.data.copy()) for t in reader.tensors}
    state = load_run(run).model.state_dict()
    assert len(stored) == 4 * 12 + 4
    assert torch.equal(stored["token_embd.weight"], state["tok_emb.weight"])
    block = {name: state[f"trf_blocks.2.att.W_{name}.weight"] for name in ("query", "key", "value")}
    assert torch.equal(stored["blk.2.attn_qkv.weight"], torch.cat(list(block.values())))
    assert torch.equal(stored["blk.3.ffn_up.weight"], state["trf_blocks.3.ff.layers.0.weight"])
    assert torch.equal(stored["blk.0.attn_norm.bias"], state["trf_blocks.0.norm1.bias"])
    everything = sum(tensor.numel() for tensor in stored.values())
    assert everything == sum(p.numel() for p in load_run(run).model.parameters())
    fields = {name: field.contents() for name, field in reader.fields.items()}
    assert fields["gpt2.attention.head_count"] == 4 and fields["gpt2.context_length"] == 1024
    assert fields["tokenizer.chat_template"] == chat_template(load_run(run).style)
    assert len(fields["tokenizer.ggml.tokens"]) == 50257
    assert len(fields["tokenizer.ggml.merges"]) == 50000


@pytest.mark.parametrize("number_format", GGUF_FORMATS)
@pytest.mark.parametrize("tied", [True, False])
def test_gguf_of_every_kind_of_model(tmp_path, number_format, tied):
    size = {"emb_dim": 32, "n_heads": 4, "n_layers": 1, "context_length": 64}
    model = GPTModel(GPTConfig(**size, tied_head=tied, qkv_bias=tied))
    path = tmp_path / "model.gguf"
    gguf_export.write_gguf(model, path, STYLES["book"], name="small", number_format=number_format)
    tensors = {t.name: t for t in gguf.GGUFReader(path).tensors}
    assert ("output.weight" in tensors) != tied
    kinds = {name: tensor.tensor_type.name for name, tensor in tensors.items()}
    assert kinds["blk.0.ffn_up.weight"] == kinds["token_embd.weight"] == number_format.upper()
    assert kinds["position_embd.weight"] == kinds["blk.0.attn_qkv.bias"] == "F32"
    assert list(tensors["blk.0.attn_qkv.bias"].shape) == [96]
    weight = model.trf_blocks[0].ff.layers[0].weight.detach()
    stored = torch.tensor(read_back(tensors["blk.0.ffn_up.weight"]))
    step = weight.view(-1, 32).abs().amax(1).max() / 127
    allowed = {"f32": 0.0, "f16": 1e-4, "q8_0": 0.501 * step}[number_format]
    assert (stored - weight).abs().max() <= allowed


def read_back(tensor):
    """A stored tensor as float32 numbers, by the package that llama.cpp's authors keep."""
    return gguf.quants.dequantize(tensor.data, tensor.tensor_type)


def test_q8_0_stores_what_has_no_blocks_of_32_as_f16(tmp_path):
    model = GPTModel(GPTConfig(emb_dim=24, n_heads=4, n_layers=1, context_length=64))
    path = tmp_path / "model.gguf"
    gguf_export.write_gguf(model, path, STYLES["book"], name="narrow", number_format="q8_0")
    reader = gguf.GGUFReader(path)
    kinds = {t.name: t.tensor_type.name for t in reader.tensors}
    assert kinds["token_embd.weight"] == kinds["blk.0.attn_qkv.weight"] == "F16"
    assert kinds["blk.0.ffn_down.weight"] == "Q8_0"  # its rows have 4 * 24 numbers
    fields = {name: field.contents() for name, field in reader.fields.items()}
    assert fields["general.file_type"] == 7
    assert fields["general.quantization_version"] == gguf.GGML_QUANT_VERSION


@pytest.mark.parametrize(("number_format", "largest"), [("f16", 65504.0), ("q8_0", 127 * 65504.0)])
def test_gguf_refuses_what_would_become_infinity(tmp_path, number_format, largest):
    path = tmp_path / "large.gguf"
    model = GPTModel(GPTConfig(emb_dim=64, n_heads=4, n_layers=1, context_length=64))
    weight = model.trf_blocks[0].ff.layers[0].weight

    def write(number_format):
        gguf_export.write_gguf(model, path, STYLES["book"], name="x", number_format=number_format)

    with torch.no_grad():
        weight[3, 5] = -largest
        write(number_format)
        tensors = {t.name: t for t in gguf.GGUFReader(path).tensors}
        stored = torch.tensor(read_back(tensors["blk.0.ffn_up.weight"]))
        assert stored.isfinite().all() and stored[3, 5] == pytest.approx(-largest, rel=0.01)
        path.unlink()
        weight[3, 5] = -1.01 * largest
        with pytest.raises(InputError, match=r"blk.0.ffn_up.weight has a weight of .* use --gguf"):
            write(number_format)
        assert not path.exists()
        write("f32")
        weight[3, 5] = torch.nan
        with pytest.raises(InputError, match="holds NaN"):
            write("f32")


def test_gguf_without_the_package(run, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "gguf", None)
    assert main(["export", str(run), str(tmp_path / "out"), "--gguf", "f16"]) == 1
    assert "pip install gguf==" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_the_formats_are_those_of_the_command():
    assert tuple(gguf_export.FORMATS) == GGUF_FORMATS and tuple(PUBLISHED) == PUBLISHED_SIZES


@pytest.mark.parametrize("number_format", GGUF_FORMATS)
def test_llama_cpp_answers_as_we_do(run, tmp_path, number_format):
    """Where llama-cpp-python is installed (it is built from source, which takes minutes)."""
    llama_cpp = pytest.importorskip("llama_cpp", reason="pip install llama-cpp-python to run it")
    assert main(["export", str(run), str(tmp_path / "out"), "--gguf", number_format]) == 0
    llama = llama_cpp.Llama(str(tmp_path / "out/model.gguf"), n_ctx=256, verbose=False)
    ours = load_run(run)
    entries = json.loads((run / "responses.json").read_text("utf-8"))[:20]
    for entry in entries:
        prompt = ours.style.prompt(entry).encode()
        ids = llama.tokenize(prompt, add_bos=False, special=False)
        assert ids == encode_prompt(entry, ours.tokenizer, ours.style)
        answer = llama.create_chat_completion(messages(entry), temperature=0.0, max_tokens=32)
        assert answer["choices"][0]["message"]["content"] == entry["model_response"]


def test_exports_do_not_depend_on_where_they_are_made(run, exported, tmp_path):
    assert main(["export", str(run), str(tmp_path / "again")]) == 0
    for path in Path(exported).iterdir():
        if path.name not in ("README.md", "model.gguf"):
            assert (tmp_path / "again" / path.name).read_bytes() == path.read_bytes()


def test_another_prompt_style_than_the_trained_one_is_told(exported, number_data, tmp_path, capsys):
    common = ["finetune", "--data", str(number_data), "--max-steps", "1", "--model", str(exported)]
    assert main([*common, "--out", str(tmp_path / "a"), "--prompt-style", "alpaca"]) == 0
    told = capsys.readouterr().err
    assert "was trained with the style 'book', but this run uses 'alpaca'" in told
    assert main([*common[:-1], str(tmp_path / "a"), "--out", str(tmp_path / "b")]) == 0
    assert "style" not in capsys.readouterr().err
    assert load_run(tmp_path / "b").style.name == "alpaca", "the model's own"


def test_a_folder_for_transformers_answers_as_the_run_does(run, exported, capsys):
    said = []
    for folder in (run, exported):
        assert main(["respond", str(folder), "Write 7 as a word."]) == 0
        said.append(capsys.readouterr())
    assert said[0] == said[1]


def test_a_folder_for_transformers_is_no_run_and_that_is_said(exported, tmp_path, capsys):
    assert main(["export", str(exported), str(tmp_path / "new")]) == 1
    assert "is a model folder for transformers, not a run" in capsys.readouterr().err


def test_everybody_may_read_what_everybody_may_read(exported):
    rights = {path.stat().st_mode & 0o777 for path in exported.iterdir()}
    assert len(rights) == 1, "the weights too"
