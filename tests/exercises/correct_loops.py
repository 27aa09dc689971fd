"""All nineteen exercises solved with plain loops and lists."""

import math

import torch
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


def format_input(entry):
    text = PREAMBLE
    text += "\n\n### Instruction:\n" + entry["instruction"]
    if "input" in entry and entry["input"] is not None and entry["input"].strip() != "":
        text += "\n\n### Input:\n" + entry["input"]
    return text


class InstructionDataset(Dataset):
    def __init__(self, data, tokenizer):
        self.rows = []
        for entry in data:
            text = format_input(entry) + RESPONSE_HEADER + entry["output"]
            self.rows.append(tokenizer.encode_ordinary(text))

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, index):
        return self.rows[index]


def custom_collate_draft_1(batch, pad_token_id=50256, device="cpu"):
    longest = 0
    for row in batch:
        if len(row) > longest:
            longest = len(row)
    padded = []
    for row in batch:
        new_row = list(row)
        while len(new_row) < longest:
            new_row.append(pad_token_id)
        padded.append(new_row)
    return torch.tensor(padded, dtype=torch.int64, device=device)


def custom_collate_draft_2(batch, pad_token_id=50256, device="cpu"):
    longest = 0
    for row in batch:
        if len(row) > longest:
            longest = len(row)
    inputs = []
    targets = []
    for row in batch:
        new_row = list(row)
        new_row.append(pad_token_id)
        while len(new_row) < longest + 1:
            new_row.append(pad_token_id)
        inputs.append(new_row[:-1])
        targets.append(new_row[1:])
    inputs = torch.tensor(inputs, dtype=torch.int64, device=device)
    targets = torch.tensor(targets, dtype=torch.int64, device=device)
    return inputs, targets


def custom_collate_fn(
    batch, pad_token_id=50256, ignore_index=-100, allowed_max_length=None, device="cpu"
):
    longest = 0
    for row in batch:
        if len(row) > longest:
            longest = len(row)
    inputs = []
    targets = []
    for row in batch:
        input_row = list(row)
        target_row = list(row[1:])
        if len(row) > 0:
            target_row.append(pad_token_id)
        while len(input_row) < longest:
            input_row.append(pad_token_id)
        while len(target_row) < longest:
            target_row.append(ignore_index)
        if allowed_max_length is not None:
            input_row = input_row[:allowed_max_length]
            target_row = target_row[:allowed_max_length]
        inputs.append(input_row)
        targets.append(target_row)
    inputs = torch.tensor(inputs, dtype=torch.int64, device=device)
    targets = torch.tensor(targets, dtype=torch.int64, device=device)
    return inputs, targets


def custom_collate_response_fn(
    batch, pad_token_id=50256, ignore_index=-100, allowed_max_length=None, device="cpu"
):
    rows = []
    for _, token_ids in batch:
        rows.append(token_ids)
    inputs, targets = custom_collate_fn(
        rows, pad_token_id, ignore_index, allowed_max_length, device
    )
    for row in range(len(batch)):
        prompt_length = batch[row][0]
        for i in range(targets.shape[1]):
            if i + 1 < prompt_length:  # the token that position i predicts is in the prompt
                targets[row, i] = ignore_index
    return inputs, targets


def calc_loss_batch(input_batch, target_batch, model, device):
    input_batch = input_batch.to(device)
    target_batch = target_batch.to(device)
    log_probs = torch.log_softmax(model(input_batch), dim=-1)
    total = 0
    count = 0
    rows, columns = target_batch.shape
    for b in range(rows):
        for t in range(columns):
            target = target_batch[b, t].item()
            if target != -100:
                total = total - log_probs[b, t, target]
                count += 1
    if count == 0:
        raise ValueError("there is no target to count in this batch")
    return total / count


def calc_loss_loader(data_loader, model, device, num_batches=None):
    was_training = model.training
    model.eval()
    total = 0.0
    count = 0
    try:
        with torch.no_grad():
            batches = iter(data_loader)
            done = 0
            while num_batches is None or done < num_batches:
                try:
                    input_batch, target_batch = next(batches)
                except StopIteration:
                    break
                loss, number = sum_loss(input_batch, target_batch, model, device)
                total += loss.item()
                count += number
                done += 1
    finally:
        model.train(was_training)
    if count == 0:
        raise ValueError("there is no target to count in these batches")
    return total / count


