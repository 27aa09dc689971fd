"""Exercise 11: one update of the weights (the book's section 5.2)."""

import torch

from train_loop import sum_loss  # the sum over counted targets, and their number


def train_step(window, model, optimizer, device, lr, settings):
    """One update from a window of batches; returns their mean loss (a number or tensor), or None.

    `window` is a list of (input_batch, target_batch). The gradient is that of one number: the
    loss summed over all counted targets of the window, divided by how many there are, so that
    4 batches of 2 rows do the same as 1 batch of 8. `sum_loss(inputs, targets, model, device)`
    gives the sum of one batch, and its number of targets. The gradient is cut to the length
    `settings.grad_clip` (L2 norm), the learning rate of each of the optimizer's parameter groups
    is `lr`, then the optimizer makes one step, and no gradient is left over for the next call.
    A window without a counted target changes nothing, and returns None.
    """
    raise NotImplementedError
