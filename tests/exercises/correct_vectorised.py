"""All nineteen exercises solved with index arithmetic, masks and preallocated tensors."""

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import Dataset

from gpt_model import FeedForward, MultiHeadAttention
from gpt_model import KVCache as ModelCache
from train_loop import sum_loss

PREAMBLE = (
    "Below is an instruction that describes a task. "
    "Write a response that appropriately completes the request."
)
RESPONSE_HEADER = "\n\n### Response:\n"
TEMPLATES = {
    False: PREAMBLE + "\n\n### Instruction:\n{}",
    True: PREAMBLE + "\n\n### Instruction:\n{}\n\n### Input:\n{}",
}


def format_input(entry):
    given = entry.get("input") or ""
    return TEMPLATES[bool(given.strip())].format(entry["instruction"], given)


class InstructionDataset(Dataset):
    """One long tensor of ids, and where each row begins and ends."""

    def __init__(self, data, tokenizer):
        rows = [
            tokenizer.encode_ordinary(format_input(entry) + RESPONSE_HEADER + entry["output"])
            for entry in data
        ]
        self.flat = torch.tensor([token for row in rows for token in row], dtype=torch.int64)
        lengths = torch.tensor([0] + [len(row) for row in rows])
        self.bounds = lengths.cumsum(0).tolist()

    def __len__(self):
        return len(self.bounds) - 1

    def __getitem__(self, index):
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        index %= len(self)
        return self.flat[self.bounds[index] : self.bounds[index + 1]].tolist()


def _fill(batch, width, fill):
    """The rows in a (B, width) tensor, and a column (B, 1) of their lengths."""
    lengths = torch.tensor([len(row) for row in batch]).unsqueeze(1)
    filled = torch.full((len(batch), width), fill, dtype=torch.int64)
    flat = torch.tensor([token for row in batch for token in row], dtype=torch.int64)
    filled[torch.arange(width) < lengths] = flat
    return filled, lengths


def custom_collate_draft_1(batch, pad_token_id=50256, device="cpu"):
    return _fill(batch, max(map(len, batch)), pad_token_id)[0].to(device)


def custom_collate_draft_2(batch, pad_token_id=50256, device="cpu"):
    width = max(map(len, batch))
    columns = torch.arange(width)
    filled = _fill(batch, width + 1, pad_token_id)[0].to(device)
    return filled[:, columns], filled[:, columns + 1]


def custom_collate_fn(
    batch, pad_token_id=50256, ignore_index=-100, allowed_max_length=None, device="cpu"
):
    width = max(map(len, batch))
    filled, lengths = _fill(batch, width + 1, pad_token_id)
    if allowed_max_length is not None:
        width = min(width, allowed_max_length)
    columns = torch.arange(width)
    targets = torch.where(columns < lengths, filled[:, columns + 1], ignore_index)
    return filled[:, columns].to(device), targets.to(device)


def custom_collate_response_fn(
    batch, pad_token_id=50256, ignore_index=-100, allowed_max_length=None, device="cpu"
):
    inputs, targets = custom_collate_fn(
        [token_ids for _, token_ids in batch],
        pad_token_id,
        ignore_index,
        allowed_max_length,
        device,
    )
    prompt_lengths = torch.tensor([length for length, _ in batch], device=targets.device)
    predicted = torch.arange(targets.shape[1], device=targets.device) + 1  # each column's token
    in_prompt = predicted < prompt_lengths[:, None]
    return inputs, targets.masked_fill(in_prompt, ignore_index)


def calc_loss_batch(input_batch, target_batch, model, device):
    inputs = input_batch.to(device)
    targets = target_batch.to(device)
    row, column = torch.nonzero(targets != -100, as_tuple=True)
    if row.numel() == 0:
        raise ValueError("every target of the batch is -100")
    logits = model(inputs)[row, column]  # (N, V)
    right = logits.gather(1, targets[row, column, None]).squeeze(1)
    return (logits.logsumexp(dim=-1) - right).mean()


def calc_loss_loader(data_loader, model, device, num_batches=None):
    modules = list(model.modules())
    modes = [module.training for module in modules]
    pairs = []
    try:
        model.eval()
        with torch.no_grad():
            if num_batches is not None:
                data_loader = (pair for _, pair in zip(range(num_batches), data_loader))  # noqa: B905
            for inputs, targets in data_loader:
                loss, number = sum_loss(inputs, targets, model, device)
                pairs.append((loss.item(), number))
    finally:
        for module, mode in zip(modules, modes, strict=True):
            module.training = mode
    total, number = torch.tensor(pairs, dtype=torch.float64).reshape(-1, 2).sum(dim=0)
    return (total / number).item()


