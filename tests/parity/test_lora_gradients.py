"""The gradients of LoRA are peft's and the book's, for A and B, also over several batches."""

import copy

import peft
import pytest
import torch
import torch.nn.functional as F
import transformers
from torch import nn

from ch07.models.hf_files import model_config
from ch07.models.llama import LlamaConfig, LlamaModel
from ch07.models.lora import add_lora, block_matrices, lora_layers
from ch07.models.parameter_names import to_published
from ch07.models.peft_format import load_adapter
from collate import IGNORE_INDEX, custom_collate_response_fn
from gpt_model import GPTConfig, GPTModel
from train_loop import TrainSettings, train_step

# peft asks transformers by a name that it will lose: none of our business
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is:FutureWarning")
GPT2 = GPTConfig(vocab_size=97, context_length=32, emb_dim=24, n_heads=3, n_layers=2)
LLAMA = LlamaConfig(97, 32, 24, n_heads=6, n_kv_heads=2, n_layers=2, hidden_dim=40)
PEFT_NAMES = {
    # in GPT-2, the three are one layer: they share its A, and each has its own rows of B
    "gpt2": {
        "attn.c_attn": ("att.W_query", "att.W_key", "att.W_value"),
        "attn.c_proj": ("att.out_proj",),
        "mlp.c_fc": ("ff.layers.0",),
        "mlp.c_proj": ("ff.layers.2",),
    },
    "llama": {
        "self_attn.q_proj": ("att.W_query",),
        "self_attn.k_proj": ("att.W_key",),
        "self_attn.v_proj": ("att.W_value",),
        "self_attn.o_proj": ("att.out_proj",),
        "mlp.gate_proj": ("ff.gate",),
        "mlp.up_proj": ("ff.up",),
        "mlp.down_proj": ("ff.down",),
    },
}


def random_model(kind):
    stream = torch.Generator().manual_seed(0)
    model = GPTModel(GPT2, stream) if kind == "gpt2" else LlamaModel(LLAMA, stream)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.15 * torch.randn(weight.shape, generator=stream))
    return model.double().eval()


def published(model, kind):
    """The same weights in transformers."""
    state = to_published(dict(model.named_parameters()), model.config)
    if kind == "gpt2":
        shape = {"n_positions": 32, "n_embd": 24, "n_head": 3, "n_layer": 2}
        dropout = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
        ends = {"bos_token_id": 96, "eos_token_id": 96}
        config = transformers.GPT2Config(vocab_size=97, **shape, **dropout, **ends)
        theirs = transformers.GPT2LMHeadModel(config).double().eval()
        theirs.transformer.load_state_dict(state)
        return theirs
    values = {**model_config(model.config, end_id=0), "pad_token_id": None}
    theirs = transformers.LlamaForCausalLM(transformers.LlamaConfig(**values)).double().eval()
    state["lm_head.weight"] = state["model.embed_tokens.weight"]
    theirs.load_state_dict(state)
    return theirs


def both(kind, folder):
    """Our LoRA and peft's: the same base, and the same A and B, through a folder of peft's."""
    ours = random_model(kind)
    peer = published(ours, kind)
    config = peft.LoraConfig(
        r=4,
        lora_alpha=12,
        target_modules=list(PEFT_NAMES[kind]),
        fan_in_fan_out=kind == "gpt2",
        task_type="CAUSAL_LM",
    )
    torch.manual_seed(1)
    theirs = peft.get_peft_model(peer, config).double().eval()
    with torch.no_grad():  # B is 0 at the start, and so would be every gradient of A
        for name, weight in theirs.named_parameters():
            if "lora_B" in name:
                weight.normal_(0.0, 0.1)
    theirs.save_pretrained(folder)
    return load_adapter(ours, folder).double(), theirs


def windows(n_batches):
    """Batches whose numbers of targets differ, so that a mean of their means would be wrong."""
    stream = torch.Generator().manual_seed(3)
    batches = []
    for number in range(n_batches):
        rows = [
            (4, torch.randint(0, 97, (n,), generator=stream).tolist())
            for n in (20, 5 + number, 11)[: 1 + number]
        ]
        batches.append(custom_collate_response_fn(rows, pad_token_id=96))
    return batches


def backward(forward, batches):
    """Add the gradients of the mean loss over all targets of some batches."""
    n_targets = sum(int((targets != IGNORE_INDEX).sum()) for _, targets in batches)
    for inputs, targets in batches:
        logits = forward(inputs).flatten(0, 1)
        loss = F.cross_entropy(logits, targets.flatten(), reduction="sum")
        (loss / n_targets).backward()


