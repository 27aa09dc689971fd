"""Our Llama is transformers': logits, loss, gradients, answers; random weights and real ones."""

import peft
import pytest
import torch
import transformers
from chat_model import STYLE, save_small_llama, small_llama, small_tokenizer

from ch07.data.chat_dataset import encode_chat_prompt
from ch07.data.entries import load_entries
from ch07.data.toy_instructions.build import DATA_FILE
from ch07.generation.decoding import generate
from ch07.generation.respond import respond
from ch07.models.hf_export import export_hf
from ch07.models.hf_files import model_config
from ch07.models.llama import LlamaConfig, LlamaModel
from ch07.models.lora import add_lora, lora_layers
from ch07.models.parameter_names import from_published, to_published
from ch07.models.peft_format import load_adapter, save_adapter
from ch07.models.prefix_tuning import PrefixEncoder, PrefixTuned
from ch07.models.pretrained import load_model
from collate import custom_collate_response_fn
from train_loop import IGNORE_INDEX, calc_loss_batch

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is:FutureWarning")
SHAPES = [
    LlamaConfig(101, 48, 48, n_heads=6, n_kv_heads=2, n_layers=3, hidden_dim=80, rope_theta=1e4),
    LlamaConfig(
        57, 48, 32, n_heads=4, n_kv_heads=4, n_layers=2, hidden_dim=96, rope_theta=500.0,
        norm_eps=1e-2, tied_head=False,
    ),
    LlamaConfig(83, 48, 40, n_heads=5, n_kv_heads=1, n_layers=2, hidden_dim=64),
]  # fmt: skip


def peer_of(config):
    """A `LlamaForCausalLM` of that shape, as our exported config.json describes it.

    Without a padding token, whose embedding would get no gradient there.
    """
    values = {**model_config(config, end_id=0), "pad_token_id": None}
    return transformers.LlamaForCausalLM(transformers.LlamaConfig(**values)).eval()


def both(config):
    """The same weights in our model and in transformers'."""
    ours = LlamaModel(config, torch.Generator().manual_seed(1))
    with torch.no_grad():
        for weight in ours.parameters():
            weight.add_(0.1 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(2)))
    theirs = peer_of(config)
    state = to_published(dict(ours.named_parameters()), config)
    if config.tied_head:
        state["lm_head.weight"] = state["model.embed_tokens.weight"]
    theirs.load_state_dict(state)
    return ours.eval(), theirs


def close(ours, theirs, rtol=1e-4):
    scale = float(theirs.detach().abs().max())
    torch.testing.assert_close(ours.detach(), theirs.detach(), rtol=rtol, atol=rtol * scale)


def batch_of(n_tokens):
    stream = torch.Generator().manual_seed(3)
    rows = [
        (4, torch.randint(0, n_tokens, (n,), generator=stream).tolist()) for n in (20, 13, 8, 20)
    ]
    return custom_collate_response_fn(rows, pad_token_id=0)


@pytest.mark.parametrize("config", SHAPES)
def test_logits_loss_and_gradients(config):
    ours, theirs = both(config)
    inputs, targets = batch_of(config.vocab_size)
    close(ours(inputs), theirs(inputs).logits)
    # transformers shifts the labels itself
    labels = torch.cat([torch.full((len(inputs), 1), IGNORE_INDEX), targets], dim=1)
    padded = torch.cat([inputs, torch.zeros(len(inputs), 1, dtype=torch.long)], dim=1)
    their_loss = theirs(padded, labels=labels).loss
    our_loss = calc_loss_batch(inputs, targets, ours, "cpu")
    close(our_loss, their_loss)
    our_loss.backward()
    their_loss.backward()
    grads = {name: p.grad for name, p in ours.named_parameters()}
    theirs_by_name = {name: p.grad for name, p in theirs.named_parameters()}
    for name, grad in to_published(grads, config).items():
        close(grad, theirs_by_name[name])


@pytest.mark.parametrize("config", SHAPES)
def test_the_names_come_back(config):
    ours, _ = both(config)
    state = dict(ours.state_dict())
    back = from_published(to_published(state, config), config)
    assert back.keys() == state.keys()
    assert all(torch.equal(back[name], tensor) for name, tensor in state.items())


@pytest.mark.parametrize("config", SHAPES)
def test_prompts_padded_on_the_left_answer_as_theirs_alone(config):
    ours, theirs = both(config)
    stream = torch.Generator().manual_seed(4)
    prompts = [
        torch.randint(1, config.vocab_size, (n,), generator=stream).tolist() for n in (3, 9, 17)
    ]
    answers = generate(ours, prompts, 10, end_id=-1)
    for prompt, answer in zip(prompts, answers, strict=True):
        whole = theirs.generate(
            torch.tensor([prompt]), max_new_tokens=10, do_sample=False, eos_token_id=None
        )
        assert whole[0, len(prompt) :].tolist() == answer


# --- folders of transformers ----------------------------------------------------------------------
def test_a_folder_that_transformers_saved_is_read(tmp_path):
    exported = save_small_llama(tmp_path / "ours")
    theirs = transformers.AutoModelForCausalLM.from_pretrained(exported)
    tokenizer = transformers.AutoTokenizer.from_pretrained(exported)
    theirs.save_pretrained(tmp_path / "theirs")
    tokenizer.save_pretrained(tmp_path / "theirs")
    again = load_model(tmp_path / "theirs")
    ours = small_llama()
    assert again.config == ours.config
    ids = torch.arange(30)[None]
    assert torch.equal(again(ids), ours(ids))
    close(ours(ids), theirs(ids).logits)


