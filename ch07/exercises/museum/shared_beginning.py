"""Exhibits on a beginning that all rows share: read once, but not as if in each row."""

import torch
import torch.nn.functional as F

from ch07.exercises.museum.exhibit import exhibit
from gpt_model import KVCache


@exhibit(
    "sum_loss_with_shared_beginning",
    "beginning-detached",
    "A user wanted to compute the keys and values of a long prefix before training and reuse them; "
    "a maintainer asked how gradients would reach them (peft#1627).",
    "https://github.com/huggingface/peft/issues/1627",
)
def reads_the_beginning_without_gradients(input_batch, target_batch, model, device):
    """The loss is right, but nothing is learned about the beginning, to which all rows attend."""
    B, T = input_batch.shape
    inputs = input_batch.to(device)
    targets = target_batch.to(device)
    same = ((inputs == inputs[0]) & (targets == targets[0])).all(dim=0)
    P = int(same.long().cumprod(dim=0).sum())
    cache = model.new_cache(T)
    with torch.no_grad():
        beginning = model(inputs[:1, :P], cache=cache)
    cache.keep(torch.zeros(B, dtype=torch.long, device=device))
    rests = model(inputs[:, P:], cache=cache)
    loss = B * F.cross_entropy(beginning[0], targets[0, :P], reduction="sum")
    loss = loss + F.cross_entropy(rests.flatten(0, 1), targets[:, P:].flatten(), reduction="sum")
    return loss, int((targets != -100).sum())


@exhibit(
    "sum_loss_with_shared_beginning",
    "positions-restart",
    "vllm-metal restored the keys and values of a cached prefix without its length, so tokens "
    "after it could get positions from 0 on (vllm-metal#144).",
    "https://github.com/vllm-project/vllm-metal/pull/144",
)
def numbers_the_rests_from_zero(input_batch, target_batch, model, device):
    """The rests attend to the beginning, but have positions as if each began a text."""

    class Cache(KVCache):
        def positions_and_mask(self, token_ids, left_padding=None):
            _, mask = super().positions_and_mask(token_ids, left_padding)
            return torch.arange(token_ids.shape[1], device=token_ids.device), mask

    B, T = input_batch.shape
    inputs = input_batch.to(device)
    targets = target_batch.to(device)
    same = ((inputs == inputs[0]) & (targets == targets[0])).all(dim=0)
    P = int(same.long().cumprod(dim=0).sum())
    cache = Cache(model.config.n_layers, T)
    beginning = model(inputs[:1, :P], cache=cache)
    cache.keep(torch.zeros(B, dtype=torch.long, device=device))
    rests = model(inputs[:, P:], cache=cache)
    loss = B * F.cross_entropy(beginning[0], targets[0, :P], reduction="sum")
    loss = loss + F.cross_entropy(rests.flatten(0, 1), targets[:, P:].flatten(), reduction="sum")
    return loss, int((targets != -100).sum())


@exhibit(
    "sum_loss_with_shared_beginning",
    "beginning-unseen",
    "Qwen's ParScale put a learned prefix before each text but masked it out, so no token could "
    "attend to it, until a reader changed the mask's zeros to ones (ParScale#11).",
    "https://github.com/QwenLM/ParScale/pull/11",
)
def reads_the_rests_without_the_cache(input_batch, target_batch, model, device):
    """The rests are read as texts of their own, so no answer depends on its instruction."""
    B = len(input_batch)
    inputs = input_batch.to(device)
    targets = target_batch.to(device)
    same = ((inputs == inputs[0]) & (targets == targets[0])).all(dim=0)
    P = int(same.long().cumprod(dim=0).sum())
    beginning = model(inputs[:1, :P])
    rests = model(inputs[:, P:])
    loss = B * F.cross_entropy(beginning[0], targets[0, :P], reduction="sum")
    loss = loss + F.cross_entropy(rests.flatten(0, 1), targets[:, P:].flatten(), reduction="sum")
    return loss, int((targets != -100).sum())


@exhibit(
    "sum_loss_with_shared_beginning",
    "rests-see-each-other",
    "TRL packed short rows into one, in which each could attend to those before it; a user whose "
    "results got worse asked for packing without contamination (trl#1230).",
    "https://github.com/huggingface/trl/issues/1230",
)
def puts_all_rests_into_one_row(input_batch, target_batch, model, device):
    """One row holds the beginning and all rests, so a rest attends to the answers before it."""
    B = len(input_batch)
    inputs = input_batch.to(device)
    targets = target_batch.to(device)
    same = ((inputs == inputs[0]) & (targets == targets[0])).all(dim=0)
    P = int(same.long().cumprod(dim=0).sum())
    row = torch.cat([inputs[0, :P], inputs[:, P:].flatten()])
    logits = model(row[None])[0]
    loss = B * F.cross_entropy(logits[:P], targets[0, :P], reduction="sum")
    loss = loss + F.cross_entropy(logits[P:], targets[:, P:].flatten(), reduction="sum")
    return loss, int((targets != -100).sum())


@exhibit(
    "sum_loss_with_shared_beginning",
    "beginning-counted-once",
    "TRL's tree packing reads shared tokens once; its description warns that only the forward "
    "pass is shared and that targets are not (trl#7328).",
    "https://github.com/huggingface/trl/pull/7328",
)
def counts_the_beginning_once(input_batch, target_batch, model, device):
    """The targets of the beginning count once instead of once per row: they hardly matter."""
    B, T = input_batch.shape
    inputs = input_batch.to(device)
    targets = target_batch.to(device)
    same = ((inputs == inputs[0]) & (targets == targets[0])).all(dim=0)
    P = int(same.long().cumprod(dim=0).sum())
    cache = model.new_cache(T)
    beginning = model(inputs[:1, :P], cache=cache)
    cache.keep(torch.zeros(B, dtype=torch.long, device=device))
    rests = model(inputs[:, P:], cache=cache)
    loss = F.cross_entropy(beginning[0], targets[0, :P], reduction="sum")
    loss = loss + F.cross_entropy(rests.flatten(0, 1), targets[:, P:].flatten(), reduction="sum")
    return loss, int((targets != -100).sum())


@exhibit(
    "sum_loss_with_shared_beginning",
    "targets-of-one-row",
    "BigScience's prefix language model was one token off: the last token of a prefix has to "
    "predict the first one after it (Megatron-DeepSpeed#167).",
    "https://github.com/bigscience-workshop/Megatron-DeepSpeed/pull/167",
)
def shares_a_token_whose_target_differs(input_batch, target_batch, model, device):
    """The last common token is shared with its target, so all rows learn the first row's answer."""
    B, T = input_batch.shape
    inputs = input_batch.to(device)
    targets = target_batch.to(device)
    same = (inputs == inputs[0]).all(dim=0)
    P = int(same.long().cumprod(dim=0).sum())
    cache = model.new_cache(T)
    beginning = model(inputs[:1, :P], cache=cache)
    cache.keep(torch.zeros(B, dtype=torch.long, device=device))
    rests = model(inputs[:, P:], cache=cache)
    loss = B * F.cross_entropy(beginning[0], targets[0, :P], reduction="sum")
    loss = loss + F.cross_entropy(rests.flatten(0, 1), targets[:, P:].flatten(), reduction="sum")
    return loss, int((targets != -100).sum())