def causal_attention(queries, keys, values):
    n_tokens, head_size = queries.shape[-2:]
    position = torch.arange(n_tokens, device=queries.device)
    future = position[None, :] > position[:, None]
    scores = torch.einsum("bhid,bhjd->bhij", queries, keys) * head_size**-0.5
    weights = scores.masked_fill(future, -torch.inf).softmax(dim=-1)
    return torch.einsum("bhij,bhjd->bhid", weights, values)


class TransformerBlock(nn.Module):
    def __init__(self, config, layer):
        super().__init__()
        self.drop_rate = config.drop_rate
        self.ff = FeedForward(config)
        self.norm2 = nn.LayerNorm(config.emb_dim)
        self.att = MultiHeadAttention(config, layer)
        self.norm1 = nn.LayerNorm(config.emb_dim)

    def forward(self, x):
        h = x + F.dropout(self.att(self.norm1(x)), self.drop_rate, self.training)
        return h + F.dropout(self.ff(self.norm2(h)), self.drop_rate, self.training)


def train_step(window, model, optimizer, device, lr, settings):
    results = [
        sum_loss(inputs, targets, model, device)
        for inputs, targets in window
        if (targets != -100).any()
    ]
    if not results:
        return None
    mean_loss = torch.stack([loss for loss, _ in results]).sum() / sum(n for _, n in results)

    parameters = [p for p in model.parameters() if p.requires_grad]
    gradients = torch.autograd.grad(mean_loss, parameters, allow_unused=True)
    squares = torch.stack([g.square().sum() for g in gradients if g is not None])
    length = squares.sum().sqrt()
    scale = torch.where(length > settings.grad_clip, settings.grad_clip / length, 1.0)

    model.zero_grad()
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad = None if gradient is None else gradient * scale
    for group in optimizer.param_groups:
        group["lr"] = lr
    optimizer.step()
    model.zero_grad()
    return mean_loss.detach()


def generate(model, prompts, max_new_tokens, end_id=50256):
    """All prompts in one rectangle, filled on the right: a causal model looks back only."""
    if not prompts:
        return []
    device = next(model.parameters()).device
    starts = torch.tensor([len(prompt) for prompt in prompts], device=device)
    limits = (starts + max_new_tokens).clamp(max=model.config.context_length)
    width = int(torch.maximum(starts, limits).max())
    ids = torch.zeros(len(prompts), width, dtype=torch.int64, device=device)
    inside = torch.arange(width, device=device) < starts[:, None]
    ids[inside] = torch.tensor(
        [i for prompt in prompts for i in prompt], dtype=torch.int64, device=device
    )

    modules = list(model.modules())
    modes = [module.training for module in modules]
    lengths = starts.clone()
    running = starts < limits
    try:
        model.eval()
        with torch.no_grad():
            while running.any():
                row = running.nonzero().squeeze(1)
                last = lengths[row] - 1
                logits = model(ids[row, : int(last.max()) + 1])
                newest = logits[torch.arange(len(row), device=device), last].argmax(dim=-1)
                going_on = newest != end_id
                row = row[going_on]
                newest = newest[going_on]
                ids[row, lengths[row]] = newest
                lengths[row] += 1
                running = torch.zeros_like(running)
                running[row] = lengths[row] < limits[row]
    finally:
        for module, mode in zip(modules, modes, strict=True):
            module.training = mode
    spans = zip(ids.tolist(), starts.tolist(), lengths.tolist(), strict=True)
    return [row[start:end] for row, start, end in spans]


class KVCache:
    def __init__(self, n_layers, max_length):
        self.n_layers = n_layers
        self.max_length = max_length
        self.length = 0
        self.rooms = [None] * n_layers  # per layer (2, B, H, max_length, D)

    def extend(self, layer, keys, values):
        B, H, T, D = keys.shape
        begin = self.length
        end = self.length + T
        if end > self.max_length:
            raise ValueError(f"column {end} of a cache with {self.max_length} columns")
        if begin == 0:
            self.rooms[layer] = keys.new_empty(2, B, H, self.max_length, D)
        room = self.rooms[layer]
        room[0, :, :, begin:end] = keys
        room[1, :, :, begin:end] = values
        if layer == self.n_layers - 1:
            self.length = end
        return room[0, :, :, :end], room[1, :, :, :end]


