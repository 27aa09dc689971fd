"""A learner's function in, a `Report` out: terminal, notebook and pytest all use this diagnosis.

The one idea: checks go from the general to the specific. The first mistake found is named, and the
rest waits, since most later findings follow from it. The code runs in this process; a file that
nobody has reviewed goes through `ch07.exercises.sandbox`.
"""

import contextlib
import inspect
import random
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch

from ch07.exercises.catalogue import Exercise, find
from ch07.exercises.checks.attention import check_attention
from ch07.exercises.checks.block import check_block
from ch07.exercises.checks.collate_functions import (
    check_draft_1,
    check_draft_2,
    check_final,
    check_response,
)
from ch07.exercises.checks.common import describe
from ch07.exercises.checks.generation import check_generate
from ch07.exercises.checks.grouped_query import check_grouped_query
from ch07.exercises.checks.kv_cache import check_cache
from ch07.exercises.checks.loss import check_loss_batch
from ch07.exercises.checks.loss_loader import check_loss_loader
from ch07.exercises.checks.rms_norm import check_rms_norm
from ch07.exercises.checks.rotary import check_rotate
from ch07.exercises.checks.shared_beginning import check_shared_beginning
from ch07.exercises.checks.swiglu import check_swiglu
from ch07.exercises.checks.text import check_dataset, check_format
from ch07.exercises.checks.train_step import check_train_step
from ch07.exercises.checks.turns import check_turns
from ch07.exercises.learner_code import PrintedText, describe_error
from ch07.exercises.mistake import Mistake, NotStarted
from ch07.exercises.report import Report

CHECKS: dict[str, Callable[[Callable[..., Any]], None]] = {
    "format_input": check_format,
    "InstructionDataset": check_dataset,
    "custom_collate_draft_1": check_draft_1,
    "custom_collate_draft_2": check_draft_2,
    "custom_collate_fn": check_final,
    "custom_collate_response_fn": check_response,
    "calc_loss_batch": check_loss_batch,
    "calc_loss_loader": check_loss_loader,
    "causal_attention": check_attention,
    "TransformerBlock": check_block,
    "train_step": check_train_step,
    "generate": check_generate,
    "KVCache": check_cache,
    "sum_loss_with_shared_beginning": check_shared_beginning,
    "join_turns": check_turns,
    "RMSNorm": check_rms_norm,
    "rotate": check_rotate,
    "grouped_query_attention": check_grouped_query,
    "SwiGLU": check_swiglu,
}


def diagnose(name: str, function: Any) -> Report:
    """The `Report` on a function or class, as an answer to the exercise with that name.

    Whatever the code does short of ending the process becomes a report: it may raise, print,
    change its arguments or the random state, or return nonsense.
    """
    exercise = find(name)
    output = PrintedText()
    with _preserve_state(), contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
        try:
            _check(exercise.name, function)
        except NotStarted:
            return Report(exercise.name, "not started", sentence=f"not started ({exercise.stub})")
        except Mistake as mistake:
            return _mistake_report(exercise, mistake, output)
    return Report(exercise.name, "passed", sentence="right.", printed=output.getvalue())


def _mistake_report(exercise: Exercise, mistake: Mistake, output: PrintedText) -> Report:
    return Report(
        exercise.name,
        "mistake",
        diagnosis=mistake.diagnosis,
        sentence=mistake.sentence,
        table=mistake.table,
        printed=output.getvalue(),
        hint=f"A hint: python -m ch07 check --hint {exercise.name}",
    )


def _check(name: str, function: Any) -> None:
    """Run the checks; one that raises another exception means that the result can't be used."""
    try:
        if not callable(function):
            raise Mistake(
                "not-callable", f"`{name}` is {describe(function)}, which can't be called."
            )
        if inspect.iscoroutinefunction(function):
            raise Mistake("async", f"`{name}` is an `async def`, but should be a plain `def`.")
        CHECKS[name](function)
    except (Mistake, NotStarted):
        raise
    except Exception as error:
        raise Mistake(
            "nonsense",
            f"What your code returned can't be used ({describe_error(error)}). Compare its type "
            "and shape with the docstring of the exercise.",
        ) from error


@contextlib.contextmanager
def _preserve_state() -> Iterator[None]:
    """Restores the random state, torch's defaults and the warning filters afterwards."""
    python_state = random.getstate()
    numpy_state = np.random.get_state()
    gradients_enabled = torch.is_grad_enabled()
    dtype = torch.get_default_dtype()
    device = torch.get_default_device()
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.manual_seed(0)
        random.seed(0)
        np.random.seed(0)
        torch.set_grad_enabled(True)
        try:
            yield
        finally:
            random.setstate(python_state)
            np.random.set_state(numpy_state)
            torch.set_grad_enabled(gradients_enabled)
            torch.set_default_dtype(dtype)
            # setting a default device slows down every later call, even if it is the same one
            if torch.get_default_device() != device:
                torch.set_default_device(None if device.type == "cpu" else device)
