"""Adapters: they alone change, nothing is lost without a word, and a run with one is a run."""

import json
import shutil
from contextlib import nullcontext
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file

from ch07.commands.cli import main
from ch07.config import FinetuneOptions
from ch07.generation.decoding import generate
from ch07.models import resource_estimate as est
from ch07.models.adapters import add_adapter, base_model, merged_or_base_model
from ch07.models.architectures import make_model
from ch07.models.llama import LlamaConfig, LlamaModel
from ch07.models.lora import add_lora, block_matrices, lora_layers, merge_lora, unmerge
from ch07.models.peft_format import AdapterError, load_adapter, save_adapter
from ch07.models.prefix_tuning import PrefixEncoder, PrefixTuned
from ch07.models.pretrained import find_weights
from ch07.models.saved_run import load_run
from ch07.training.cost_estimate import count_trained_parameters
from ch07.training.run_plan import build_plan
from ch07.utils.errors import OptionError
from gpt_model import MODEL_SIZES, GPTConfig, GPTModel
from train_loop import TrainSettings, make_optimizer, train_step

TARGETS = (
    "att.W_query", "att.W_key", "att.W_value", "att.out_proj", "ff.layers.0", "ff.layers.2",
)  # fmt: skip
IDS = torch.randint(0, 97, (3, 11), generator=torch.Generator().manual_seed(5))


def bits(model):
    return {name: p.detach().clone() for name, p in model.named_parameters()}


def trained_names(model):
    return {name for name, p in model.named_parameters() if p.requires_grad}


def options(**more):
    return FinetuneOptions(model="gpt2-small", **more)


def short(method):
    """Of these methods, with a prefix that leaves room in a small model's context."""
    return options(method=method, **({"prefix_length": 4} if method == "prefix" else {}))


def train(model, steps=5):
    optimizer = make_optimizer(model.parameters(), lr=1e-2)
    for _ in range(steps):
        train_step([(IDS, IDS.roll(-1, 1))], model.train(), optimizer, "cpu", 1e-2, TrainSettings())
    return model.eval()


# --- both -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["lora", "prefix"])
def test_only_the_adapter_is_trained_and_the_base_comes_back_bit_for_bit(method, small_model):
    first, before = small_model(IDS), bits(small_model)
    model = add_adapter(small_model, short(method))
    start = bits(model)
    assert not torch.equal(train(model)(IDS), first)
    for name, p in model.named_parameters():
        assert torch.equal(p, start[name]) != (name in trained_names(model)), name
    base = load_base(model)
    assert all(torch.equal(p, before[name]) for name, p in base.named_parameters())
    assert torch.equal(base.eval()(IDS), first)


def load_base(model):
    """The model without its adapter."""
    if isinstance(model, PrefixTuned):
        return model.base
    kept = {name: p for name, p in model.state_dict().items() if ".lora_" not in name}
    base = make_model(model.config)
    base.load_state_dict(kept)
    return base


@pytest.mark.parametrize("method", ["lora", "prefix"])
def test_the_seed_draws_the_first_values(method, small_model):
    def drawn(seed):
        model = add_adapter(make_model(small_model.config), options(method=method, seed=seed))
        return torch.cat([p.flatten() for p in model.parameters() if p.requires_grad])

    torch.manual_seed(1)
    one = drawn(7)
    torch.manual_seed(2)
    assert torch.equal(one, drawn(7)) and not torch.equal(one, drawn(8))


def test_full_is_the_model_itself(small_model):
    assert (
        add_adapter(small_model, options())
        is small_model
        is merged_or_base_model(small_model)
        is base_model(small_model)
    )
    with pytest.raises(ValueError, match="no adapter"):
        save_adapter("nowhere", small_model)


# --- LoRA -----------------------------------------------------------------------------------------


def test_the_first_logits_are_the_model_s(small_model):
    before = small_model(IDS)
    model = add_lora(small_model, 4, 8)
    assert torch.equal(model(IDS), before)
    assert trained_names(model) == {f"{n}.lora_{x}" for n in lora_layers(model) for x in "AB"}


