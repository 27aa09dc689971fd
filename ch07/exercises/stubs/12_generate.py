"""Exercise 12: the model answers (the book's section 5.1, and 7.5)."""

import torch


def generate(model, prompts, max_new_tokens, end_id=50256):
    """New token ids for each prompt, the likeliest one at each step: a list of lists.

    `prompts` is a list of lists of ids, of any lengths; `model(token_ids)` takes ids (B, T) and
    returns logits (B, T, V). Only new ids are returned, without `end_id`. A row stops at its own
    `end_id`, after `max_new_tokens`, or when prompt and new ids fill `model.config.context_length`;
    the beginning of a prompt is never dropped (each prompt fits, and has at least one token). An
    answer doesn't depend on the other prompts: one prompt after the other is fine here. The model
    runs in evaluation mode, without gradients, and is afterwards in the mode that it was in.
    """
    raise NotImplementedError
