"""Exercise 14: wrong answers that are not in the museum are named as well."""

import pytest
import torch
import torch.nn.functional as F

from ch07.exercises.checker import diagnose
from ch07.training.shared_beginning import count_shared_columns
from gpt_model import KVCache
from train_loop import sum_loss

NAME = "sum_loss_with_shared_beginning"


def two_calls(input_batch, target_batch, model, *, between=KVCache.keep, cache=None):
    """A right answer, in parts: the losses of the beginning and of the rests, P and all targets.

    `between(cache, rows)` is called between the two calls of the model.
    """
    B, T = input_batch.shape
    P = count_shared_columns(input_batch, target_batch)
    cache = model.new_cache(T) if cache is None else cache
    beginning = model(input_batch[:1, :P], cache=cache)
    between(cache, torch.zeros(B, dtype=torch.long))
    rests = model(input_batch[:, P:], cache=cache)
    first = F.cross_entropy(beginning[0], target_batch[0, :P], reduction="sum")
    last = F.cross_entropy(rests.flatten(0, 1), target_batch[:, P:].flatten(), reduction="sum")
    return first, last, P, int((target_batch != -100).sum())


class SharedRoom(KVCache):
    """One preallocated tensor per layer serves both calls; the second call writes into it."""

    def __init__(self, n_layers, max_length, n_rows):
        super().__init__(n_layers, max_length)
        self.n_rows = n_rows

    def _allocate(self, part):
        return part.new_empty(self.n_rows, part.shape[1], self.max_length, part.shape[3])

    def extend(self, layer, keys, values):
        n_rows = len(keys)
        all_keys, all_values = super().extend(layer, keys, values)
        return all_keys[:n_rows], all_values[:n_rows]


def right(inputs, targets, model, device):
    first, last, _, n = two_calls(inputs, targets, model)
    return len(inputs) * first + last, n


def reads_every_row(inputs, targets, model, device):
    return sum_loss(inputs, targets, model, device)


def makes_no_copies(inputs, targets, model, device):
    first, last, _, n = two_calls(inputs, targets, model, between=lambda cache, rows: None)
    return len(inputs) * first + last, n


def overwrites_what_backward_needs(inputs, targets, model, device):
    cache = SharedRoom(model.config.n_layers, inputs.shape[1], len(inputs))
    parts = two_calls(inputs, targets, model, cache=cache, between=lambda cache, rows: None)
    return len(inputs) * parts[0] + parts[1], parts[3]


def leaves_the_beginning_out(inputs, targets, model, device):
    _, last, _, n = two_calls(inputs, targets, model)
    return last, n


def counts_its_targets_once(inputs, targets, model, device):
    first, last, P, n = two_calls(inputs, targets, model)
    return len(inputs) * first + last, n - (len(inputs) - 1) * int((targets[0, :P] != -100).sum())


def counts_too_many_targets(inputs, targets, model, device):
    first, last, _, _ = two_calls(inputs, targets, model)
    return len(inputs) * first + last, targets.numel()


def returns_the_mean(inputs, targets, model, device):
    loss, n = right(inputs, targets, model, device)
    return loss / n, n


def returns_a_number(inputs, targets, model, device):
    loss, n = right(inputs, targets, model, device)
    return loss.item(), n


def returns_a_tensor_for_the_number(inputs, targets, model, device):
    return right(inputs, targets, model, device)[0], (targets != -100).sum()


def returns_a_new_tensor(inputs, targets, model, device):
    loss, n = right(inputs, targets, model, device)
    return loss.detach(), n


def runs_backward(inputs, targets, model, device):
    loss, n = right(inputs, targets, model, device)
    loss.backward(retain_graph=True)
    return loss, n


def keeps_only_values_with_a_gradient(inputs, targets, model, device):
    class Cache(KVCache):
        def keep(self, rows):
            super().keep(rows)
            self._layers = [(keys.detach(), values) for keys, values in self._layers]

    cache = Cache(model.config.n_layers, inputs.shape[1])
    first, last, _, n = two_calls(inputs, targets, model, cache=cache, between=Cache.keep)
    return len(inputs) * first + last, n


