"""All nineteen exercises solved with what PyTorch and the standard library offer."""

import contextlib
import itertools
import math
from itertools import chain, repeat

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import clip_grad_norm_
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import Dataset

from gpt_model import FeedForward, MultiHeadAttention
from train_loop import sum_loss

PREAMBLE = (
    "Below is an instruction that describes a task. "
    "Write a response that appropriately completes the request."
)
RESPONSE_HEADER = "\n\n### Response:\n"


def format_input(entry):
    parts = [PREAMBLE, f"### Instruction:\n{entry['instruction']}"]
    given = entry.get("input") or ""
    if given and not given.isspace():
        parts.append(f"### Input:\n{given}")
    return "\n\n".join(parts)


class InstructionDataset(Dataset):
    def __init__(self, data, tokenizer):
        texts = (f"{format_input(entry)}{RESPONSE_HEADER}{entry['output']}" for entry in data)
        self.encoded = list(map(tokenizer.encode_ordinary, texts))

    def __len__(self):
        return len(self.encoded)

    def __getitem__(self, index):
        return self.encoded[index]


def _rectangle(rows, fill):
    rows = [torch.as_tensor(row, dtype=torch.long) for row in rows]
    return pad_sequence(rows, batch_first=True, padding_value=fill)


def custom_collate_draft_1(batch, pad_token_id=50256, device="cpu"):
    return _rectangle(batch, pad_token_id).to(device)


def custom_collate_draft_2(batch, pad_token_id=50256, device="cpu"):
    padded = _rectangle([[*row, pad_token_id] for row in batch], pad_token_id).to(device)
    return padded[:, :-1].contiguous(), padded[:, 1:].contiguous()


def custom_collate_fn(
    batch, pad_token_id=50256, ignore_index=-100, allowed_max_length=None, device="cpu"
):
    ended = [[*row, pad_token_id] for row in batch]
    inputs = _rectangle(ended, pad_token_id)[:, :-1]
    targets = _rectangle(ended, ignore_index)[:, 1:]
    kept = slice(allowed_max_length)
    return inputs[:, kept].to(device), targets[:, kept].to(device)


def custom_collate_response_fn(
    batch, pad_token_id=50256, ignore_index=-100, allowed_max_length=None, device="cpu"
):
    prompt_lengths, rows = zip(*batch, strict=True)
    inputs, targets = custom_collate_fn(
        rows,
        pad_token_id=pad_token_id,
        ignore_index=ignore_index,
        allowed_max_length=allowed_max_length,
        device=device,
    )
    targets = targets.clone()
    for row, prompt_length in zip(targets, prompt_lengths, strict=True):
        row[: max(prompt_length - 1, 0)].fill_(ignore_index)
    return inputs, targets


def calc_loss_batch(input_batch, target_batch, model, device):
    if target_batch.eq(-100).all():
        raise ValueError("no target of this batch is counted, so there is no mean")
    logits = model(input_batch.to(device))
    return F.cross_entropy(
        logits.flatten(0, 1), target_batch.to(device).flatten(), ignore_index=-100
    )


@contextlib.contextmanager
def _evaluating(model):
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, mode in modes:
            module.training = mode


def calc_loss_loader(data_loader, model, device, num_batches=None):
    with _evaluating(model):
        results = [
            sum_loss(inputs, targets, model, device)
            for inputs, targets in itertools.islice(data_loader, num_batches)
        ]
    total = math.fsum(float(loss) for loss, _ in results)
    number = sum(number for _, number in results)
    return total / number if number else math.nan


def causal_attention(queries, keys, values):
    return F.scaled_dot_product_attention(queries, keys, values, is_causal=True)


class TransformerBlock(nn.Module):
    def __init__(self, config, layer):
        super().__init__()
        self.att = MultiHeadAttention(config, layer)
        self.ff = FeedForward(config)
        self.norm1, self.norm2 = (nn.LayerNorm(config.emb_dim) for _ in range(2))
        self.dropout = nn.Dropout(config.drop_rate)

    def forward(self, x):
        for norm, part in ((self.norm1, self.att), (self.norm2, self.ff)):
            x = x + self.dropout(part(norm(x)))
        return x


def train_step(window, model, optimizer, device, lr, settings):
    number = sum(int(torch.count_nonzero(targets != -100)) for _, targets in window)
    if not number:
        return None
    optimizer.zero_grad()
    model.zero_grad()
    mean_loss = 0.0
    for inputs, targets in window:
        share = sum_loss(inputs, targets, model, device)[0] / number
        share.backward()
        mean_loss += share.item()
    clip_grad_norm_(model.parameters(), settings.grad_clip)
    for group in optimizer.param_groups:
        group.update(lr=lr)
    optimizer.step()
    optimizer.zero_grad()
    model.zero_grad()
    return mean_loss