def causal_attention(queries, keys, values):
    n_tokens = queries.shape[2]
    head_size = queries.shape[3]
    results = []
    for i in range(n_tokens):
        query = queries[:, :, i]  # (B, H, D)
        scores = []
        for j in range(i + 1):
            scores.append((query * keys[:, :, j]).sum(dim=-1) / math.sqrt(head_size))
        weights = torch.softmax(torch.stack(scores, dim=-1), dim=-1)  # (B, H, i + 1)
        result = torch.zeros_like(query)
        for j in range(i + 1):
            result = result + weights[:, :, j].unsqueeze(-1) * values[:, :, j]
        results.append(result)
    return torch.stack(results, dim=2)


class TransformerBlock(nn.Module):
    def __init__(self, config, layer):
        super().__init__()
        self.norm1 = nn.LayerNorm(config.emb_dim)
        self.norm2 = nn.LayerNorm(config.emb_dim)
        self.att = MultiHeadAttention(config, layer)
        self.ff = FeedForward(config)
        self.drop_att = nn.Dropout(config.drop_rate)
        self.drop_ff = nn.Dropout(config.drop_rate)

    def forward(self, x):
        shortcut = x
        x = self.norm1(x)
        x = self.att(x)
        x = self.drop_att(x)
        x = x + shortcut

        shortcut = x
        x = self.norm2(x)
        x = self.ff(x)
        x = self.drop_ff(x)
        x = x + shortcut
        return x


def train_step(window, model, optimizer, device, lr, settings):
    n_targets = 0
    for _, target_batch in window:
        for row in target_batch.tolist():
            for target in row:
                if target != -100:
                    n_targets += 1
    if n_targets == 0:
        return None

    model.zero_grad()
    total = 0.0
    for input_batch, target_batch in window:
        loss, number = sum_loss(input_batch, target_batch, model, device)
        if number > 0:
            loss.backward()
            total += loss.item()

    # So far these are the gradients of the sum.
    squares = 0.0
    for parameter in model.parameters():
        if parameter.grad is not None:
            parameter.grad /= n_targets
            squares += (parameter.grad**2).sum().item()
    length = math.sqrt(squares)
    if length > settings.grad_clip:
        for parameter in model.parameters():
            if parameter.grad is not None:
                parameter.grad *= settings.grad_clip / length

    for group in optimizer.param_groups:
        group["lr"] = lr
    optimizer.step()
    model.zero_grad()
    return total / n_targets


def generate(model, prompts, max_new_tokens, end_id=50256):
    was_training = model.training
    model.eval()
    device = next(model.parameters()).device
    answers = []
    try:
        with torch.no_grad():
            for prompt in prompts:
                new_ids = []
                while len(new_ids) < max_new_tokens:
                    ids = list(prompt) + new_ids
                    if len(ids) >= model.config.context_length:
                        break
                    logits = model(torch.tensor([ids], device=device))
                    likeliest = torch.argmax(logits[0, -1]).item()
                    if likeliest == end_id:
                        break
                    new_ids.append(likeliest)
                answers.append(new_ids)
    finally:
        model.train(was_training)
    return answers


class KVCache:
    def __init__(self, n_layers, max_length):
        self.n_layers = n_layers
        self.max_length = max_length
        self.length = 0
        self.key_columns = []
        self.value_columns = []
        for _ in range(n_layers):
            self.key_columns.append([])
            self.value_columns.append([])

    def extend(self, layer, keys, values):
        n_new = keys.shape[2]
        if self.length + n_new > self.max_length:
            raise ValueError(
                f"{self.length} columns and {n_new} more don't fit into {self.max_length}"
            )
        # A reading that broke off may have left columns that don't count.
        self.key_columns[layer] = self.key_columns[layer][: self.length]
        self.value_columns[layer] = self.value_columns[layer][: self.length]
        for column in range(n_new):
            self.key_columns[layer].append(keys[:, :, column])
            self.value_columns[layer].append(values[:, :, column])
        if layer == self.n_layers - 1:
            self.length += n_new
        all_keys = torch.stack(self.key_columns[layer], dim=2)
        all_values = torch.stack(self.value_columns[layer], dim=2)
        return all_keys, all_values


