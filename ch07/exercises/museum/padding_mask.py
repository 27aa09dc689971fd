"""Exhibits on the final collate function: the wrong targets are masked, or rows cut badly."""

import torch

from ch07.exercises.museum.exhibit import exhibit


@exhibit(
    "custom_collate_fn",
    "all-padding-masked",
    "transformers' DataCollatorForLanguageModeling masks every pad id, so a model whose pad is "
    "the end token gets no loss for stopping (transformers#22794).",
    "https://github.com/huggingface/transformers/issues/22794",
)
def masks_all_padding(
    batch, pad_token_id=50256, ignore_index=-100, allowed_max_length=None, device="cpu"
):
    """Every padding token is masked, even the row's own end, so the model never learns to stop."""
    longest = max(len(row) for row in batch)
    rows = [[*row, pad_token_id] + [pad_token_id] * (longest - len(row)) for row in batch]
    padded = torch.tensor(rows)
    inputs = padded[:, :-1]
    targets = padded[:, 1:].clone()
    targets[targets == pad_token_id] = ignore_index
    inputs = inputs[:, :allowed_max_length]
    targets = targets[:, :allowed_max_length]
    return inputs.to(device), targets.to(device)


@exhibit(
    "custom_collate_fn",
    "none-masked",
    "Meta's llama-recipes padded labels with 0, which cross-entropy does not ignore; a reader "
    "asked why padding was counted (llama-cookbook#73).",
    "https://github.com/meta-llama/llama-cookbook/issues/73",
)
def masks_nothing(
    batch, pad_token_id=50256, ignore_index=-100, allowed_max_length=None, device="cpu"
):
    """Padding stays a target, so short rows mostly teach the model to repeat end-of-text."""
    longest = max(len(row) for row in batch)
    inputs = []
    targets = []
    for row in batch:
        padding = [pad_token_id] * (longest - len(row))
        inputs.append([*row, *padding])
        targets.append([*row[1:], pad_token_id, *padding])
    inputs = torch.tensor(inputs)[:, :allowed_max_length]
    targets = torch.tensor(targets)[:, :allowed_max_length]
    return inputs.to(device), targets.to(device)


@exhibit(
    "custom_collate_fn",
    "mask-by-value",
    "NVIDIA's Megatron-Bridge masked labels equal to the pad id, and with them every real end "
    "inside the text (Megatron-Bridge#4660).",
    "https://github.com/NVIDIA-NeMo/Megatron-Bridge/pull/4660",
)
def keeps_the_first_end_it_finds(
    batch, pad_token_id=50256, ignore_index=-100, allowed_max_length=None, device="cpu"
):
    """Only a row's first 50256 is kept: if the text contains one, the real end is masked."""
    longest = max(len(row) for row in batch)
    inputs = []
    targets = []
    for row in batch:
        padded = torch.tensor([*row, pad_token_id] + [pad_token_id] * (longest - len(row)))
        target = padded[1:].clone()
        ends = torch.nonzero(target == pad_token_id).flatten()
        target[ends[1:]] = ignore_index
        inputs.append(padded[:-1][:allowed_max_length])
        targets.append(target[:allowed_max_length])
    return torch.stack(inputs).to(device), torch.stack(targets).to(device)


@exhibit(
    "custom_collate_fn",
    "ignore-in-inputs",
    "A transformers user passed -100 to the decoder inputs, not only the labels, and got "
    '"index out of range in self" (transformers#15867).',
    "https://github.com/huggingface/transformers/issues/15867",
)
def puts_ignore_index_in_inputs(
    batch, pad_token_id=50256, ignore_index=-100, allowed_max_length=None, device="cpu"
):
    """The inputs are padded with -100, for which no embedding has a row, so the model crashes."""
    longest = max(len(row) for row in batch)
    inputs = []
    targets = []
    for row in batch:
        padding = [ignore_index] * (longest - len(row))
        inputs.append([*row, *padding])
        targets.append([*row[1:], pad_token_id, *padding])
    inputs = torch.tensor(inputs)[:, :allowed_max_length]
    targets = torch.tensor(targets)[:, :allowed_max_length]
    return inputs.to(device), targets.to(device)


