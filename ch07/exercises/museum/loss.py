"""Exhibits on losses that are not the mean over the counted targets."""

from itertools import islice

import torch
import torch.nn.functional as F

from ch07.exercises.museum.exhibit import exhibit
from train_loop import calc_loss_batch, sum_loss


@exhibit(
    "calc_loss_batch",
    "divide-by-all",
    "TensorFlow's own Transformer tutorial took the mean of the masked loss over all "
    "positions, pads included, until a reader fixed it (tensorflow/docs#1460).",
    "https://github.com/tensorflow/docs/pull/1460",
)
def divides_by_all_positions(input_batch, target_batch, model, device):
    """Masked targets are left out of the sum but not of the count: padding lowers the loss."""
    inputs = input_batch.to(device)
    targets = target_batch.to(device)
    if (targets == -100).all():
        raise ValueError("no target of this batch is counted")
    logits = model(inputs)
    losses = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="none")
    return losses.mean()


@exhibit(
    "calc_loss_batch",
    "softmax-twice",
    "The llama-from-scratch tutorial put F.softmax before F.cross_entropy, which applies "
    "softmax itself; a reader reported it (bkitano/llama-from-scratch#5).",
    "https://github.com/bkitano/llama-from-scratch/issues/5",
)
def applies_softmax_twice(input_batch, target_batch, model, device):
    """cross_entropy is given probabilities, not logits, so even a sure model has a high loss."""
    inputs = input_batch.to(device)
    targets = target_batch.to(device)
    if (targets == -100).all():
        raise ValueError("no target of this batch is counted")
    probs = torch.softmax(model(inputs), dim=-1)
    return F.cross_entropy(probs.flatten(0, 1), targets.flatten())


@exhibit(
    "calc_loss_batch",
    "sum-not-mean",
    "JAX's documentation notebooks summed the loss instead of averaging it, so gradients "
    "exploded once the batch grew (jax#3113).",
    "https://github.com/jax-ml/jax/pull/3113",
)
def sums_the_losses(input_batch, target_batch, model, device):
    """The loss is a sum, so the gradient grows with the number of tokens in a batch."""
    inputs = input_batch.to(device)
    targets = target_batch.to(device)
    if (targets == -100).all():
        raise ValueError("no target of this batch is counted")
    logits = model(inputs)
    return F.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="sum")


@exhibit(
    "calc_loss_batch",
    "wrong-flatten",
    "The FCSN code reshaped scores of shape (batch, class, frame) to (-1, class) without a "
    "permute first, mixing up positions (weirme/FCSN#32).",
    "https://github.com/weirme/FCSN/issues/32",
)
def flattens_across_positions(input_batch, target_batch, model, device):
    """The shape is right, but each row of scores mixes positions, so nothing can be learned."""
    inputs = input_batch.to(device)
    targets = target_batch.to(device)
    if (targets == -100).all():
        raise ValueError("no target of this batch is counted")
    logits = model(inputs)
    vocab_size = logits.shape[-1]
    logits = logits.transpose(1, 2).reshape(-1, vocab_size)
    return F.cross_entropy(logits, targets.view(-1))


@exhibit(
    "calc_loss_batch",
    "detached-loss",
    "A user silenced an error of backward() with loss.requires_grad = True; the error was gone, "
    "but the loss no longer fell (arcface-pytorch#56).",
    "https://github.com/ronghuaiyang/arcface-pytorch/issues/56",
)
def returns_a_number_that_claims_a_gradient(input_batch, target_batch, model, device):
    """The loss is a new tensor: backward runs without an error, and no weight gets a gradient."""
    inputs = input_batch.to(device)
    targets = target_batch.to(device)
    if (targets == -100).all():
        raise ValueError("no target of this batch is counted")
    logits = model(inputs)
    loss = F.cross_entropy(logits.flatten(0, 1), targets.flatten())
    return torch.tensor(loss.item(), requires_grad=True)


@exhibit(
    "calc_loss_batch",
    "all-labels-masked-nan",
    "TRL's SFTTrainer printed loss 0.0 and looked healthy after truncation had masked every "
    "label; the real loss was NaN (trl#6668).",
    "https://github.com/huggingface/trl/issues/6668",
)
def divides_zero_by_zero(input_batch, target_batch, model, device):
    """A batch without a counted target gives 0 / 0, a NaN that makes every later mean NaN."""
    inputs = input_batch.to(device)
    targets = target_batch.to(device)
    logits = model(inputs)
    return F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=-100)


@exhibit(
    "calc_loss_loader",
    "mean-of-means",
    "The book's own calc_loss_loader adds up the batches' means and divides by the number of "
    "batches; so does transformers' Trainer in evaluation (transformers#39241).",
    "https://github.com/rasbt/LLMs-from-scratch/blob/4eea9ce12c05a32ed11242bb36f462c7be2ee034/"
    "ch07/01_main-chapter-code/previous_chapters.py",
)
def averages_batch_means(data_loader, model, device, num_batches=None):
    """Each batch counts the same, so the loss depends on how the rows were grouped."""
    n_batches = len(data_loader)
    if num_batches is not None:
        n_batches = min(num_batches, n_batches)
    total_loss = 0.0
    for input_batch, target_batch in islice(data_loader, n_batches):
        total_loss += calc_loss_batch(input_batch, target_batch, model, device).item()
    return total_loss / n_batches


@exhibit(
    "calc_loss_loader",
    "eval-with-dropout",
    "Karpathy's nanoGPT applied dropout at evaluation too, because its flash attention call "
    "ignored eval mode; a reader fixed it (nanoGPT#240).",
    "https://github.com/karpathy/nanoGPT/pull/240",
)
def measures_with_dropout(data_loader, model, device, num_batches=None):
    """Dropout stays on while the loss is measured, so the loss is too high and varies."""
    total = 0.0
    count = 0
    with torch.no_grad():
        for input_batch, target_batch in islice(data_loader, num_batches):
            loss, n_targets = sum_loss(input_batch, target_batch, model, device)
            total += loss.item()
            count += n_targets
    return total / count


@exhibit(
    "calc_loss_loader",
    "train-mode-lost",
    "LeRobot's evaluation left the policy in eval mode, so after the first check training went "
    "on without dropout (lerobot#3668).",
    "https://github.com/huggingface/lerobot/issues/3668",
)
def never_goes_back_to_training(data_loader, model, device, num_batches=None):
    """The model stays in evaluation mode, so training continues without dropout."""
    model.eval()
    total = 0.0
    count = 0
    with torch.no_grad():
        for input_batch, target_batch in islice(data_loader, num_batches):
            loss, n_targets = sum_loss(input_batch, target_batch, model, device)
            total += loss.item()
            count += n_targets
    return total / count