def takes_nothing_but_a_real_beginning(inputs, targets, model, device):
    if count_shared_columns(inputs, targets) == 0:
        return torch.zeros((), requires_grad=True), 0
    return right(inputs, targets, model, device)


def has_no_loss_for_equal_rows(inputs, targets, model, device):
    loss, n = right(inputs, targets, model, device)
    if count_shared_columns(inputs, targets) == inputs.shape[1] and len(inputs) > 1:
        return 0 * loss, 0
    return loss, n


def has_no_loss_for_a_single_row(inputs, targets, model, device):
    loss, n = right(inputs, targets, model, device)
    return (loss, n) if len(inputs) > 1 else (0 * loss, 0)


def hides_the_beginning(inputs, targets, model, device):
    """The rests have the right positions, but their mask leaves the beginning out."""

    class Hiding(KVCache):
        def positions_and_mask(self, token_ids, left_padding=None):
            positions, mask = super().positions_and_mask(token_ids)
            if mask is not None:
                mask[:, : self.length] = False
            return positions, mask

    cache = Hiding(model.config.n_layers, inputs.shape[1])
    first, last, _, n = two_calls(inputs, targets, model, cache=cache)
    return len(inputs) * first + last, n


def gives_the_rests_positions_of_one_row(inputs, targets, model, device):
    """All rests in one row, with the positions that they should have."""

    class OneRow(KVCache):
        def positions_and_mask(self, token_ids, left_padding=None):
            _, mask = super().positions_and_mask(token_ids)
            rest = torch.arange(P, inputs.shape[1])
            return torch.cat([torch.arange(P), rest.repeat(len(inputs))]), mask

    P = count_shared_columns(inputs, targets)
    row = torch.cat([inputs[0, :P], inputs[:, P:].flatten()])
    logits = model(row[None], cache=OneRow(model.config.n_layers, len(row)))[0]
    all_targets = torch.cat([targets[0, :P], targets[:, P:].flatten()])
    losses = F.cross_entropy(logits, all_targets, reduction="none")
    return len(inputs) * losses[:P].sum() + losses[P:].sum(), int((targets != -100).sum())


DIAGNOSES = {
    reads_every_row: "not-shared",
    makes_no_copies: "cache-has-one-row",
    overwrites_what_backward_needs: "overwritten-for-backward",
    leaves_the_beginning_out: "beginning-left-out",
    counts_its_targets_once: "beginning-counted-once",
    counts_too_many_targets: "number-wrong",
    returns_the_mean: "mean-not-sum",
    returns_a_number: "detached-loss",
    returns_a_tensor_for_the_number: "no-number",
    returns_a_new_tensor: "detached-loss",
    runs_backward: "side-effect",
    keeps_only_values_with_a_gradient: "gradient-wrong",
    hides_the_beginning: "beginning-unseen",
    gives_the_rests_positions_of_one_row: "rests-see-each-other",
}
SPECIAL_CASES = {
    takes_nothing_but_a_real_beginning: "rows that begin differently (P is 0)",
    has_no_loss_for_equal_rows: "equal rows (P is T)",
    has_no_loss_for_a_single_row: "a single row",
}


@pytest.mark.parametrize("wrong", DIAGNOSES, ids=lambda function: function.__name__)
def test_a_mistake_is_named(wrong):
    assert diagnose(NAME, right).ok
    report = diagnose(NAME, wrong)
    assert (report.status, report.diagnosis) == ("mistake", DIAGNOSES[wrong]), report


@pytest.mark.parametrize("wrong", SPECIAL_CASES, ids=lambda function: function.__name__)
def test_a_special_case_is_named_in_the_sentence(wrong):
    sentence = diagnose(NAME, wrong).sentence
    assert sentence == f"With {SPECIAL_CASES[wrong]}, the loss is wrong."