def with_random_b(model, scale=0.1):
    for layer in lora_layers(model).values():
        torch.nn.init.normal_(layer.lora_B, 0.0, scale)
    return model


def test_the_matrices_of_a_block_are_adapted_by_default():
    assert block_matrices(GPTModel(MODEL_SIZES["gpt2-tiny"])) == list(TARGETS)
    llama = LlamaModel(LlamaConfig(vocab_size=9, emb_dim=8, n_heads=2, n_kv_heads=1, n_layers=1))
    attention = ["att.W_query", "att.W_key", "att.W_value", "att.out_proj"]
    assert block_matrices(llama) == [*attention, "ff.gate", "ff.up", "ff.down"]


@pytest.mark.parametrize("with_head", [False, True])
def test_merged_computes_the_same_and_leaves_the_model_alone(with_head, small_model):
    targets = [*block_matrices(small_model), *(["out_head"] if with_head else [])]
    model = with_random_b(add_lora(small_model, 4, 8, targets=targets))
    before, logits = bits(model), model(IDS)
    one = merge_lora(model)
    torch.testing.assert_close(one(IDS), logits, atol=2e-5, rtol=1e-5)
    assert not lora_layers(one) and one.config.tied_head == (not with_head)
    assert all(torch.equal(p, before[name]) for name, p in model.named_parameters())
    if with_head:  # the head learned, and the embedding that it was tied to did not
        assert torch.equal(one.tok_emb.weight, model.tok_emb.weight)
        assert not torch.equal(one.out_head.weight, one.tok_emb.weight)


def test_the_scale_is_alpha_over_rank(small_model):
    """The same B A with twice the rank, half of it 0, needs twice the alpha."""
    thin = with_random_b(add_lora(make_model(small_model.config), 2, 6))
    thin.load_state_dict(small_model.state_dict(), strict=False)
    wide = add_lora(small_model, 4, 12)
    with torch.no_grad():
        for name, layer in lora_layers(wide).items():
            layer.lora_A[:2], layer.lora_B[:, :2] = (
                lora_layers(thin)[name].lora_A,
                lora_layers(thin)[name].lora_B,
            )
    torch.testing.assert_close(wide(IDS), thin.eval()(IDS), atol=1e-5, rtol=0)


def test_as_many_are_trained_as_in_the_book():
    """Exercise 7.4 and appendix E: every linear layer, an untied head, rank 16."""
    with torch.device("meta"):
        medium = GPTModel(GPTConfig(**MODEL_SIZES["gpt2-medium"], tied_head=False))
        whole = sum(p.numel() for p in medium.parameters())
        add_lora(medium, 16, 16, targets=(*TARGETS, "out_head"))
    n = sum(p.numel() for p in medium.parameters() if p.requires_grad)
    blocks = 24 * (4 * (1024 + 1024) * 16 + 2 * (1024 + 4096) * 16)
    assert (whole, n) == (406_286_336, blocks + (1024 + 50257) * 16)


@pytest.mark.parametrize("bad", [0, -1, 1.5])
def test_a_rank_that_is_none(bad, small_model):
    with pytest.raises(ValueError, match="rank"):
        add_lora(small_model, bad, 8)


@pytest.mark.parametrize("target", ["c_attn", "norm1", "att"])
def test_what_is_no_layer_leaves_the_model_alone(target, small_model):
    with pytest.raises(ValueError, match=target):
        add_lora(small_model, 2, 8, targets=("att.W_query", target))
    assert not lora_layers(small_model) and all(p.requires_grad for p in small_model.parameters())


def test_a_second_correction_would_take_the_place_of_the_first(small_model, tmp_path):
    save_adapter(tmp_path, add_lora(small_model, 2, 8))
    with pytest.raises(ValueError, match="already"):
        add_lora(small_model, 2, 8)
    with pytest.raises(AdapterError, match="already"):
        load_adapter(small_model, tmp_path)


# --- prefix ---------------------------------------------------------------------------------------


def behind_prefix(model, length=5, hidden=None):
    return PrefixTuned(model, PrefixEncoder(model.config, length, hidden)).eval()