class OneRowForAll(ModelCache):
    """Joins old and new columns with torch.cat; its one row stands before each new row."""

    def __init__(self, n_layers, max_length):
        super().__init__(n_layers, max_length)
        self.n_layers = n_layers
        self.columns = {}

    def extend(self, layer, keys, values):
        if layer not in self.columns:
            self.columns[layer] = (keys, values)
            if len(self.columns) == self.n_layers:
                self.length = keys.shape[2]
            return keys, values
        old_keys, old_values = self.columns[layer]
        n_rows = keys.shape[0]
        keys = torch.cat([old_keys.repeat(n_rows, 1, 1, 1), keys], dim=2)
        values = torch.cat([old_values.repeat(n_rows, 1, 1, 1), values], dim=2)
        return keys, values


def sum_loss_with_shared_beginning(input_batch, target_batch, model, device):
    n_rows, n_columns = input_batch.shape
    n_shared = 0
    while n_shared < n_columns - 1:  # at least one token is left for the rests
        pairs = set()
        for row in range(n_rows):
            token = input_batch[row, n_shared].item()
            target = target_batch[row, n_shared].item()
            pairs.add((token, target))
        if len(pairs) > 1:
            break
        n_shared += 1
    if n_shared == 0:
        return sum_loss(input_batch, target_batch, model, device)
    cache = OneRowForAll(model.config.n_layers, n_columns)
    input_batch = input_batch.to(device)
    beginning = torch.log_softmax(model(input_batch[:1, :n_shared], cache=cache), dim=-1)
    rests = torch.log_softmax(model(input_batch[:, n_shared:], cache=cache), dim=-1)
    total = torch.zeros((), device=device)
    count = 0
    for row in range(n_rows):
        for column in range(n_columns):
            target = target_batch[row, column].item()
            if target == -100:
                continue
            if column < n_shared:
                total = total - beginning[0, column, target]
            else:
                total = total - rests[row, column - n_shared, target]
            count += 1
    return total, count


def join_turns(turns, end_id=50256):
    ids = []
    counted = []
    for prompt, answer, counts in turns:
        for i in prompt:
            ids.append(i)
            counted.append(False)
        for i in answer:
            ids.append(i)
            counted.append(counts)
        ids.append(end_id)
        counted.append(counts)
    return ids, counted


class RMSNorm(nn.Module):
    def __init__(self, emb_dim, eps=1e-5):
        super().__init__()
        self.emb_dim = emb_dim
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(emb_dim))

    def forward(self, x):
        total = 0
        for i in range(self.emb_dim):
            number = x[..., i].float()
            total = total + number * number
        root = torch.sqrt(total / self.emb_dim + self.eps)
        columns = []
        for i in range(self.emb_dim):
            columns.append(x[..., i].float() / root * self.weight[i].float())
        return torch.stack(columns, dim=-1).to(x.dtype)


def rotate(x, positions, theta):
    n_rows, _, n_tokens, head_size = x.shape
    half = head_size // 2
    rows = []
    for row in range(n_rows):
        tokens = []
        for token in range(n_tokens):
            position = positions[row, token].item()
            first = []
            second = []
            for i in range(half):
                angle = position * theta ** (-2 * i / head_size)
                a = x[row, :, token, i].float()
                b = x[row, :, token, i + half].float()
                first.append(a * math.cos(angle) - b * math.sin(angle))
                second.append(b * math.cos(angle) + a * math.sin(angle))
            tokens.append(torch.stack(first + second, dim=-1))
        rows.append(torch.stack(tokens, dim=1))
    return torch.stack(rows).to(x.dtype)


def grouped_query_attention(queries, keys, values):
    n_heads = queries.shape[1]
    n_kv_heads = keys.shape[1]
    contexts = []
    for head in range(n_heads):
        kv_head = head // (n_heads // n_kv_heads)
        query = queries[:, head : head + 1]
        key = keys[:, kv_head : kv_head + 1]
        value = values[:, kv_head : kv_head + 1]
        contexts.append(causal_attention(query, key, value))
    return torch.cat(contexts, dim=1)


class SwiGLU(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.down = nn.Linear(config.hidden_dim, config.emb_dim, bias=False)
        self.up = nn.Linear(config.emb_dim, config.hidden_dim, bias=False)
        self.gate = nn.Linear(config.emb_dim, config.hidden_dim, bias=False)

    def forward(self, x):
        gate = self.gate(x)
        gate = gate / (1 + torch.exp(-gate))
        return self.down(gate * self.up(x))
