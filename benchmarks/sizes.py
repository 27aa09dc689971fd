"""What each size of GPT-2 costs on this machine: memory and seconds for training and answering.

    python -m benchmarks.sizes [gpt2-tiny gpt2-small ...] [--json FILE]

Random weights; batches of 8 rows of 100 tokens, 40 of them counted, AdamW, bfloat16 if the
processor supports it; answers to 8 prompts of 60 tokens. The peer is the estimate that
`ch07/models/resource_estimate.py` gives before a run. The floor of memory is 16 bytes per parameter
for training (weights, gradients, AdamW's two moments) and 4 for answering.
"""

import json
import statistics
import time

import torch

from benchmarks import harness
from benchmarks.harness import in_a_process, memory, parser, report, row
from ch07.generation.decoding import generate
from ch07.models import resource_estimate as est
from ch07.training.cross_entropy import summed_cross_entropy_in_place
from ch07.training.repeated_shapes import limit_kernels
from ch07.utils.device import available_memory
from ch07.utils.malloc_tuning import keep_freed_memory
from gpt_model import MODEL_SIZES, GPTConfig, GPTModel
from train_loop import TrainSettings, make_optimizer, train_step

ROWS = 8  # per batch, and answers at once
TOKENS = 100  # per row
COUNTED = 40  # targets per row
STEPS = 6
PROMPT = 60  # tokens
NEW_TOKENS = 32  # per answer
BATCHES = est.Batches([ROWS * TOKENS], [ROWS * COUNTED])


def random_model(name):
    """A GPTModel of the given size with random weights, built without a second copy."""
    with torch.device("meta"):
        model = GPTModel(GPTConfig(**MODEL_SIZES[name]))
    stream = torch.Generator().manual_seed(0)
    state = {n: torch.empty(p.shape).normal_(0, 0.02, generator=stream)
             for n, p in model.named_parameters()}  # fmt: skip
    model.load_state_dict({**state, "out_head.weight": state["tok_emb.weight"]}, assign=True)
    model.out_head.weight = model.tok_emb.weight
    return model


def train(name, dtype):
    """Print seconds per step (median without the first) and peak memory as JSON."""
    keep_freed_memory()
    limit_kernels(MODEL_SIZES[name]["emb_dim"])
    before = memory("VmRSS")
    model = random_model(name).train()
    optimizer = make_optimizer(model.parameters(), 5e-5, 0.1)
    ids = torch.randint(0, 50257, (ROWS, TOKENS))
    targets = torch.randint(0, 50257, (ROWS, TOKENS))
    targets[:, : TOKENS - COUNTED] = -100
    settings = TrainSettings(dtype=dtype, cross_entropy=summed_cross_entropy_in_place)
    seconds = []
    for _ in range(STEPS):
        started = time.perf_counter()
        train_step([(ids, targets)], model, optimizer, "cpu", 5e-5, settings)
        seconds.append(time.perf_counter() - started)
    print(json.dumps({"seconds": statistics.median(seconds[1:]), "memory": memory() - before}))


def answer(name, _):
    """Print seconds per new token of `ROWS` answers, and peak memory, as JSON."""
    before = memory("VmRSS")
    model = random_model(name).eval()
    prompts = torch.randint(0, 50257, (ROWS, PROMPT)).tolist()
    started = time.perf_counter()
    generate(model, prompts, NEW_TOKENS, end_id=-1)
    seconds = (time.perf_counter() - started) / NEW_TOKENS
    print(json.dumps({"seconds": seconds, "memory": memory() - before}))


def compare(name, dtype):
    """The rows for one size; training only if it fits into memory."""
    config, free = GPTConfig(**MODEL_SIZES[name]), available_memory(torch.device("cpu"))
    n, _ = est.count_parameters(config)
    rows = []
    expected = est.training_bytes(config, BATCHES, dtype) - est.PROCESS_BYTES
    if expected < free:
        step = est.step_seconds(config, BATCHES, dtype, torch.device("cpu"))
        trained = in_a_process("benchmarks.sizes", "--once", "train", name, dtype)
        rows = [
            row(f"{name}: bytes to train", trained["memory"], expected, "estimate", 16 * n),
            row(f"{name}: seconds of a step ({dtype})", trained["seconds"], step, "estimate"),
        ]
    else:
        print(
            f"{name}: {est.format_bytes(expected)} to train, but {est.format_bytes(free)} are free"
        )
    answered = in_a_process("benchmarks.sizes", "--once", "answer", name, dtype)
    kept = est.answering_bytes(config, ROWS, PROMPT + NEW_TOKENS) - est.PROCESS_BYTES
    return [
        *rows,
        row(f"{name}: bytes to answer", answered["memory"], kept, "estimate", 4 * n),
        row(f"{name}: seconds of a token in 8 answers", answered["seconds"], None, None),
    ]


def main():
    arguments = parser(__doc__)
    arguments.add_argument("names", nargs="*", default=["gpt2-tiny", "gpt2-small"], help="sizes")
    arguments.add_argument("--once", nargs=3, help="used internally")
    given = arguments.parse_args()
    if given.once:
        what, name, dtype = given.once
        return {"train": train, "answer": answer}[what](name, dtype)
    dtype = harness.faster_dtype()
    rows = [r for name in given.names for r in compare(name, dtype)]
    report(rows, given.json)


if __name__ == "__main__":
    main()