def test_sizes_of_a_prefix():
    for size, length, n in (("gpt2-small", 20, 368_640), ("gpt2-medium", 128, 6_291_456)):
        config = GPTConfig(**MODEL_SIZES[size])
        given = options(method="prefix", prefix_length=length)
        assert (
            count_trained_parameters(config, given)
            == n
            == length * 2 * config.n_layers * config.emb_dim
        )


@pytest.mark.parametrize("hidden", [None, 7])
def test_token_by_token_equals_all_at_once(hidden, small_model):
    model = behind_prefix(small_model, hidden=hidden)
    cache = model.new_cache(11)
    steps = [model(IDS[:, i : i + 1], cache=cache) for i in range(11)]
    torch.testing.assert_close(torch.cat(steps, dim=1), model(IDS), atol=1e-4, rtol=0)


def test_rows_of_other_lengths_answer_as_if_alone(small_model):
    model = behind_prefix(small_model)
    prompts = [[3, 1, 4, 1, 5], [9], [6] * 12]
    alone = [generate(model, [prompt], 6, end_id=-1)[0] for prompt in prompts]
    assert generate(model, prompts, 6, end_id=-1) == alone
    bare = [generate(small_model, [prompt], 6, end_id=-1)[0] for prompt in prompts]
    assert alone != bare


def test_a_prefix_takes_room_from_the_text(small_model):
    model = behind_prefix(small_model)
    assert model.config.context_length == 32 - 5
    model(torch.zeros(1, 27, dtype=torch.long))
    with pytest.raises(ValueError, match="context_length"):
        model(torch.zeros(1, 28, dtype=torch.long))
    assert [len(ids) for ids in generate(model, [[1] * 20], 99, end_id=-1)] == [7]
    for length in (0, 32):
        with pytest.raises(ValueError, match="prefix of"):
            PrefixEncoder(small_model.config, length)


# --- files ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["lora", "prefix"])
def test_files_that_are_no_adapter_of_this_model(method, small_model, tmp_path):
    model = add_adapter(make_model(small_model.config), short(method))
    good = tmp_path / "good"
    save_adapter(good, model, "some/model")
    tensors, config = load_file(good / "adapter_model.safetensors"), good / "adapter_config.json"
    shape = json.loads(config.read_text(encoding="utf-8"))
    assert shape["base_model_name_or_path"] == "some/model"
    name = next(iter(tensors))

    def broken(**changes):
        folder = tmp_path / "bad"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(good, folder)
        if "config" in changes:
            (folder / config.name).write_text(changes["config"], encoding="utf-8")
        if "tensors" in changes:
            save_file(changes["tensors"], folder / "adapter_model.safetensors")
        return folder

    nan = torch.full_like(tensors[name], torch.nan)
    bad = [
        {"config": "[]"},
        {"config": "{"},
        {"config": json.dumps(shape | {"peft_type": "IA3"})},
        {"tensors": {**tensors, name: nan}},
        {"tensors": {name: tensors[name][:, :-1].contiguous()}},
        {"tensors": {"something": tensors[name]}},
    ]
    if method == "lora":
        bad += [{"config": json.dumps(shape | {key: True})} for key in ("use_dora", "use_rslora")]
        bad += [{"config": json.dumps(shape | {"r": 0, "rank_pattern": {}})}]
        bad += [{"config": json.dumps(shape | {"bias": "all"})}]
        bad += [{"config": json.dumps(shape | {"init_lora_weights": "pissa"})}]
        bad += [{"config": json.dumps(shape | {"lora_alpha": 1e400})}]
        bad += [{"config": json.dumps(shape | {"alpha_pattern": {"(.*)*c_attn": 4}})}]
        bad += [{"tensors": {name: value for name, value in tensors.items() if ".h.0." in name}}]
        bad += [{"tensors": {**tensors, name: tensors[name].int()}}]
        bad += [{"tensors": {**tensors, name: tensors[name][0, 0].clone()}}]
    logits = small_model(IDS)
    for changes in bad:
        with pytest.raises(AdapterError, match="no adapter that can be used"):
            load_adapter(small_model, broken(**changes))
        assert torch.equal(small_model(IDS), logits) and not lora_layers(small_model)
    with pytest.raises(AdapterError):
        load_adapter(small_model, tmp_path / "nowhere")
    load_adapter(small_model, good)


