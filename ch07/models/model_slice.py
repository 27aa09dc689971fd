"""A slice of a model: small enough to be timed in a moment, and still computed as the model is.

The one idea: which number format is faster, how many threads are best, and how long a run will take
depend on everything that a model does between its matrix products, too. So one block is timed with
its share of the output head, with batches of the run's own size or as much of them as takes a
moment.
"""

from dataclasses import replace
from functools import lru_cache

import torch

from ch07.models.architectures import ModelConfig, make_model, narrow_shape
from ch07.utils.compute_choice import ComputeChoice, Work, choose_compute

USUAL_TOKENS = 512  # of a batch, where there is no data yet
USUAL_TARGETS = 128
COLUMNS = 32
MAX_WIDTH = 768  # wider models differ little from it
HEAD_SIZE = 64  # of a slice that is narrower than the model
OPERATIONS = 2.5e10  # of one step, at most: half a second where the processor is slow
# Where several candidates are timed, and each several times, it is less. But a slice has this many
# tokens, if a batch does: with fewer, reading the weights takes longest.
OPERATIONS_OF_CHOICE = 2e9
MIN_TOKENS = 128
OPERATIONS_ON_A_GPU = 1e12  # with fewer, starting the kernels takes longest


class ModelSlice:
    """One block of a model, and its share of the output head.

    `tokens` and `targets` are those of a batch. Both are scaled down so that a training step takes
    about `max_operations` at most, or those of `MIN_TOKENS` tokens; and so is the width.
    """

    def __init__(
        self,
        config: ModelConfig,
        tokens: int,
        targets: int,
        device: torch.device,
        max_operations: float = OPERATIONS,
    ) -> None:
        tokens = max(1, tokens)
        width = min(config.emb_dim, MAX_WIDTH)
        vocab_size = max(1, config.vocab_size // config.n_layers)
        shape = replace(
            narrow_shape(config, width, HEAD_SIZE),
            n_layers=1,
            vocab_size=vocab_size,
            context_length=COLUMNS,
            drop_rate=0.0,
        )
        generator = torch.Generator().manual_seed(0)
        with torch.random.fork_rng(devices=[]):  # building a model draws numbers, which it discards
            self.model = make_model(shape, generator).to(device).train()
        in_block = sum(p.numel() for p in self.model.trf_blocks.parameters())
        head = width * vocab_size
        affordable = max_operations / (6 * (in_block * tokens + head * targets))
        scale = min(1.0, max(affordable, MIN_TOKENS / tokens))
        n_rows = max(1, round(scale * tokens / COLUMNS))
        columns = min(COLUMNS, tokens)
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
        gradient = self.model.final_norm.weight.grad
        assert gradient is not None
        gradient[0].item()  # reading a number waits for a GPU
        self.model.zero_grad(set_to_none=True)

    @torch.no_grad()
    def answer(self, dtype: str) -> None:
        """Compute the logits in float32, whatever `dtype` says, as answering does."""
        logits = self.model(self.token_ids, wanted=self.wanted)
        logits[0, 0].item()  # waits for a GPU


@lru_cache
def choose_for_training(
    config: ModelConfig,
    tokens: int,
    targets: int,
    device: torch.device,
    dtype: str = "auto",
    threads: int | None = None,
) -> ComputeChoice:
    """The fastest number format and number of threads for batches of this size.

    Measured once in a process for the same question. What is given is kept.
    """

    def make_work() -> Work:
        limit = OPERATIONS_OF_CHOICE if device.type == "cpu" else OPERATIONS_ON_A_GPU
        return ModelSlice(config, tokens, targets, device, limit).step

    return choose_compute(device, make_work, dtype, threads)


def use_fastest_threads(config: ModelConfig, rows: int, device: torch.device) -> None:
    """Let PyTorch answer prompts with the number of threads that is fastest at present.

    `rows` is how many prompts are answered at once. Timed are as many tokens with weights in
    float32; the keys and values of earlier tokens, and weights in fewer bits, are left out.
    """

    def make_work() -> Work:
        return ModelSlice(config, rows, rows, device, OPERATIONS_OF_CHOICE).answer

    torch.set_num_threads(choose_compute(device, make_work, dtype="float32").threads)