def generate(model, prompts, max_new_tokens, end_id=50256):
    device = next(model.parameters()).device
    answers = [[] for _ in prompts]
    by_length = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
    with _evaluating(model):
        for length, group in itertools.groupby(by_length, key=lambda i: len(prompts[i])):
            group = list(group)
            ids = torch.tensor([prompts[i] for i in group], device=device)
            ended = torch.zeros(len(group), dtype=torch.bool, device=device)
            for _ in range(min(max_new_tokens, model.config.context_length - length)):
                newest = model(ids)[:, -1].argmax(dim=-1, keepdim=True)
                ids = torch.cat([ids, newest], dim=1)
                ended |= newest.squeeze(1).eq(end_id)
                if ended.all():
                    break
            for i, row in zip(group, ids[:, length:].tolist(), strict=True):
                answers[i] = list(itertools.takewhile(lambda new_id: new_id != end_id, row))
    return answers


class KVCache:
    def __init__(self, n_layers, max_length):
        self.n_layers = n_layers
        self.max_length = max_length
        self.length = 0
        self.stored = {}  # layer -> (keys, values)

    def extend(self, layer, keys, values):
        new_length = self.length + keys.size(2)
        if new_length > self.max_length:
            raise ValueError(f"{new_length} columns in a cache of {self.max_length}")
        if self.length:
            old_keys, old_values = (part.narrow(2, 0, self.length) for part in self.stored[layer])
            keys = torch.cat([old_keys, keys], dim=2)
            values = torch.cat([old_values, values], dim=2)
        self.stored[layer] = keys, values
        if layer == self.n_layers - 1:
            self.length = new_length
        return keys, values


def sum_loss_with_shared_beginning(input_batch, target_batch, model, device):
    inputs = input_batch.to(device)
    targets = target_batch.to(device)
    B, T = inputs.shape
    differs = ((inputs != inputs[0]) | (targets != targets[0])).any(dim=0).tolist()
    P = differs.index(True) if any(differs) else T
    cache = model.new_cache(T)
    beginning = model(inputs[:1, :P], cache=cache)
    cache.keep(torch.zeros(B, dtype=torch.long, device=device))
    rests = model(inputs[:, P:], cache=cache)
    logits = torch.cat([beginning.expand(B, -1, -1), rests], dim=1)
    loss = F.cross_entropy(logits.transpose(1, 2), targets, reduction="sum")
    return loss, torch.count_nonzero(targets != -100).item()


def join_turns(turns, end_id=50256):
    parts = [[(prompt, False), ([*answer, end_id], counts)] for prompt, answer, counts in turns]
    pairs = list(chain.from_iterable(parts))
    ids = list(chain.from_iterable(part for part, _ in pairs))
    counted = list(chain.from_iterable(repeat(flag, len(part)) for part, flag in pairs))
    return ids, counted


class RMSNorm(nn.RMSNorm):
    """PyTorch's own, whose other argument is optional there."""

    def __init__(self, emb_dim, eps=1e-5):
        super().__init__(emb_dim, eps)


def rotate(x, positions, theta):
    """Each pair is a complex number, which is multiplied by one of length 1."""
    pairs = torch.complex(*x.float().chunk(2, dim=-1))
    speeds = theta ** -torch.linspace(0, 1, pairs.shape[-1] + 1, device=x.device)[:-1]
    angles = positions.unsqueeze(1).unsqueeze(-1) * speeds
    turned = torch.view_as_real(pairs * torch.polar(torch.ones_like(angles), angles))
    return torch.cat(turned.unbind(dim=-1), dim=-1).type_as(x)


def grouped_query_attention(queries, keys, values):
    return F.scaled_dot_product_attention(queries, keys, values, is_causal=True, enable_gqa=True)


class SwiGLU(nn.ModuleDict):
    def __init__(self, config):
        wide = config.hidden_dim
        super().__init__(
            {
                "gate": nn.Linear(config.emb_dim, wide, bias=False),
                "up": nn.Linear(config.emb_dim, wide, bias=False),
                "down": nn.Linear(wide, config.emb_dim, bias=False),
            }
        )

    def forward(self, x):
        return self["down"](torch.mul(F.silu(self["gate"](x)), self["up"](x)))
