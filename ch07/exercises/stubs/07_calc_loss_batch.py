"""Exercise 7: how wrong is the model on a batch? (the book's sections 5.1 and 7.6)"""

import torch
import torch.nn.functional as F


def calc_loss_batch(input_batch, target_batch, model, device):
    """Mean cross-entropy over the counted targets: a tensor with one number, in nats.

    `input_batch` and `target_batch` are (B, T), int64, with targets already shifted;
    `model(input_batch)` gives logits (B, T, V); the model is on `device`. A target of -100 is not
    counted, neither in the sum nor in the number that the sum is divided by. The gradient flows
    back into the model. A batch without a counted target has no mean: raise a ValueError.
    """
    raise NotImplementedError