def test_their_chat_template_writes_our_prompt(tmp_path):
    folder = save_small_llama(tmp_path / "ours")
    theirs = transformers.AutoTokenizer.from_pretrained(folder)
    ours = small_tokenizer()
    chat = {
        "system": "Be short.",
        "history": [{"instruction": "Name 12 fruits.", "output": "No."}],
        "instruction": "Why not?",
        "output": "",
    }
    for entry in (chat, {"instruction": "Say 1.", "input": "", "output": ""}):
        messages = []
        if "system" in entry:
            messages.append({"role": "system", "content": entry["system"]})
        for turn in entry.get("history", []):
            messages.append({"role": "user", "content": turn["instruction"]})
            messages.append({"role": "assistant", "content": turn["output"]})
        messages.append({"role": "user", "content": entry["instruction"]})
        ids = theirs.apply_chat_template(messages, return_dict=True)["input_ids"]
        assert list(ids) == encode_chat_prompt(entry, ours, STYLE)


# --- adapters -------------------------------------------------------------------------------------
@pytest.mark.parametrize("targets", [None, ("att.W_query", "att.W_value"), ("ff.down",)])
def test_peft_reads_our_lora_and_we_read_it_again(targets, tmp_path):
    ours, theirs = both(SHAPES[0])
    add_lora(ours, 4, 12, targets=targets, generator=torch.Generator().manual_seed(2))
    for layer in lora_layers(ours).values():
        torch.nn.init.normal_(layer.lora_B, 0.0, 0.1)
    save_adapter(tmp_path, ours)
    ids = torch.arange(11)[None]
    close(peft.PeftModel.from_pretrained(theirs, tmp_path).eval()(ids).logits, ours(ids))
    again = load_adapter(both(SHAPES[0])[0], tmp_path)
    close(again(ids), ours(ids))


def test_we_read_peft_s_lora(tmp_path):
    ours, theirs = both(SHAPES[0])
    torch.manual_seed(3)
    layers = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    adapted = peft.get_peft_model(theirs, peft.LoraConfig(r=3, target_modules=layers)).eval()
    for name, weight in adapted.named_parameters():
        if ".lora_B." in name:
            torch.nn.init.normal_(weight, 0.0, 0.1)
    adapted.save_pretrained(tmp_path)
    ids = torch.arange(11)[None]
    close(load_adapter(ours, tmp_path)(ids), adapted(ids).logits)


def test_peft_reads_our_prefix(tmp_path):
    ours, theirs = both(SHAPES[0])
    tuned = PrefixTuned(ours, PrefixEncoder(ours.config, 5, None, torch.Generator().manual_seed(1)))
    save_adapter(tmp_path, tuned.eval())
    ids = torch.arange(11)[None]
    close(peft.PeftModel.from_pretrained(theirs, tmp_path).eval()(ids).logits, tuned(ids))


# --- the real weights -----------------------------------------------------------------------------
@pytest.fixture(scope="module")
def real_peer(smollm2, tmp_path_factory):
    """The same weights in transformers, through an export."""
    folder = tmp_path_factory.mktemp("real") / "smollm2"
    vocabulary = smollm2.tokenizer.vocabulary
    export_hf(smollm2.model, folder, smollm2.style, conversations=True, vocabulary=vocabulary)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    return transformers.AutoModelForCausalLM.from_pretrained(folder).eval(), tokenizer


def questions(n):
    """Held-out questions of the bundled data, of all its families."""
    held_out = [entry for entry in load_entries(DATA_FILE) if entry.get("split") == "test"]
    return held_out[:: len(held_out) // n][:n]


@pytest.mark.slow
def test_real_weights_compute_the_same(smollm2, real_peer):
    ids = torch.tensor([smollm2.tokenizer.encode_ordinary("The capital of France is Paris. " * 4)])
    ours = smollm2.model(ids)
    theirs = real_peer[0](ids).logits
    close(ours, theirs)
    assert smollm2.model.config == LlamaConfig(), "the defaults are those of SmolLM2"
    our_loss = calc_loss_batch(ids[:, :-1], ids[:, 1:], smollm2.model, "cpu")
    their_loss = real_peer[0](ids, labels=ids).loss
    close(our_loss, their_loss)
    names = ["tok_emb.weight", "trf_blocks.0.att.W_key.weight", "trf_blocks.29.ff.down.weight"]
    weights = [smollm2.model.get_parameter(name) for name in names]
    peers = ["model.embed_tokens.weight", "model.layers.0.self_attn.k_proj.weight",
             "model.layers.29.mlp.down_proj.weight"]  # fmt: skip
    their_weights = [real_peer[0].get_parameter(name) for name in peers]
    our_grads = torch.autograd.grad(our_loss, weights)
    their_grads = torch.autograd.grad(their_loss, their_weights)
    for ours, theirs in zip(our_grads, their_grads, strict=True):
        close(ours, theirs)


@pytest.mark.slow
def test_fifty_of_fifty_real_answers_are_theirs(smollm2, real_peer):
    model, tokenizer = real_peer
    entries = questions(50)
    answers = respond(smollm2.model, smollm2.tokenizer, entries, smollm2.style, 16)
    texts = []
    for start in range(0, len(entries), 25):
        messages = [
            [{"role": "user", "content": e["instruction"], "input": e["input"]}]
            for e in entries[start : start + 25]
        ]
        batch = tokenizer.apply_chat_template(
            messages, return_dict=True, return_tensors="pt", padding=True
        )
        ids = model.generate(**batch, max_new_tokens=16, max_length=None, do_sample=False)
        new = ids[:, batch["input_ids"].shape[1] :]
        texts += tokenizer.batch_decode(new, skip_special_tokens=True)
    assert [answer.text for answer in answers] == texts
