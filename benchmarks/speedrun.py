"""How soon the default run gets 95 % and 97 % of the held-out prompts right, over several seeds.

    python -m benchmarks.speedrun [settings of finetune] [--seeds 1 2 3] [--name WORDS]
        [--baseline FILE] [--json FILE]

Each seed's run trains as `python -m ch07` does with the same settings. Every 50 steps, and at its
end, it answers all held-out prompts; it stops early when 97 % of the answers are right. The result
is the first evaluation at which enough of them are right: the steps, tokens, floating-point
operations and seconds of training until then. Evaluation is not counted. Printed are the medians
over the seeds and a row for the table in docs/results/speedrun.md. The peer is an earlier call,
usually without settings, that wrote `--baseline FILE` with `--json FILE`.

Operations are counted from the shapes with which the model is called: padding counts, and what all
rows of a batch begin with counts once if it is computed once. Data, rows, tokenizer and model are
those of the default run, which is checked, and so is that no held-out prompt is trained on.
"""

import json
import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import nn

from benchmarks.harness import parser, report, row
from ch07.commands.argument_types import SEED, add_settings
from ch07.config import MAX_COUNT, RANDOM_START, FinetuneOptions, flag_of
from ch07.data.entries import load_entries
from ch07.data.entry_checks import Entry
from ch07.data.splits import overlap, split_entries
from ch07.data.tokenizer import load_tokenizer
from ch07.data.toy_instructions.build import DATA_FILE
from ch07.evaluation.held_out_answers import answer_entries
from ch07.evaluation.metrics import exact_match
from ch07.models.empty_model import empty_model
from ch07.training.job import Job, build_job
from ch07.training.muon import count_operations
from ch07.utils.errors import DataError
from gpt_model import MODEL_SIZES, GPTConfig
from train_loop import Record, TrainState, total_steps, train_model

SHARES = (0.95, 0.97)  # of the held-out prompts, answered right
STEPS_BETWEEN_EVALUATIONS = 50
COSTS = ("steps", "tokens", "operations", "seconds")
# The settings that an entry may change. All others are those of the default run.
OPEN_SETTINGS = (
    "epochs batch_size lr warmup_steps weight_decay optimizer accumulation_steps loss_on device "
    "dtype shared_beginning threads max_steps beta2 chunk_batches"
).split()
# An answer ends with one end-of-text token, and may end with white space, which doesn't count.
EXTRA_TOKENS = 3

# Operations for one number, in what is no matrix product; rounded up.
LOGIT_OPERATIONS = 8  # softmax and cross-entropy, forward and backward
UPDATE_OPERATIONS = 15  # of a weight by AdamW, or by Muon after orthogonalizing; with clipping


# --- operations -----------------------------------------------------------------------------------
def forward_operations(config: GPTConfig, shape: Sequence[int], n_keys: int, n_logits: int) -> int:
    """The operations of all matrix products when a model is called on token ids of this shape.

    Each of the (rows, columns) queries attends to `n_keys` keys, masked or not; `n_logits` is at
    how many positions the output head is computed.
    """
    rows, columns = shape
    weights = _block_weights(config)
    attention = 2 * config.n_layers * columns * n_keys * config.emb_dim  # Q K^T, and times V
    head = config.emb_dim * config.vocab_size * n_logits
    return 2 * (rows * (columns * weights + attention) + head)


@lru_cache
def _block_weights(config: GPTConfig) -> int:
    """The number of weights in all matrices of the blocks."""
    blocks = empty_model(config).trf_blocks
    return sum(p.numel() for p in blocks.parameters() if p.ndim == 2)


def update_operations(model: nn.Module, optimizer: str) -> int:
    """The operations of one update of all weights by "adamw" or "muon"."""
    weights = list(model.parameters())
    operations = UPDATE_OPERATIONS * sum(p.numel() for p in weights)
    if optimizer == "muon":
        blocks = model.get_submodule("trf_blocks")
        operations += sum(count_operations(p.shape) for p in blocks.parameters() if p.ndim == 2)
    return operations


