"""Exercise 8: how wrong is the model on all batches? (the book's section 5.1)"""

import torch

from train_loop import sum_loss  # the sum over counted targets, and their number


def calc_loss_loader(data_loader, model, device, num_batches=None):
    """Mean cross-entropy over all counted targets of a loader, as a float.

    `data_loader` yields pairs (input_batch, target_batch). With `num_batches`, only that many are
    used (all of them, if there are fewer). Each target counts the same, whichever batch it is in.
    The model is measured in evaluation mode, without gradients, and is afterwards in the mode that
    it was in before. `sum_loss(input_batch, target_batch, model, device)` returns a batch's loss,
    summed over its counted targets, and their number. At least one target is counted.
    """
    raise NotImplementedError
