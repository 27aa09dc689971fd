"""A slice of a model: small enough to be timed in a moment, and still computed as the model is.

The one idea: whether bfloat16 is faster, how many threads are, and how long a run will take depend
on everything that a model does between its matrix products. So one block is timed with its share of
the output head, with batches of the run's own size.
"""

from dataclasses import replace
from functools import lru_cache

import torch

from ch07.utils.compute_choice import ComputeChoice, choose_compute
from gpt_model import GPTConfig, GPTModel

COLUMNS = 32
MAX_WIDTH = 768  # wider models differ little from it
HEAD_SIZE = 64  # of a slice that is narrower than the model
OPERATIONS = 2.5e10  # at most, of one step: half a second where the processor is slow
OPERATIONS_OF_CHOICE = 2e9  # at most, where several candidates are timed, and each several times
MIN_TOKENS = 128  # of a slice, if a batch has as many: with fewer, reading weights takes longest


class ModelSlice:
    """One block of a model, and its share of the output head.

    `tokens` and `targets` are those of a batch. Both are scaled down so that a training step takes
    about `max_operations` at most, and so is the width.
    """

    def __init__(
        self,
        config: GPTConfig,
        tokens: int,
        targets: int,
        device: torch.device,
        max_operations: float = OPERATIONS,
    ) -> None:
        width = min(config.emb_dim, MAX_WIDTH)
        vocab_size = max(1, config.vocab_size // config.n_layers)
        shape = replace(
            config,
            emb_dim=width,
            n_heads=config.n_heads if width == config.emb_dim else width // HEAD_SIZE,
            n_layers=1,
            vocab_size=vocab_size,
            context_length=COLUMNS,
        )
        generator = torch.Generator().manual_seed(0)
        self.model = GPTModel(shape, generator).to(device).train()
        in_block = sum(p.numel() for p in self.model.trf_blocks.parameters())
        head = width * vocab_size
        affordable = max_operations / (6 * (in_block * tokens + head * targets))
        scale = min(1.0, max(affordable, MIN_TOKENS / tokens))
        n_rows = max(1, round(scale * tokens / COLUMNS))
        columns = min(COLUMNS, max(1, tokens))
        n_targets = min(n_rows * columns, max(1, round(scale * targets)))
        self.operations = 6 * (in_block * n_rows * columns + head * n_targets)  # of a step
        ids = torch.randint(0, vocab_size, (n_rows, columns), generator=generator)
        self.token_ids = ids.to(device)
        places = torch.arange(n_targets, device=device)
        self.wanted = (places // columns, places % columns)

    def step(self, dtype: str) -> None:
        """Compute the logits and all gradients; returns when a GPU has finished."""
        with torch.autocast(
            self.token_ids.device.type, torch.bfloat16, enabled=dtype == "bfloat16"
        ):
            logits = self.model(self.token_ids, wanted=self.wanted)
        logits.backward(torch.ones_like(logits))
        gradient = self.model.pos_emb.weight.grad
        assert gradient is not None
        gradient[0, 0].item()  # reading a number waits for a GPU
        self.model.zero_grad(set_to_none=True)

    @torch.no_grad()
    def answer(self, dtype: str) -> None:
        """Compute the logits, as generation does: in float32, whatever `dtype` says."""
        logits = self.model(self.token_ids, wanted=self.wanted)
        logits[0, 0].item()  # waits for a GPU


@lru_cache
def choose_for_training(
    config: GPTConfig,
    tokens: int,
    targets: int,
    device: torch.device,
    dtype: str = "auto",
    threads: int | None = None,
) -> ComputeChoice:
    """The fastest number format and number of threads for batches of this size.

    Measured once in a process for the same question. What is given is kept.
    """
    if dtype != "auto" and threads is not None:
        return ComputeChoice(dtype, threads)
    part = ModelSlice(config, tokens, targets, device, OPERATIONS_OF_CHOICE)
    return choose_compute(device, part.step, dtype, threads)


def use_fastest_threads(config: GPTConfig, rows: int, device: torch.device) -> None:
    """Let PyTorch answer prompts with the number of threads that is fastest at present.

    `rows` is how many prompts are answered at once. For work whose last bits nobody compares.
    """
    part = ModelSlice(config, rows, rows, device, OPERATIONS_OF_CHOICE)
    torch.set_num_threads(choose_compute(device, part.answer, dtype="float32").threads)