@exhibit(
    "custom_collate_fn",
    "truncate-one-side",
    "DeLFT's loader cut over-long token rows but left their labels uncut; the maintainer asked "
    "for both to be cut (delft#89).",
    "https://github.com/kermitt2/delft/pull/89",
)
def cuts_only_the_inputs(
    batch, pad_token_id=50256, ignore_index=-100, allowed_max_length=None, device="cpu"
):
    """Inputs are cut and targets are not, so the loss fails at the first row that is too long."""
    longest = max(len(row) for row in batch)
    inputs = []
    targets = []
    for row in batch:
        rest = longest - len(row)
        inputs.append([*row] + [pad_token_id] * rest)
        targets.append([*row[1:], pad_token_id] + [ignore_index] * rest)
    inputs = torch.tensor(inputs)
    targets = torch.tensor(targets)
    if allowed_max_length is not None:
        inputs = inputs[:, :allowed_max_length]
    return inputs.to(device), targets.to(device)


@exhibit(
    "custom_collate_fn",
    "squeeze-single",
    "pybioclip squeezed the result of torch.nonzero; where just one species passed the "
    "threshold, the index was a 0-d tensor (pybioclip#200).",
    "https://github.com/Imageomics/pybioclip/issues/200",
)
def squeezes_a_single_index(
    batch, pad_token_id=50256, ignore_index=-100, allowed_max_length=None, device="cpu"
):
    """The longest row has one index, which squeeze turns into a 0-d tensor: slicing it fails."""
    longest = max(len(row) for row in batch)
    inputs = []
    targets = []
    for row in batch:
        padded = torch.tensor([*row, pad_token_id] + [pad_token_id] * (longest - len(row)))
        target = padded[1:].clone()
        ends = torch.nonzero(torch.arange(longest) >= len(row) - 1).squeeze()
        target[ends[1:]] = ignore_index
        inputs.append(padded[:-1][:allowed_max_length])
        targets.append(target[:allowed_max_length])
    return torch.stack(inputs).to(device), torch.stack(targets).to(device)


@exhibit(
    "custom_collate_fn",
    "pad-hard-coded",
    "The MHGRN code always set the pad id to 0, but for RoBERTa 0 is the BOS token and padding "
    "is 1 (INK-USC/MHGRN#8).",
    "https://github.com/INK-USC/MHGRN/pull/8",
)
def pads_with_gpt2s_own_id(
    batch, pad_token_id=50256, ignore_index=-100, allowed_max_length=None, device="cpu"
):
    """The id is always GPT-2's, whatever the caller says, so it is wrong for other tokenizers."""
    longest = max(len(row) for row in batch)
    inputs = []
    targets = []
    for row in batch:
        rest = longest - len(row)
        inputs.append([*row] + [50256] * rest)
        targets.append([*row[1:], 50256] + [ignore_index] * rest)
    inputs = torch.tensor(inputs)[:, :allowed_max_length]
    targets = torch.tensor(targets)[:, :allowed_max_length]
    return inputs.to(device), targets.to(device)


@exhibit(
    "custom_collate_fn",
    "device-in-worker",
    "A TorchData user moved tensors to CUDA inside collate_fn; with worker processes it died: "
    '"Cannot re-initialize CUDA in forked subprocess" (meta-pytorch/data#966).',
    "https://github.com/meta-pytorch/data/issues/966",
)
def goes_to_the_gpu_by_default(
    batch, pad_token_id=50256, ignore_index=-100, allowed_max_length=None, device="cuda"
):
    """The batch goes to the GPU by default, which a data loader's workers can't use."""
    longest = max(len(row) for row in batch)
    inputs = []
    targets = []
    for row in batch:
        rest = longest - len(row)
        inputs.append([*row] + [pad_token_id] * rest)
        targets.append([*row[1:], pad_token_id] + [ignore_index] * rest)
    inputs = torch.tensor(inputs)[:, :allowed_max_length]
    targets = torch.tensor(targets)[:, :allowed_max_length]
    return inputs.to(device), targets.to(device)


@exhibit(
    "custom_collate_fn",
    "cut-row-gets-end",
    "A transformers user objected that tokenizers put the end token even on rows that "
    "max_length has cut (transformers#19742).",
    "https://github.com/huggingface/transformers/issues/19742",
)
def ends_rows_that_were_cut(
    batch, pad_token_id=50256, ignore_index=-100, allowed_max_length=None, device="cpu"
):
    """Rows are cut before the end is added, so the model learns to stop in mid-sentence."""
    batch = [list(row)[:allowed_max_length] for row in batch]
    longest = max(len(row) for row in batch)
    inputs = []
    targets = []
    for row in batch:
        rest = longest - len(row)
        inputs.append(row + [pad_token_id] * rest)
        targets.append([*row[1:], pad_token_id] + [ignore_index] * rest)
    return torch.tensor(inputs).to(device), torch.tensor(targets).to(device)
