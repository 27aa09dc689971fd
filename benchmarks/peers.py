"""The benchmarks' peers: the book's own code and transformers, with this project's weights.

The one idea: a peer is used as its own documentation shows it, neither slowed down nor tuned; all
get the same weights and must compute the same loss.
"""

import importlib.util
from dataclasses import asdict

import torch
from torch.utils.data import DataLoader

from ch07.models.parameter_names import plain_name, to_published

END = 50256
PACKAGES = ("llms_from_scratch", "transformers")  # the book's own code, and Hugging Face's


def require_peers():
    """End with a sentence if a peer is not installed."""
    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise SystemExit(
            f"Not installed: {', '.join(missing)}. The peers come with:\n"
            "  python -m pip install -r requirements-dev.txt\n"
            "  python -m pip install --no-deps -r requirements-bench.txt"
        )


def book_model(model):
    """The book's GPTModel (`llms_from_scratch.ch04`) with the weights of ours.

    Its output head has weights of its own, a copy of the embedding, as in the book.
    """
    from llms_from_scratch.ch04 import GPTModel

    peer, ours = GPTModel(asdict(model.config)), model.state_dict()
    with torch.no_grad():
        for name, weight in peer.named_parameters():
            weight.copy_(ours[plain_name(name)])
    return peer


def hf_model(model):
    """`GPT2LMHeadModel` with the weights of ours."""
    import transformers

    c = model.config
    rate = c.drop_rate
    peer = transformers.GPT2LMHeadModel(
        transformers.GPT2Config(
            vocab_size=c.vocab_size, n_positions=c.context_length, n_embd=c.emb_dim,
            n_head=c.n_heads, n_layer=c.n_layers, resid_pdrop=rate, embd_pdrop=rate,
            attn_pdrop=rate, bos_token_id=END, eos_token_id=END, pad_token_id=END,
        )
    )  # fmt: skip
    peer.transformer.load_state_dict(to_published(model.state_dict(), c))
    return peer


def book_loader(rows, batch_size, generator):
    """(inputs, targets) as in the book's chapter 7: shuffled, padded to the longest."""
    from llms_from_scratch.ch07 import custom_collate_fn

    options = {"shuffle": True, "drop_last": True, "generator": generator}
    return DataLoader(rows, batch_size, collate_fn=custom_collate_fn, **options)


def hf_loader(rows, batch_size, generator):
    """Dicts as `DataCollatorForSeq2Seq` makes them: shuffled, padded to the longest."""
    from transformers import DataCollatorForSeq2Seq

    features = [{"input_ids": [*row, END], "labels": [*row, END]} for row in rows]
    collator = DataCollatorForSeq2Seq(padding_tokenizer(), label_pad_token_id=-100)
    options = {"shuffle": True, "generator": generator}
    return DataLoader(features, batch_size, collate_fn=collator, **options)


def padding_tokenizer():
    """A transformers tokenizer used only for padding: the rows are already token ids."""
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    words = Tokenizer(models.WordLevel({"<|endoftext|>": END}, unk_token="<|endoftext|>"))
    return PreTrainedTokenizerFast(
        tokenizer_object=words, eos_token="<|endoftext|>", pad_token="<|endoftext|>"
    )


def hf_loss(model, batch, dtype="float32"):
    """The mean loss as computed by transformers."""
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype == "bfloat16"):
        return model(**batch).loss
