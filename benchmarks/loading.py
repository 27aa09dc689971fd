"""From published weights to the first logits: peak memory and seconds, compared with transformers.

    python -m benchmarks.loading [gpt2-small gpt2-xl ...] [--json FILE]

Random weights in the exact published layout are written to a temporary folder (6.4 GB for gpt2-xl),
so that no download is needed. The floor of memory is the size of the weights; of time, reading the
file once.
"""

import json
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path

import torch

from benchmarks.harness import in_a_process, memory, parser, report, row
from gpt_model import MODEL_SIZES, GPTConfig

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

ROUNDS = 5


def load(who, folder):
    """Load a model and compute one token's logits; print seconds and peak memory as JSON.

    The logits make sure that a memory-mapped file is really read.
    """
    if who == "ours":
        from ch07.models.pretrained import load_gpt2 as load_model
    elif who == "transformers":
        import transformers

        load_model = transformers.GPT2LMHeadModel.from_pretrained
    else:

        def load_model(folder):
            with open(Path(folder) / "model.safetensors", "rb") as file:
                while file.read(1 << 24):
                    pass

    before, started = memory("VmRSS"), time.perf_counter()
    model = load_model(folder)
    if model is not None:
        with torch.inference_mode():
            model(torch.tensor([[464]]))
    seconds, peak = time.perf_counter() - started, memory("VmHWM") - before
    weights = sum(4 * p.numel() for p in model.parameters()) if model is not None else 1
    print(json.dumps({"seconds": seconds, "memory": peak, "weights": weights}))


def compare(name, folder):
    """The rows for one size: medians of `ROUNDS` rounds in which all take turns."""
    from published import hf_config, write_published

    config = GPTConfig(**MODEL_SIZES[name])
    write_published(folder / "model.safetensors", config)
    (folder / "config.json").write_text(json.dumps(hf_config(config)), encoding="utf-8")
    tries = {"ours": [], "transformers": [], "reading": []}
    for _ in range(ROUNDS):
        for who, found in tries.items():
            found.append(in_a_process("benchmarks.loading", "--once", who, folder))

    def middle(who, what):
        return statistics.median(t[what] for t in tries[who])

    weights = middle("ours", "weights")
    peer = middle("transformers", "memory")
    return [
        row(f"{name}: peak memory", middle("ours", "memory"), peer, "transformers", weights),
        row(
            f"{name}: seconds",
            middle("ours", "seconds"),
            middle("transformers", "seconds"),
            "transformers",
            middle("reading", "seconds"),
        ),
    ]


def main():
    arguments = parser(__doc__)
    arguments.add_argument("names", nargs="*", default=["gpt2-small"], help="sizes")
    arguments.add_argument("--once", nargs=2, help="used internally")
    given = arguments.parse_args()
    if given.once:
        return load(*given.once)
    rows = []
    for name in given.names:
        folder = Path(tempfile.mkdtemp(prefix="ch07-loading-"))
        try:
            rows += compare(name, folder)
        finally:
            shutil.rmtree(folder)
    report(rows, given.json)


if __name__ == "__main__":
    main()
