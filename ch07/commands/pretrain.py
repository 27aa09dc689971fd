"""Pretraining: next-token training on plain text, from random weights.

    python -m ch07 pretrain [--corpus FILE] ...
    python -m ch07 finetune --train-rows 1000 --model RUN ...

The one idea: pretraining is the same training. The loop, the loss, the optimizer, checkpoints and
the run folder are those of `finetune`; only the rows differ: they are pieces of a text, in which
every token counts. So a pretraining run is a run with the option `text`: `--resume`, `compare`,
`chat` and `finetune --model` take it like any other.

Source: Raschka, "Build a Large Language Model (From Scratch)", section 5.2; for pretraining before
fine-tuning on a few labelled rows, Radford et al. 2018, "Improving Language Understanding by
Generative Pre-Training", section 3.
"""

from typing import Any

from ch07.commands.finetune import finetune


def pretrain(*, resume: bool = False, **given: Any) -> int:
    """Run the job, or resume the one in `given["out"]`; returns the exit code."""
    return finetune(resume=resume, **{"text": True, "loss_on": "all", **given})
