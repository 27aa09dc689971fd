"""Exhibits on training steps that use another gradient than that of the mean loss."""

import torch

from ch07.exercises.museum.exhibit import exhibit
from train_loop import sum_loss


@exhibit(
    "train_step",
    "no-zero-grad",
    "PyTorch's official tensor-parallel examples ran backward and step in a loop without ever "
    "clearing gradients (pytorch/examples#1424).",
    "https://github.com/pytorch/examples/pull/1424",
)
def never_clears_gradients(window, model, optimizer, device, lr, settings):
    """Gradients are never cleared, so every step repeats all steps before it."""
    n_targets = sum(int((targets != -100).sum()) for _, targets in window)
    if n_targets == 0:
        return None
    total = 0.0
    for inputs, targets in window:
        loss, _ = sum_loss(inputs, targets, model, device)
        (loss / n_targets).backward()
        total += loss.item()
    torch.nn.utils.clip_grad_norm_(model.parameters(), settings.grad_clip)
    for group in optimizer.param_groups:
        group["lr"] = lr
    optimizer.step()
    return total / n_targets


@exhibit(
    "train_step",
    "zero-grad-before-step",
    "Ultralytics YOLO cleared gradients at each epoch's start, so batches left over from "
    "accumulation were thrown away (ultralytics#11217).",
    "https://github.com/ultralytics/ultralytics/pull/11217",
)
def clears_gradients_before_the_step(window, model, optimizer, device, lr, settings):
    """The gradient is cleared just before it is used, so the weights never move."""
    n_targets = sum(int((targets != -100).sum()) for _, targets in window)
    if n_targets == 0:
        return None
    total = 0.0
    for inputs, targets in window:
        loss, _ = sum_loss(inputs, targets, model, device)
        (loss / n_targets).backward()
        total += loss.item()
    optimizer.zero_grad()
    torch.nn.utils.clip_grad_norm_(model.parameters(), settings.grad_clip)
    for group in optimizer.param_groups:
        group["lr"] = lr
    optimizer.step()
    return total / n_targets


@exhibit(
    "train_step",
    "accumulation-mean-of-means",
    "Unsloth showed in October 2024 that transformers' Trainer averaged per-batch means under "
    "gradient accumulation; Hugging Face explained it (huggingface/blog#2414) and fixed it.",
    "https://github.com/huggingface/blog/pull/2414",
)
def averages_means_of_batches(window, model, optimizer, device, lr, settings):
    """Each batch of the window counts the same, so a token in a short answer counts more."""
    if all((targets == -100).all() for _, targets in window):
        return None
    total = 0.0
    for inputs, targets in window:
        loss, n_targets = sum_loss(inputs, targets, model, device)
        loss = loss / max(n_targets, 1) / len(window)
        loss.backward()
        total += loss.item()
    torch.nn.utils.clip_grad_norm_(model.parameters(), settings.grad_clip)
    for group in optimizer.param_groups:
        group["lr"] = lr
    optimizer.step()
    optimizer.zero_grad()
    return total


@exhibit(
    "train_step",
    "clip-after-step",
    "Five trainers in AWS GraphStorm clipped gradients after optimizer.step(), so "
    "--max-grad-norm did nothing (graphstorm#1382).",
    "https://github.com/awslabs/graphstorm/pull/1382",
)
def clips_after_the_step(window, model, optimizer, device, lr, settings):
    """The gradient is clipped after it was used, so one bad batch can still ruin the weights."""
    n_targets = sum(int((targets != -100).sum()) for _, targets in window)
    if n_targets == 0:
        return None
    total = 0.0
    for inputs, targets in window:
        loss, _ = sum_loss(inputs, targets, model, device)
        (loss / n_targets).backward()
        total += loss.item()
    for group in optimizer.param_groups:
        group["lr"] = lr
    optimizer.step()
    torch.nn.utils.clip_grad_norm_(model.parameters(), settings.grad_clip)
    optimizer.zero_grad()
    return total / n_targets


@exhibit(
    "train_step",
    "empty-window-steps",
    "In NVIDIA's NeMo Automodel a window without a target was not skipped either: there it "
    "divided by 0, and NaN reached all weights (Automodel#3797).",
    "https://github.com/NVIDIA-NeMo/Automodel/pull/3797",
)
def steps_without_targets(window, model, optimizer, device, lr, settings):
    """A window without targets still makes a step: weight decay and momentum move the weights."""
    n_targets = max(sum(int((targets != -100).sum()) for _, targets in window), 1)
    total = 0.0
    for inputs, targets in window:
        loss, _ = sum_loss(inputs, targets, model, device)
        (loss / n_targets).backward()
        total += loss.item()
    torch.nn.utils.clip_grad_norm_(model.parameters(), settings.grad_clip)
    for group in optimizer.param_groups:
        group["lr"] = lr
    optimizer.step()
    optimizer.zero_grad()
    return total / n_targets


@exhibit(
    "train_step",
    "lr-not-applied",
    "One of PyTorch's own examples set the rate in optimizer.state_dict(), until a user "
    "noticed that it had no effect (pytorch/examples#64).",
    "https://github.com/pytorch/examples/issues/64",
)
def sets_the_rate_of_a_copy(window, model, optimizer, device, lr, settings):
    """The rate is set in a copy of the optimizer's state, so warm-up and decay never happen."""
    n_targets = sum(int((targets != -100).sum()) for _, targets in window)
    if n_targets == 0:
        return None
    total = 0.0
    for inputs, targets in window:
        loss, _ = sum_loss(inputs, targets, model, device)
        (loss / n_targets).backward()
        total += loss.item()
    torch.nn.utils.clip_grad_norm_(model.parameters(), settings.grad_clip)
    for group in optimizer.state_dict()["param_groups"]:
        group["lr"] = lr
    optimizer.step()
    optimizer.zero_grad()
    return total / n_targets