class OneLongRow(ModelCache):
    """Nothing is stored: all tokens are in one row, and a mask keeps the rests apart."""

    def __init__(self, n_shared, n_rows, n_columns):
        super().__init__(0, 0)
        rest = torch.arange(n_shared, n_columns)
        self.positions = torch.cat([torch.arange(n_shared), rest.repeat(n_rows)])
        owner = torch.arange(n_rows).repeat_interleave(len(rest))
        self.owner = torch.cat([torch.full((n_shared,), -1), owner])  # -1: the beginning

    def extend(self, layer, keys, values):
        return keys, values

    def positions_and_mask(self, token_ids, left_padding=None):
        owner = self.owner.to(token_ids.device)
        visible = (owner == -1) | (owner == owner[:, None])
        return self.positions.to(token_ids.device), visible.tril()


def sum_loss_with_shared_beginning(input_batch, target_batch, model, device):
    n_rows, n_columns = input_batch.shape
    both = torch.stack([input_batch, target_batch])
    n_shared = int((both == both[:, :1]).all(dim=0).all(dim=0).long().cumprod(dim=0).sum())
    beginning = both[:, 0, :n_shared]
    inputs, targets = torch.cat([beginning, both[:, :, n_shared:].flatten(1)], dim=1).to(device)
    logits = model(inputs[None], cache=OneLongRow(n_shared, n_rows, n_columns))[0]
    times = torch.ones(len(targets), device=device)
    times[:n_shared] = n_rows
    losses = F.cross_entropy(logits, targets, reduction="none")
    return losses @ times, int((times.long() * (targets != -100)).sum())


def join_turns(turns, end_id=50256):
    sizes = torch.tensor([n for prompt, answer, _ in turns for n in (len(prompt), len(answer) + 1)])
    flags = torch.tensor([flag for _, _, counts in turns for flag in (False, counts)])
    ids = torch.cat([torch.tensor([*p, *a, end_id], dtype=torch.long) for p, a, _ in turns])
    return ids.tolist(), flags.repeat_interleave(sizes).tolist()


class RMSNorm(nn.Module):
    def __init__(self, emb_dim, eps=1e-5):
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(emb_dim))

    def forward(self, x):
        wide = x.double()
        mean_square = torch.einsum("...c,...c->...", wide, wide)[..., None] / x.shape[-1]
        return (self.weight * wide * (mean_square + self.eps) ** -0.5).to(x.dtype)


def rotate(x, positions, theta):
    """One rotation matrix (D, D) per token, with four diagonals."""
    D = x.shape[-1]
    i = torch.arange(D // 2, device=x.device)
    angles = positions.double()[..., None] * theta ** (-2 * i / D)
    matrices = angles.new_zeros(*positions.shape, D, D)
    matrices[..., i, i] = angles.cos()
    matrices[..., i, i + D // 2] = -angles.sin()
    matrices[..., i + D // 2, i] = angles.sin()
    matrices[..., i + D // 2, i + D // 2] = angles.cos()
    return torch.einsum("btij,bhtj->bhti", matrices, x.double()).to(x.dtype)


def grouped_query_attention(queries, keys, values):
    B, H, T, D = queries.shape
    G = keys.shape[1]
    grouped = queries.reshape(B, G, H // G, T, D)
    position = torch.arange(T, device=queries.device)
    future = position[None, :] > position[:, None]
    scores = torch.einsum("bgrid,bgjd->bgrij", grouped, keys) * D**-0.5
    weights = scores.masked_fill(future, -torch.inf).softmax(dim=-1)
    return torch.einsum("bgrij,bgjd->bgrid", weights, values).reshape(B, H, T, D)


class SwiGLU(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.gate = nn.Linear(config.emb_dim, config.hidden_dim, bias=False)
        self.up = nn.Linear(config.emb_dim, config.hidden_dim, bias=False)
        self.down = nn.Linear(config.hidden_dim, config.emb_dim, bias=False)

    def forward(self, x):
        gate, up = F.linear(x, torch.cat([self.gate.weight, self.up.weight])).chunk(2, dim=-1)
        return (gate * gate.sigmoid() * up) @ self.down.weight.T
