"""LoRA and prefix tuning are peft's: logits, gradients, counts; each reads the other's files."""

import peft
import pytest
import torch
import transformers

from ch07.generation.decoding import generate
from ch07.models.lora import (
    LoRALinear,
    add_lora,
    block_matrices,
    lora_layers,
    merge_lora,
    replace_layers,
)
from ch07.models.parameter_names import from_published
from ch07.models.peft_format import ADAPTER_CONFIG, load_adapter, save_adapter
from ch07.models.prefix_tuning import PrefixEncoder, PrefixTuned
from ch07.utils.atomic_files import read_json, write_json
from gpt_model import GPTConfig, GPTModel

# peft asks transformers by a name that it will lose: none of our business
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is:FutureWarning")
CONFIG = GPTConfig(vocab_size=97, context_length=32, emb_dim=24, n_heads=3, n_layers=2)
LAYERS = ["c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj"]
TARGETS = block_matrices(GPTModel(CONFIG))
IDS = torch.randint(0, 97, (3, 11), generator=torch.Generator().manual_seed(5))


def gpt2():
    torch.manual_seed(0)
    peer = transformers.GPT2LMHeadModel(
        transformers.GPT2Config(
            vocab_size=97, n_positions=32, n_embd=24, n_head=3, n_layer=2, resid_pdrop=0.0,
            embd_pdrop=0.0, attn_pdrop=0.0, bos_token_id=96, eos_token_id=96,
        )
    ).eval()  # fmt: skip
    with torch.no_grad():
        for weight in peer.parameters():
            weight.add_(0.15 * torch.randn_like(weight))
    return peer


def both():
    """The same weights in our model and in transformers'."""
    peer, ours = gpt2(), GPTModel(CONFIG)
    ours.load_state_dict(from_published(peer.transformer.state_dict(), CONFIG))
    return ours.eval(), peer


def close(ours, theirs):
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)


def count(model):
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def lora_in_peft(peer):
    """With a rank and an alpha of its own for one layer of one block."""
    torch.manual_seed(1)
    config = peft.LoraConfig(
        r=4,
        lora_alpha=8,
        rank_pattern={r"h\.1\.attn\.c_attn": 6},
        alpha_pattern={r"h\.\d+\.attn\.c_proj": 3},
        target_modules=LAYERS,
        fan_in_fan_out=True,
        task_type="CAUSAL_LM",
    )
    theirs = peft.get_peft_model(peer, config)
    with torch.no_grad():  # B is 0 at the start, and would hide every mistake
        for name, weight in theirs.named_parameters():
            if "lora_B" in name:
                weight.normal_(0.0, 0.1)
    return theirs


def test_lora_that_peft_wrote(tmp_path):
    ours, peer = both()
    theirs = lora_in_peft(peer)
    theirs.save_pretrained(tmp_path)
    ours = load_adapter(ours, tmp_path)
    close(ours(IDS), theirs(IDS).logits)
    close(merge_lora(ours)(IDS), theirs(IDS).logits)
    in_one = from_published(theirs.merge_and_unload().transformer.state_dict(), CONFIG)
    for name, weight in merge_lora(ours).named_parameters():
        close(weight, in_one[name])


TARGET_MODULES = {
    "all": "all-linear",
    "an ending": ["c_fc"],
    "a longer ending": ["attn.c_proj", "1.mlp.c_proj"],
    "a whole name": ["transformer.h.1.attn.c_attn"],
    "a pattern": r".*\.[01]\.attn\.c_(attn|proj)",
    "a pattern of everything": ".*c_proj",
}


