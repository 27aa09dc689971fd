"""The book's own solutions, handed in: the checker names one mistake after the other."""

from itertools import islice

import pytest
import torch

from ch07.exercises.checker import diagnose
from ch07.exercises.museum.collection import EXHIBITS
from train_loop import calc_loss_batch

REPOSITORY = "https://github.com/rasbt/LLMs-from-scratch/"


def masking_collate(mask_length, end_of, ignore):
    """A collate function in the manner of the book's exercise 7.2."""

    def custom_collate_response_fn(
        batch, pad_token_id=50256, ignore_index=-100, allowed_max_length=None, device="cpu"
    ):
        longest = max(len(token_ids) for _, token_ids in batch)
        all_inputs = []
        all_targets = []
        for prompt_length, token_ids in batch:
            padded = list(token_ids) + [pad_token_id] * (longest + 1 - len(token_ids))
            targets = torch.tensor(padded[1:])
            targets[end_of(token_ids, targets, pad_token_id) + 1 :] = ignore_index
            targets[: mask_length(prompt_length)] = ignore(ignore_index)
            all_inputs.append(torch.tensor(padded[:-1])[:allowed_max_length])
            all_targets.append(targets[:allowed_max_length])
        return torch.stack(all_inputs).to(device), torch.stack(all_targets).to(device)

    return custom_collate_response_fn


def first_pad(token_ids, targets, pad_token_id):
    return targets.tolist().index(pad_token_id)


def row_end(token_ids, targets, pad_token_id):
    return len(token_ids) - 1


@pytest.mark.parametrize(
    ("mask_length", "end_of", "ignore", "diagnosis"),
    [
        (lambda n: n - 1, first_pad, lambda index: -100, "prompt-length-zero"),
        (lambda n: max(n - 1, 0), first_pad, lambda index: -100, "mask-by-value"),
        (lambda n: max(n - 1, 0), row_end, lambda index: -100, "ignore-hard-coded"),
        (lambda n: max(n - 1, 0), row_end, lambda index: index, ""),
    ],
)
def test_the_books_instruction_mask_mended_step_by_step(mask_length, end_of, ignore, diagnosis):
    code = masking_collate(mask_length, end_of, ignore)
    report = diagnose("custom_collate_response_fn", code)
    assert report.diagnosis == diagnosis, report


def mean_of_batch_means(data_loader, model, device, num_batches=None):
    losses = [
        calc_loss_batch(inputs, targets, model, device).item()
        for inputs, targets in islice(data_loader, num_batches)
    ]
    return sum(losses) / len(losses)


def mean_of_batch_means_in_evaluation_mode(data_loader, model, device, num_batches=None):
    training = model.training
    model.eval()
    with torch.no_grad():
        loss = mean_of_batch_means(data_loader, model, device, num_batches)
    model.train(training)
    return loss


@pytest.mark.parametrize(
    "code", [mean_of_batch_means, mean_of_batch_means_in_evaluation_mode], ids=lambda f: f.__name__
)
def test_the_books_mean_of_batch_means_is_named_in_any_mode(code):
    """Before the mode, which the book leaves to the caller, and before an empty batch."""
    report = diagnose("calc_loss_loader", code)
    assert report.diagnosis == "mean-of-means"
    assert report.table.startswith("returned ")


def test_both_are_in_the_museum_with_the_books_repository():
    books = {exhibit.diagnosis for exhibit in EXHIBITS if exhibit.url.startswith(REPOSITORY)}
    assert {"prompt-length-zero", "mean-of-means", "header-in-loss"} <= books
