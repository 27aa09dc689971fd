"""A vocabulary that grows: new rows for new tokens, in the embedding and in the output head.

The one idea: a token that the model has never seen starts as the mean of those that it knows, so
that it is neither louder nor stranger than they are; what was there stays as it is. Stanford
Alpaca's `smart_tokenizer_and_embedding_resize` (train.py) does so for its [PAD]. Knows nothing of
tokenizers: whoever adds a token says which id it has.
"""

from dataclasses import replace

import torch
from torch import nn


@torch.no_grad()
def smart_embedding_resize(model, new_vocab):
    """Grow a `GPTModel` in place to `new_vocab` tokens; the model.

    New rows are the mean of the old ones, in input and output each; a tied head stays tied. The
    parameters are new objects: make the optimizer afterwards. ValueError if tokens would be lost.
    """
    old_vocab = model.config.vocab_size
    if type(new_vocab) is not int or new_vocab < old_vocab:
        raise ValueError(
            f"new_vocab is {new_vocab!r}, but must be an int, at least the {old_vocab} tokens that "
            "the model has: rows are never taken away"
        )
    if new_vocab == old_vocab:
        return model
    emb, head = model.tok_emb, model.out_head
    tied = head.weight is emb.weight
    emb.weight = _grown(emb.weight, new_vocab)
    head.weight = emb.weight if tied else _grown(head.weight, new_vocab)
    emb.num_embeddings = head.out_features = new_vocab  # what print(model) shows
    model.config = replace(model.config, vocab_size=new_vocab)
    return model


def _grown(weight, n_rows):
    """The rows of a weight (V, C), and below them their mean until there are `n_rows`."""
    mean = weight.mean(dim=0, keepdim=True)  # (1, C)
    rows = torch.cat([weight, mean.expand(n_rows - len(weight), -1)])
    return nn.Parameter(rows, requires_grad=weight.requires_grad)