class OperationCounter:
    """Adds up the operations of every training call of a model, forward and backward."""

    def __init__(self, model: nn.Module, config: GPTConfig) -> None:
        self.config = config
        self.total = 0
        model.register_forward_pre_hook(self._count, with_kwargs=True)

    def _count(self, model: nn.Module, given: Any, options: Mapping[str, Any]) -> None:
        if not torch.is_grad_enabled():  # an evaluation
            return
        shape = given[0].shape
        wanted = options.get("wanted")
        n_logits = math.prod(shape) if wanted is None else len(wanted[0])
        cache = options.get("cache")  # a `SharedBeginning` of P tokens, each of them a key
        n_keys = shape[1] + (0 if cache is None else cache.P)
        # the backward pass has two products for each of the forward pass
        self.total += 3 * forward_operations(self.config, shape, n_keys, n_logits)
        self.total += LOGIT_OPERATIONS * self.config.vocab_size * n_logits


# --- a run ----------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Evaluation:
    """What a run had cost when it answered the held-out prompts, and the share it got right."""

    steps: int
    tokens: int  # without padding
    operations: int
    seconds: float  # of training
    share: float


def check_rows(training: Sequence[Entry], held_out: Sequence[Entry]) -> None:
    """DataError if a held-out prompt is trained on, or if the rows aren't the default run's.

    Prompts are the same if they differ only in letter case and white space.
    """
    splits = split_entries(load_entries(DATA_FILE))
    validation = splits["validation"]
    leaked = overlap({"train": training, "validation": validation, "test": held_out})
    for name, n in leaked.items():
        if n:
            raise DataError(f"{n} of the {name} prompts are among the training prompts")
    if list(training) != splits["train"]:
        raise DataError("the training rows are not those of the default run")
    if list(held_out) != splits["test"]:
        raise DataError("the held-out rows are not those of the default run")


def check_model(config: GPTConfig) -> None:
    """DataError unless a model is the default run's, with GPT-2's vocabulary."""
    if config != GPTConfig(**MODEL_SIZES[RANDOM_START]):
        raise DataError(f"the model is not {RANDOM_START}: {config}")
    tokenizer = load_tokenizer()
    if tokenizer.name != "gpt2" or tokenizer.n_vocab != config.vocab_size:
        raise DataError(f"the tokenizer is {tokenizer.name}, not GPT-2's")


def share_right(job: Job) -> float:
    """The share of the held-out prompts whose answers are an exact match."""
    entries = job.plan.rows.entries("test")
    longest = max(len(load_tokenizer().encode_ordinary(entry["output"])) for entry in entries)
    answers = answer_entries(job.model, job.plan.style, entries, longest + EXTRA_TOKENS)
    pairs = zip(answers, entries, strict=True)
    return statistics.mean(exact_match(answer.text, entry["output"]) for answer, entry in pairs)


class Watcher:
    """Evaluates a run every `STEPS_BETWEEN_EVALUATIONS` steps, and ends it when it is good enough.

    Its methods are callbacks of `train_model`.
    """

    def __init__(self, job: Job, optimizer: str, evaluate: Callable[[Job], float]) -> None:
        self.job = job
        self.evaluate = evaluate
        self.counter = OperationCounter(job.model, job.plan.config)
        self.operations_per_update = update_operations(job.model, optimizer)
        self.last_step = total_steps(job.plan.train_loader, job.plan.settings)
        self.evaluations: list[Evaluation] = []
        self.started = time.monotonic()
        self.paused = 0.0  # seconds of evaluations so far

    def on_eval(self, record: Record) -> None:
        """Leave out the time of the loop's own evaluation before the first step."""
        if record["step"] == 0:
            self.paused = time.monotonic() - self.started

    def on_step(self, state: TrainState) -> bool:
        """Evaluate if it is time; True if the last threshold is reached."""
        if state.step % STEPS_BETWEEN_EVALUATIONS and state.step != self.last_step:
            return False
        paused_at = time.monotonic()
        evaluation = Evaluation(
            steps=state.step,
            tokens=state.tokens_seen,
            operations=self.counter.total + state.step * self.operations_per_update,
            seconds=state.seconds - self.paused,
            share=self.evaluate(self.job),
        )
        self.evaluations.append(evaluation)
        print(describe(evaluation), flush=True)
        self.paused += time.monotonic() - paused_at
        return evaluation.share >= SHARES[-1]


def measure(
    options: FinetuneOptions, evaluate: Callable[[Job], float] = share_right
) -> list[Evaluation]:
    """Train with these settings; returns the evaluations along the run."""
    job = build_job(options, report=print)
    plan = job.plan
    check_rows(plan.rows.entries("train"), plan.rows.entries("test"))
    check_model(plan.config)
    assert job.optimizer is not None  # only a finished job has none
    watcher = Watcher(job, options.chosen_optimizer, evaluate)
    train_model(
        job.model,
        plan.train_loader,
        None,
        job.optimizer,
        plan.device,
        settings=replace(plan.settings, eval_freq=MAX_COUNT, eval_iter=1),
        on_eval=watcher.on_eval,
        on_step=watcher.on_step,
        progress=False,
    )
    return watcher.evaluations


