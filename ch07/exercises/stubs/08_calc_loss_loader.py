"""Exercise 8: how wrong is the model on all batches? (the book's section 5.1)"""

import torch

from train_loop import sum_loss  # the sum over counted targets, and their number


def calc_loss_loader(data_loader, model, device, num_batches=None):
    """Mean cross-entropy over all counted targets of a loader, as a float.

    `data_loader` gives (input_batch, target_batch) pairs. With `num_batches`, only the first so
    many are used (all, if there are fewer). Each target counts the same, in whatever batch it
    stands. Nothing is changed: the model is in evaluation mode while it is measured, without
    gradients, and afterwards in the mode that it was in.
    `sum_loss(input_batch, target_batch, model, device)` gives a batch's loss, summed over its
    counted targets, and their number. At least one target is counted.
    """
    raise NotImplementedError
