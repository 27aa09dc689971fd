"""A larger vocabulary: new rows in the token embedding and in the output head.

A token that the model has never seen starts as the mean of the known ones, so that it is an average
token in input and output; the old rows don't change. Stanford Alpaca's
`smart_tokenizer_and_embedding_resize` (train.py) does so for its [PAD] token. Adding the token to a
tokenizer is up to the caller.
"""

from dataclasses import replace

import torch
from torch import nn

from ch07.models.architectures import BaseModel
from ch07.utils.errors import InputError


@torch.no_grad()
def smart_embedding_resize(model: BaseModel, new_vocab: int) -> BaseModel:
    """Enlarge a model in place to `new_vocab` tokens, and return it.

    New rows are the mean of the old ones, separately for embedding and output head; a tied head
    stays tied. The parameters are new objects, so create the optimizer afterwards. ValueError if
    `new_vocab` is smaller than the current vocabulary.
    """
    old_vocab = model.config.vocab_size
    if type(new_vocab) is not int or new_vocab < old_vocab:
        raise InputError(
            f"new_vocab is {new_vocab!r}, but must be an int of at least {old_vocab}, the number "
            "of tokens that the model has: rows are never removed"
        )
    if new_vocab == old_vocab:
        return model
    embedding = model.tok_emb
    head = model.out_head
    tied = head.weight is embedding.weight
    embedding.weight = _enlarge(embedding.weight, new_vocab)
    head.weight = embedding.weight if tied else _enlarge(head.weight, new_vocab)
    embedding.num_embeddings = new_vocab  # print(model) shows these two
    head.out_features = new_vocab
    model.config = replace(model.config, vocab_size=new_vocab)  # type: ignore[assignment]
    return model


def _enlarge(weight: torch.Tensor, n_rows: int) -> nn.Parameter:
    """The rows of a weight (V, C), and their mean below them until there are `n_rows`."""
    mean = weight.mean(dim=0, keepdim=True)  # (1, C)
    rows = torch.cat([weight, mean.expand(n_rows - len(weight), -1)])
    return nn.Parameter(rows, requires_grad=weight.requires_grad)