def describe(evaluation: Evaluation) -> str:
    """An evaluation as a line."""
    return (
        f"step {evaluation.steps}: {evaluation.share:.1%} right, {evaluation.tokens:,} tokens, "
        f"{evaluation.operations:.3g} operations, {evaluation.seconds:.0f} s"
    )


# --- several runs ---------------------------------------------------------------------------------
def first_reaching(evaluations: Sequence[Evaluation], share: float) -> Evaluation | None:
    """The first evaluation with at least this share of right answers; None if there is none."""
    return next((found for found in evaluations if found.share >= share), None)


def median_cost(runs: Sequence[Sequence[Evaluation]], share: float, cost: str) -> float | None:
    """The median over the runs of what it cost to reach a share; None if it wasn't reached.

    A run that never gets there counts as more expensive than all that do.
    """
    firsts = [first_reaching(run, share) for run in runs]
    costs = [math.inf if first is None else getattr(first, cost) for first in firsts]
    median = statistics.median(costs)
    return median if math.isfinite(median) else None


def cost_name(cost: str, share: float) -> str:
    """How a row of the JSON names a cost: "steps to 95 %"."""
    return f"{cost} to {share * 100:.0f} %"


def cost_rows(
    runs: Sequence[Sequence[Evaluation]], baseline: Mapping[str, float]
) -> list[dict[str, Any]]:
    """The rows of the JSON: how many runs reach each share, and the median costs if most do.

    `baseline` has the same costs of the default run, by their names.
    """
    rows = []
    for share in SHARES:
        reached = sum(first_reaching(run, share) is not None for run in runs)
        what = f"share of runs that reach {share * 100:.0f} %"
        rows.append(row(what, reached / len(runs), None, None))
        for cost in COSTS:
            median = median_cost(runs, share, cost)
            if median is None:
                continue
            peer = baseline.get(cost_name(cost, share))
            rows.append(row(cost_name(cost, share), median, peer, peer and "the default run"))
    return rows


def markdown_row(name: str, runs: Sequence[Sequence[Evaluation]]) -> str:
    """The row of the table in docs/results/speedrun.md: steps, operations and seconds."""
    cells = [name]
    for cost, form in (("steps", "{:,.0f}"), ("operations", "{:.3g}"), ("seconds", "{:.0f}")):
        scale = 1e12 if cost == "operations" else 1
        medians = [median_cost(runs, share, cost) for share in SHARES]
        texts = ["not reached" if m is None else form.format(m / scale) for m in medians]
        cells.append(" / ".join(texts))
    return f"| {' | '.join(cells)} |"


def flags_of(settings: Mapping[str, Any]) -> str:
    """The flags that give these settings, in backquotes.

    >>> flags_of({"lr": 0.01, "max_steps": 750}), flags_of({})
    ('`--lr 0.01 --max-steps 750`', 'default settings')
    """
    flags = " ".join(f"{flag_of(name)} {value}" for name, value in settings.items())
    return f"`{flags}`" if flags else "default settings"


def read_baseline(path: str | None) -> dict[str, float]:
    """{what: cost} of the rows in a JSON file that this benchmark wrote; empty without one."""
    if path is None:
        return {}
    rows = json.loads(Path(path).read_text(encoding="utf-8"))
    return {found["what"]: found["ours"] for found in rows}


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--seeds", type=SEED, nargs="+", default=[1, 2, 3], help="one run each")
    arguments.add_argument("--name", help="what the row is called; else, its flags")
    arguments.add_argument("--baseline", metavar="FILE", help="JSON of the default run")
    closed = [field.name for field in fields(FinetuneOptions) if field.name not in OPEN_SETTINGS]
    add_settings(arguments, FinetuneOptions, "finetune", recipes=("random",), leave_out=closed)
    given = vars(arguments.parse_args())
    settings = {name: given[name] for name in OPEN_SETTINGS if name in given}
    baseline = read_baseline(given["baseline"])
    runs = []
    for seed in given["seeds"]:
        print(f"seed {seed}", flush=True)
        runs.append(measure(FinetuneOptions(**settings, seed=seed)))
    report(cost_rows(runs, baseline), given["json"])
    print(markdown_row(given["name"] or flags_of(settings), runs))


if __name__ == "__main__":
    main()