def updates(model, batches):
    """What a step of training subtracts from each trained weight: at a rate of 1, its gradient."""
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    before = {name: p.detach().clone() for name, p in trained.items()}
    optimizer = torch.optim.SGD(trained.values(), lr=1.0)
    train_step(batches, model, optimizer, "cpu", 1.0, TrainSettings(grad_clip=1e9))
    return {name: before[name] - p.detach() for name, p in trained.items()}


def assert_close(ours, theirs, what):
    assert theirs.norm() > 1e-4, what
    assert (ours - theirs).norm() <= 1e-5 * theirs.norm(), what


@pytest.mark.parametrize("n_batches", [1, 3])
@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_gradients_of_a_and_b_are_peft_s(kind, n_batches, tmp_path):
    """An A that three layers share has the sum of their gradients there."""
    ours, theirs = both(kind, tmp_path)
    batches = windows(n_batches)
    torch.testing.assert_close(ours(batches[0][0]), theirs(batches[0][0]).logits, atol=1e-5, rtol=0)
    backward(lambda inputs: theirs(inputs).logits, batches)
    gradients = updates(ours, batches)
    n_compared = 0
    for name, weight in theirs.named_parameters():
        if "lora_A" not in name and "lora_B" not in name:
            assert weight.grad is None, name
            continue
        block = name.split(".h." if kind == "gpt2" else ".layers.")[1].split(".")[0]
        part = "A" if "lora_A" in name else "B"
        (targets,) = (t for layer, t in PEFT_NAMES[kind].items() if f".{layer}." in name)
        names = [f"trf_blocks.{block}.{target}.lora_{part}" for target in targets]
        of_layers = [gradients.pop(name) for name in names]
        gradient = sum(of_layers) if part == "A" else torch.cat(of_layers)
        assert_close(gradient, weight.grad, name)
        n_compared += 1
    assert n_compared == 2 * 2 * len(PEFT_NAMES[kind]) and not gradients


# --- the book's form ----------------------------------------------------------------------------


class LoRALayer(nn.Module):
    """x A B, scaled: A (in, rank) and B (rank, out), the transposes of ours."""

    def __init__(self, in_dim, out_dim, rank, scale):
        super().__init__()
        self.A = nn.Parameter(torch.empty(in_dim, rank, dtype=torch.float64))
        self.B = nn.Parameter(torch.zeros(rank, out_dim, dtype=torch.float64))
        self.scale = scale

    def forward(self, x):
        return self.scale * (x @ self.A @ self.B)


class LinearWithLoRA(nn.Module):
    """A linear layer and a `LoRALayer` beside it, in the order of the book."""

    def __init__(self, linear, rank, scale):
        super().__init__()
        self.linear = linear
        self.lora = LoRALayer(linear.in_features, linear.out_features, rank, scale)

    def forward(self, x):
        return self.linear(x) + self.lora(x)


def replace_linear_with_lora(model, rank, scale):
    """Every linear layer, the output head included."""
    for name, module in model.named_children():
        if isinstance(module, nn.Linear):
            setattr(model, name, LinearWithLoRA(module, rank, scale))
        else:
            replace_linear_with_lora(module, rank, scale)


@pytest.mark.parametrize("form", ["alpha", "alpha / rank"])
@pytest.mark.parametrize("n_batches", [1, 3])
def test_gradients_are_those_of_the_book_s_layers(form, n_batches):
    """The multiplier alpha of the printed book is our alpha times the rank."""
    rank, alpha = 3, 5.0
    config = {**vars(GPT2), "tied_head": False}
    model = GPTModel(config, torch.Generator().manual_seed(0)).double().eval()
    book = copy.deepcopy(model).requires_grad_(False)
    replace_linear_with_lora(book, rank, alpha if form == "alpha" else alpha / rank)
    targets = [*block_matrices(model), "out_head"]
    our_alpha = alpha * rank if form == "alpha" else alpha
    stream = torch.Generator().manual_seed(2)
    ours = add_lora(model, rank, our_alpha, targets=targets, generator=stream)
    pairs = {name: (layer, book.get_submodule(name)) for name, layer in lora_layers(ours).items()}
    assert len(pairs) == sum(isinstance(m, LinearWithLoRA) for m in book.modules())
    with torch.no_grad():
        for layer, theirs in pairs.values():
            layer.lora_B.normal_(0.0, 0.1, generator=stream)
            theirs.lora.A.copy_(layer.lora_A.T)
            theirs.lora.B.copy_(layer.lora_B.T)
    batches = windows(n_batches)
    torch.testing.assert_close(ours(batches[0][0]), book(batches[0][0]))
    backward(book, batches)
    gradients = updates(ours, batches)
    for name, (_, theirs) in pairs.items():
        assert_close(gradients[f"{name}.lora_A"].T, theirs.lora.A.grad, name)
        assert_close(gradients[f"{name}.lora_B"].T, theirs.lora.B.grad, name)
        assert theirs.linear.weight.grad is None