# --- a run ----------------------------------------------------------------------------------------


def test_options_that_cannot_be_had_together():
    for given, word in (
        ({"method": "lora"}, "--model"),
        ({"method": "prefix", "model": "gpt2-small", "optimizer": "muon"}, "muon"),
        ({"method": "lora", "model": "gpt2-small", "shard": True}, "--shard"),
        ({"method": "sft"}, "full, lora, prefix"),
        ({"lora_rank": 64}, "--lora-rank is for --method lora"),
        ({"method": "lora", "model": "gpt2-small", "prefix_length": 4}, "--prefix-length is for"),
        ({"method": "lora", "model": "gpt2-small", "lora_rank": 0}, "lora_rank"),
        ({"method": "lora", "model": "gpt2-small", "lora_alpha": 0.0}, "lora_alpha"),
    ):
        with pytest.raises(OptionError, match=word):
            FinetuneOptions(**given)
    assert options(method="lora").lr > options().lr and options().prefix_columns == 0


def test_a_rank_beyond_the_model_is_refused_before_costs_are_estimated(small_model):
    """Otherwise its memory would be estimated and a smaller batch advised."""
    width = small_model.config.emb_dim
    with pytest.raises(ValueError, match=f"larger than this model's width .{width}.: the adapter"):
        count_trained_parameters(small_model.config, options(method="lora", lora_rank=10**9))
    assert count_trained_parameters(small_model.config, options(method="lora", lora_rank=width)) > 0


def test_an_adapter_needs_less_memory():
    config, batches = GPTConfig(), est.Batches([800], [320])
    needed = [
        est.training_bytes(
            config, batches, "float32", trained=count_trained_parameters(config, options(**more))
        )
        for more in ({}, {"method": "lora"}, {"method": "prefix"})
    ]
    assert needed[0] - needed[1] > 11 * 124e6 and needed[2] < needed[1]


@pytest.fixture(scope="module", params=["lora", "prefix"])
def adapted(request, run, few_answers, tmp_path_factory):
    """(arguments, folder) of a short run with an adapter beside the weights of `run`."""
    arguments = ["--data", few_answers, "--model", run, "--method", request.param, "--max-steps"]
    arguments = [str(part) for part in [*arguments, 4, "--eval-freq", 2, "--batch-size", 8]]
    folder = tmp_path_factory.mktemp(request.param) / "run"
    assert main([*arguments, "--out", str(folder)]) == 0
    return arguments, folder


