"""Exhibits on prompt masks, which should leave only the answer as target."""

import torch

from ch07.exercises.museum.exhibit import exhibit
from collate import custom_collate_fn


@exhibit(
    "custom_collate_response_fn",
    "prompt-length-off-by-one",
    "alpaca-lora counted the prompt's own end token, so the first answer token was masked too "
    "(alpaca-lora#306).",
    "https://github.com/tloen/alpaca-lora/pull/306",
)
def masks_the_first_answer_token(
    batch, pad_token_id=50256, ignore_index=-100, allowed_max_length=None, device="cpu"
):
    """The shift is forgotten, so the answer's first token is masked and never learned."""
    rows = [token_ids for _, token_ids in batch]
    inputs, targets = custom_collate_fn(
        rows, pad_token_id, ignore_index, allowed_max_length, device
    )
    for i, (prompt_length, _) in enumerate(batch):
        targets[i, :prompt_length] = ignore_index
    return inputs, targets


@exhibit(
    "custom_collate_response_fn",
    "header-in-loss",
    'Raschka\'s solution of exercise 7.2 measures the prompt without its "### Response:" '
    "header, so the header stays in the loss.",
    "https://github.com/rasbt/LLMs-from-scratch/blob/0114dee9f62dabca24056e7a9255e03aed88c838/"
    "ch07/01_main-chapter-code/exercise_experiments.py",
)
def counts_the_response_header(
    batch, pad_token_id=50256, ignore_index=-100, allowed_max_length=None, device="cpu"
):
    """The response header counts as answer: six easy tokens a row make the loss look low."""
    rows = [token_ids for _, token_ids in batch]
    inputs, targets = custom_collate_fn(
        rows, pad_token_id, ignore_index, allowed_max_length, device
    )
    header_length = 6
    for i, (prompt_length, _) in enumerate(batch):
        instruction_length = prompt_length - header_length
        targets[i, : max(instruction_length - 1, 0)] = ignore_index
    return inputs, targets


@exhibit(
    "custom_collate_response_fn",
    "end-masked-too",
    "torchtune's Qwen tokenizers masked the final end token as soon as max_seq_len was set; a "
    "user's model would not stop reliably (torchtune#2792).",
    "https://github.com/meta-pytorch/torchtune/issues/2792",
)
def masks_the_end_with_the_prompt(
    batch, pad_token_id=50256, ignore_index=-100, allowed_max_length=None, device="cpu"
):
    """The end of the answer is masked with the padding, so the model never learns to stop."""
    rows = [token_ids for _, token_ids in batch]
    inputs, shifted = custom_collate_fn(
        rows, pad_token_id, ignore_index, allowed_max_length, device
    )
    targets = torch.full_like(shifted, ignore_index)
    for i, (prompt_length, token_ids) in enumerate(batch):
        answer = slice(max(prompt_length - 1, 0), len(token_ids) - 1)
        targets[i, answer] = shifted[i, answer]
    return inputs, targets


@exhibit(
    "custom_collate_response_fn",
    "prompt-length-zero",
    "Raschka's solution of exercise 7.2 masks targets[:instruction_length-1], which for an "
    "instruction of no tokens is [:-1]; the book's own prompts are never empty.",
    "https://github.com/rasbt/LLMs-from-scratch/blob/0114dee9f62dabca24056e7a9255e03aed88c838/"
    "ch07/01_main-chapter-code/exercise_experiments.py",
)
def masks_everything_but_the_last(
    batch, pad_token_id=50256, ignore_index=-100, allowed_max_length=None, device="cpu"
):
    """Without a prompt the slice becomes [:-1], so such a row teaches nothing but its end."""
    rows = [token_ids for _, token_ids in batch]
    inputs, targets = custom_collate_fn(
        rows, pad_token_id, ignore_index, allowed_max_length, device
    )
    for i, (prompt_length, _) in enumerate(batch):
        targets[i, : prompt_length - 1] = ignore_index
    return inputs, targets
