"""Exhibits on the first two collate drafts: wrong padding, wrong width, wrong shift."""

import torch

from ch07.exercises.museum.exhibit import exhibit


@exhibit(
    "custom_collate_draft_1",
    "pad-fixed-length",
    "DeepSpeed-Chat's fine-tuning data pads every sample to the maximum length; a user asked "
    "why not only to the batch's longest (DeepSpeedExamples#849).",
    "https://github.com/deepspeedai/DeepSpeedExamples/issues/849",
)
def pads_to_whole_context(batch, pad_token_id=50256, device="cpu"):
    """Short rows are padded to the model's whole context, so most of the work is on padding."""
    max_length = 1024
    rows = [list(row) + [pad_token_id] * (max_length - len(row)) for row in batch]
    return torch.tensor(rows, device=device)


@exhibit(
    "custom_collate_draft_1",
    "pad-left",
    "alpaca-lora trains with left padding and default position ids, so short rows start at "
    "wrong positions; readers asked about it (alpaca-lora#315).",
    "https://github.com/tloen/alpaca-lora/issues/315",
)
def pads_on_the_left(batch, pad_token_id=50256, device="cpu"):
    """Padding comes first, so a short row starts at a position that depends on the others."""
    longest = max(len(row) for row in batch)
    rows = [[pad_token_id] * (longest - len(row)) + list(row) for row in batch]
    return torch.tensor(rows, device=device)


@exhibit(
    "custom_collate_draft_1",
    "pad-zero",
    "EleutherAI's gpt-neo once padded GPT-2 text with id 0, which is a real token: the "
    "exclamation mark (gpt-neo#50).",
    "https://github.com/EleutherAI/gpt-neo/pull/50",
)
def pads_with_zeros(batch, pad_token_id=50256, device="cpu"):
    """The padding is id 0, which is GPT-2's exclamation mark and no padding at all."""
    longest = max(len(row) for row in batch)
    inputs = torch.zeros(len(batch), longest, dtype=torch.long)
    for i, row in enumerate(batch):
        inputs[i, : len(row)] = torch.tensor(row)
    return inputs.to(device)


@exhibit(
    "custom_collate_draft_1",
    "batch-mutated",
    "DataCollatorForSeq2Seq padded the caller's own labels; a user's second epoch then failed "
    "with mismatched batch sizes (transformers#27333).",
    "https://github.com/huggingface/transformers/pull/27333",
)
def pads_the_dataset_itself(batch, pad_token_id=50256, device="cpu"):
    """The caller's own rows are padded, so the dataset's rows grow from epoch to epoch."""
    longest = max(len(row) for row in batch)
    for row in batch:
        row += [pad_token_id] * (longest - len(row))
    return torch.tensor(batch, device=device)


@exhibit(
    "custom_collate_draft_1",
    "extra-column",
    "A reader of Raschka's chapter 7 found draft 1's extra pad column redundant; the author "
    "explained what it is for (LLMs-from-scratch#270).",
    "https://github.com/rasbt/LLMs-from-scratch/pull/270",
)
def leaves_an_extra_column(batch, pad_token_id=50256, device="cpu"):
    """The column that later drafts need for their targets stays, so every row is too long."""
    longest = max(len(row) + 1 for row in batch)
    rows = []
    for row in batch:
        padded = [*row, pad_token_id]
        padded += [pad_token_id] * (longest - len(padded))
        rows.append(torch.tensor(padded))
    return torch.stack(rows).to(device)


@exhibit(
    "custom_collate_draft_1",
    "float-ids",
    "A PyTorch user sent float batches into nn.Embedding and got an error: indices must have "
    "the type Long or Int (pytorch#116598).",
    "https://github.com/pytorch/pytorch/issues/116598",
)
def gives_floats(batch, pad_token_id=50256, device="cpu"):
    """Token ids are floats, which an embedding can't look up."""
    longest = max(len(row) for row in batch)
    inputs = torch.ones(len(batch), longest) * pad_token_id
    for i, row in enumerate(batch):
        inputs[i, : len(row)] = torch.tensor(row)
    return inputs.to(device)


@exhibit(
    "custom_collate_draft_2",
    "no-shift",
    "MBartForCausalLM in transformers scored each position against its own input token; a user "
    "saw it simply copy its input (transformers#27517).",
    "https://github.com/huggingface/transformers/issues/27517",
)
def targets_are_the_inputs(batch, pad_token_id=50256, device="cpu"):
    """Each token's target is the token itself, so the model learns to repeat what it reads."""
    longest = max(len(row) for row in batch)
    rows = [[*row, pad_token_id] + [pad_token_id] * (longest - len(row)) for row in batch]
    padded = torch.tensor(rows, device=device)
    inputs = padded[:, :-1]
    targets = inputs.clone()
    return inputs, targets


@exhibit(
    "custom_collate_draft_2",
    "double-shift",
    "transformers' GitForCausalLM moved the labels itself, then called a loss that moves them "
    "again: it learned token t+2 (transformers#47394).",
    "https://github.com/huggingface/transformers/issues/47394",
)
def shifts_by_two(batch, pad_token_id=50256, device="cpu"):
    """Each token's target is the second one after it, so the model learns to skip a token."""
    width = max(len(row) for row in batch) + 2
    rows = [list(row) + [pad_token_id] * (width - len(row)) for row in batch]
    padded = torch.tensor(rows, device=device)
    return padded[:, :-2], padded[:, 2:]


@exhibit(
    "custom_collate_draft_2",
    "shift-backwards",
    "A reader of Raschka's chapter 7 asked whether the shift goes to the right or to the left "
    "(LLMs-from-scratch#508).",
    "https://github.com/rasbt/LLMs-from-scratch/issues/508",
)
def shifts_to_the_right(batch, pad_token_id=50256, device="cpu"):
    """Each token's target is the token before it, so the model learns to look back, not ahead."""
    longest = max(len(row) for row in batch)
    rows = [list(row) + [pad_token_id] * (longest - len(row)) for row in batch]
    inputs = torch.tensor(rows, device=device)
    targets = torch.full_like(inputs, pad_token_id)
    targets[:, 1:] = inputs[:, :-1]
    return inputs, targets


@exhibit(
    "custom_collate_draft_2",
    "roll-wraps",
    "Google's BIG-bench made targets with np.roll; asked about it in review, the author saw that "
    "the first token could become the last target, and changed it (BIG-bench#876).",
    "https://github.com/google/BIG-bench/pull/876",
)
def rolls_the_first_token_to_the_end(batch, pad_token_id=50256, device="cpu"):
    """The last target of a row is its first token, so a full row starts again and never ends."""
    longest = max(len(row) for row in batch)
    rows = [list(row) + [pad_token_id] * (longest - len(row)) for row in batch]
    inputs = torch.tensor(rows, device=device)
    return inputs, inputs.roll(-1, dims=1)


@exhibit(
    "custom_collate_draft_2",
    "end-dropped",
    "TRL's SFTTrainer joined prompt and completion without an end token; a user asked how the "
    "model should stop, and it was fixed (trl#3083).",
    "https://github.com/huggingface/trl/issues/3083",
)
def adds_no_end(batch, pad_token_id=50256, device="cpu"):
    """No end is added, so the longest row of each batch never teaches the model to stop."""
    longest = max(len(row) for row in batch)
    rows = [list(row) + [pad_token_id] * (longest - len(row)) for row in batch]
    padded = torch.tensor(rows, device=device)
    return padded[:, :-1], padded[:, 1:]