@pytest.mark.parametrize("targets", TARGET_MODULES.values(), ids=TARGET_MODULES)
def test_lora_on_layers_that_were_named_in_any_of_pefts_ways(targets, tmp_path):
    ours, peer = both()
    config = peft.LoraConfig(r=3, target_modules=targets, fan_in_fan_out=True)
    theirs = peft.get_peft_model(peer, config).eval()
    with torch.no_grad():
        for name, weight in theirs.named_parameters():
            if "lora_B" in name:
                weight.normal_(0.0, 0.1)
    theirs.save_pretrained(tmp_path)
    close(load_adapter(ours, tmp_path)(IDS), theirs(IDS).logits)
    # as peft stores what its user wrote, where it doesn't write the names out
    stored = read_json(tmp_path / ADAPTER_CONFIG)
    write_json(tmp_path / ADAPTER_CONFIG, {**stored, "target_modules": targets})
    close(load_adapter(both()[0], tmp_path)(IDS), theirs(IDS).logits)


@pytest.mark.parametrize(
    ("targets", "said"),
    [
        ("c_attn", "are not those of its target_modules"),  # a pattern of the whole name
        (["ttn.c_attn"], "are not those of its target_modules"),  # no whole part of a name
        (["h.1.attn.c_attn.weight"], "are not those of its target_modules"),
        ("(", "can't be used"),
        (r"(?:(?:\w|\.|[a-z])+)+[A-Z]", "can't be used"),
    ],
)
def test_target_modules_that_are_others_are_refused(tmp_path, targets, said):
    _, peer = both()
    config = peft.LoraConfig(r=3, target_modules=["c_attn"], fan_in_fan_out=True)
    theirs = peft.get_peft_model(peer, config)
    theirs.save_pretrained(tmp_path)
    stored = read_json(tmp_path / ADAPTER_CONFIG)
    write_json(tmp_path / ADAPTER_CONFIG, {**stored, "target_modules": targets})
    with pytest.raises(ValueError, match=said):
        load_adapter(both()[0], tmp_path)


@pytest.mark.parametrize("targets", [TARGETS, ("att.W_query", "att.W_value"), ("ff.layers.2",)])
def test_lora_that_peft_reads(targets, tmp_path):
    ours, peer = both()
    add_lora(ours, 4, 12, targets=targets, generator=torch.Generator().manual_seed(2))
    for layer in lora_layers(ours).values():
        torch.nn.init.normal_(layer.lora_B, 0.0, 0.1)
    save_adapter(tmp_path, ours)
    theirs = peft.PeftModel.from_pretrained(peer, tmp_path).eval()
    close(ours(IDS), theirs(IDS).logits)
    again = load_adapter(both()[0], tmp_path)
    close(again(IDS), ours(IDS))


def test_as_many_are_trained_as_in_peft():
    """Two of the three side by side share no A, so only layers of their own are compared."""
    ours, peer = both()
    config = peft.LoraConfig(r=4, target_modules=LAYERS[1:], fan_in_fan_out=True)
    theirs = peft.get_peft_model(peer, config)
    assert count(add_lora(ours, 4, 8, targets=TARGETS[3:])) == count(theirs)


def prefix_in_peft(peer, projection):
    torch.manual_seed(3)
    config = peft.PrefixTuningConfig(
        task_type="CAUSAL_LM",
        num_virtual_tokens=5,
        prefix_projection=projection,
        encoder_hidden_size=16,
    )
    return peft.get_peft_model(peer, config)


def in_ours(model, theirs, projection):
    """Our prefix with the weights of peft's."""
    ours = PrefixTuned(model, PrefixEncoder(CONFIG, 5, 16 if projection else None))
    encoder = theirs.prompt_encoder["default"]
    ours.encoder.embedding.data.copy_(encoder.embedding.weight)
    if projection:
        ours.encoder.transform.load_state_dict(encoder.transform.state_dict())
    return ours