def test_a_run_with_an_adapter_is_a_run(adapted, run, capsys):
    _, folder = adapted
    loaded, start = load_run(folder), find_weights(run).load()
    assert loaded.config["model"] == load_run(run).config["model"]
    prefixed = isinstance(loaded.model, PrefixTuned)
    same = [torch.equal(p, q) for p, q in zip(
        base_model(loaded.model).parameters(), start.parameters(), strict=True)]  # fmt: skip
    assert all(same) if prefixed else not all(same)
    # the same model once more, from the adapter alone
    again = load_adapter(start, folder / "adapter").eval()
    ids = IDS.clamp(max=90)
    torch.testing.assert_close(again(ids), loaded.model(ids), atol=1e-4, rtol=0)
    assert main(["evaluate", str(folder), "--losses", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    for name in ("train_loss", "val_loss"):
        assert found[name]["now"] == pytest.approx(found[name]["logged"], rel=1e-3, abs=1e-3)
        assert (found[name]["now"] == found[name]["logged"]) or not prefixed


def test_interrupted_equals_uninterrupted(adapted, tmp_path, monkeypatch):
    arguments, folder = adapted
    other = tmp_path / "run"
    asked = iter([False, True])
    with monkeypatch.context() as patch:  # asked to stop after its second step
        patch.setattr(
            "ch07.commands.finetune.stop_on_signal",
            lambda note: nullcontext(lambda: next(asked, True)),
        )
        assert main([*arguments, "--out", str(other)]) == 130
    kept = load_file(next(iter((other / "checkpoint").glob("step-*"))) / "model.safetensors")
    assert set(kept) == {n for n in kept if ".lora_" in n or n.startswith("encoder.")}
    assert main(["--resume", "--out", str(other)]) == 0
    for name in ("adapter/adapter_model.safetensors", "model.safetensors", "responses.json"):
        assert (other / name).read_bytes() == (folder / name).read_bytes(), name


def test_what_a_prefix_run_cannot_do_is_said(adapted, tmp_path, capsys):
    arguments, folder = adapted
    if "prefix" not in arguments:
        return
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    path = copy / "adapter" / "adapter_model.safetensors"
    table = load_file(path)
    save_file({name: value + 1 for name, value in table.items()}, path)
    assert main(["respond", str(copy), "Say hi."]) == 1
    assert "altered" in capsys.readouterr().err
    assert main(["compare", str(folder), str(copy)]) == 1
    assert "1 of" in capsys.readouterr().out
    path.unlink()
    assert main(["respond", str(copy), "Say hi."]) == 1
    assert "the copy is incomplete" in capsys.readouterr().err
    data = arguments[1]
    assert main(["--data", data, "--model", str(folder), "--out", str(tmp_path / "new")]) == 1
    assert "learned a prefix" in capsys.readouterr().err
    assert main(["export", str(folder), str(tmp_path / "hf"), "--gguf", "f16"]) == 2
    assert "GGUF can't store a prefix" in capsys.readouterr().err
    long = ["--method", "prefix", "--prefix-length", "1024", "--model", arguments[3]]
    assert main(["--data", data, *long]) == 2
    assert "nothing would be left for the text" in capsys.readouterr().err


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is:FutureWarning")
def test_an_exported_run_answers_in_peft_as_here(adapted, tmp_path, capsys):
    import peft
    import transformers

    arguments, folder = adapted
    loaded = load_run(folder)
    assert main(["export", str(folder), str(tmp_path / "hf")]) == 0
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "hf")
    if "prefix" in arguments:
        theirs = peft.PeftModel.from_pretrained(theirs, tmp_path / "hf" / "adapter")
        again = ["--data", arguments[1], "--model", str(tmp_path / "hf"), "--out"]
        assert main([*again, str(tmp_path / "lost")]) == 1  # what was learned would be lost
        assert "learned a prefix" in capsys.readouterr().err
    card = (tmp_path / "hf" / "README.md").read_text(encoding="utf-8")
    assert ("PeftModel" in card) == ("prefix" in arguments)
    theirs.eval()
    torch.testing.assert_close(theirs(input_ids=IDS).logits, loaded.model(IDS), atol=1e-3, rtol=0)


def test_an_adapter_is_not_written_through_a_link(adapted, tmp_path, capsys):
    _, folder = adapted
    copy, other = tmp_path / "copy", tmp_path / "other"
    shutil.copytree(folder, copy)
    shutil.copytree(folder / "adapter", other)
    shutil.rmtree(copy / "adapter")
    (copy / "adapter").symlink_to(other)
    assert main(["--resume", "--out", str(copy)]) == 1
    assert "is a link" in capsys.readouterr().err


def test_corrections_come_out_of_the_weights_again(small_model):
    base = bits(small_model)
    model = with_random_b(add_lora(small_model, 4, 8))
    inside = merge_lora(model)
    for name, layer in lora_layers(model).items():
        layer.weight.data.copy_(inside.get_submodule(name).weight)
    for name, layer in lora_layers(unmerge(model)).items():
        torch.testing.assert_close(layer.weight, base[f"{name}.weight"], atol=1e-6, rtol=0)


def test_a_longer_prefix_shortens_the_longest_row(run, few_answers, tmp_path):
    given = FinetuneOptions(data=str(few_answers), model=str(run), method="prefix")
    plan = build_plan(replace(given, prefix_length=960, allowed_max_length=1000), print)
    assert plan.allowed_max_length == 64
