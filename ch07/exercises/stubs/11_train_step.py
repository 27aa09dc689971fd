"""Exercise 11: one update of the weights (the book's section 5.2)."""

import torch

from train_loop import sum_loss  # the sum over counted targets, and their number


def train_step(window, model, optimizer, device, lr, settings):
    """One update from a window of batches; returns their mean loss (a number or tensor), or None.

    `window` is a list of (input_batch, target_batch). The gradient is that of the loss summed over
    all counted targets of the window, divided by their number, so that 4 batches of 2 rows do the
    same as 1 batch of 8. `sum_loss(inputs, targets, model, device)` returns the sum of one batch,
    and its number of targets. The gradient is clipped to the norm `settings.grad_clip` (L2, of all
    gradients together), the learning rate of each of the optimizer's parameter groups is set to
    `lr`, then the optimizer makes one step, and no gradient is left over for the next call.
    For a window without a counted target nothing changes, and None is returned.
    """
    raise NotImplementedError