@pytest.mark.parametrize("projection", [False, True])
def test_prefix(projection, tmp_path):
    model, peer = both()
    theirs = prefix_in_peft(peer, projection).eval()
    ours = in_ours(model, theirs, projection).eval()
    close(ours(IDS), theirs(input_ids=IDS).logits)
    assert count(ours) == count(theirs)
    ours(IDS).sum().backward(), theirs(input_ids=IDS).logits.sum().backward()
    trained = theirs.prompt_encoder["default"]
    scale = trained.embedding.weight.grad.abs().max()
    close(ours.encoder.embedding.grad / scale, trained.embedding.weight.grad / scale)
    theirs.save_pretrained(tmp_path)
    read = load_adapter(both()[0], tmp_path)  # only the table is left, whatever made it
    close(read(IDS), ours(IDS))


@pytest.mark.parametrize("projection", [False, True])
def test_prefix_that_peft_reads(projection, tmp_path):
    model, peer = both()
    ours = PrefixTuned(model, PrefixEncoder(CONFIG, 5, 16 if projection else None)).eval()
    save_adapter(tmp_path, ours)
    theirs = peft.PeftModel.from_pretrained(peer, tmp_path).eval()
    close(ours(IDS), theirs(input_ids=IDS).logits)


def test_positions_are_counted_from_the_prefix_on():
    """The negative control: with positions from 0, the parity above would fail."""
    model, peer = both()
    theirs = prefix_in_peft(peer, False).eval()
    ours = in_ours(model, theirs, False).eval()
    with torch.no_grad():
        table = model.pos_emb.weight.clone()
        model.pos_emb.weight.copy_(table.roll(5, dims=0))
    assert (ours(IDS) - theirs(input_ids=IDS).logits).abs().max() > 0.01


def test_answers_behind_a_prefix_are_peft_s():
    """One by one in peft, all at once here: the padding is between prefix and text."""
    model, peer = both()
    theirs = prefix_in_peft(peer, False).eval()
    ours = in_ours(model, theirs, False)
    prompts = [[3, 1, 4, 1, 5], [9, 2], [6] * 12]
    expected = []
    for prompt in prompts:
        ids = torch.tensor([prompt])
        for _ in range(8):
            ids = torch.cat([ids, theirs(input_ids=ids).logits[:, -1:].argmax(-1)], dim=1)
        expected.append(ids[0, len(prompt) :].tolist())
    for use_cache in (True, False):
        assert generate(ours, prompts, 8, end_id=-1, use_cache=use_cache) == expected


@pytest.mark.parametrize(
    "case", ["by target", "by block", "some blocks", "within c_attn", "scales"]
)
def test_ranks_and_alphas_of_their_own_are_read_by_peft(case, tmp_path):
    """And by us: logits with the adapter, in both, and once more when it is loaded again."""
    ours, peer = both()
    generator = torch.Generator().manual_seed(3)

    def add(names, rank, alpha):
        layers = {}
        for name in names:
            layer = LoRALinear(ours.get_submodule(name), rank, alpha, generator=generator)
            layer.lora_B.data.normal_(0.0, 0.1, generator=generator)
            layers[name] = layer
        replace_layers(ours, layers)

    block = "trf_blocks.{}.{}".format
    if case == "by target":
        add([block(i, "att.out_proj") for i in (0, 1)], 2, 4)
        add([block(i, "ff.layers.0") for i in (0, 1)], 5, 15)
    elif case == "by block":
        add([block(0, target) for target in TARGETS], 3, 6)
        add([block(1, target) for target in TARGETS], 4, 4)
    elif case == "some blocks":
        add([block(1, "ff.layers.2")], 3, 6)
    elif case == "within c_attn":
        add([block(0, "att.W_query")], 2, 4)
        add([block(0, "att.W_value"), block(1, "att.W_key")], 5, 5)
    else:
        add([block(i, target) for i in (0, 1) for target in TARGETS[:2]], 4, 2)
        add([block(i, TARGETS[2]) for i in (0, 1)], 4, 12)
    save_adapter(tmp_path, ours)
    theirs = peft.PeftModel.from_pretrained(peer, tmp_path).eval()
    close(ours(IDS), theirs(IDS).logits)
    again, _ = both()
    close(load_adapter(again, tmp_path)(IDS), ours(IDS))
