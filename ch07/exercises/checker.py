"""A learner's function in, a `Report` out: the one diagnosis behind all three ways to ask for it.

The one idea: from the general to the special, the first mistake that is found is named and the
rest waits, since most later findings follow from it. Runs the code in this process; a file that
nobody has looked at goes through `ch07.exercises.sandbox`.
"""

import contextlib
import inspect
import io
import random
import warnings

import numpy as np
import torch

from ch07.exercises.catalogue import find
from ch07.exercises.checks.attention import check_attention
from ch07.exercises.checks.block import check_block
from ch07.exercises.checks.collate import check_draft_1, check_draft_2, check_final, check_response
from ch07.exercises.checks.collate_common import kind
from ch07.exercises.checks.generation import check_generate
from ch07.exercises.checks.kv_cache import check_cache
from ch07.exercises.checks.loss import check_loss_batch
from ch07.exercises.checks.loss_loader import check_loss_loader
from ch07.exercises.checks.text import check_dataset, check_format
from ch07.exercises.checks.train_step import check_train_step
from ch07.exercises.report import Mistake, NotStarted, Report, describe_error

CHECKS = {
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
}
PRINTED = 200  # characters of a learner's own output that are repeated


def diagnose(name, function):
    """The `Report` on one function or class for the exercise of that name.

    Whatever the code does short of ending the process becomes a report: it raises, prints,
    changes its arguments or random numbers, or returns nonsense.
    """
    exercise, printed = find(name), _Printed()
    with _undisturbed(), contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        try:
            _checked(exercise.name, function)
            report = {"status": "passed", "sentence": "right."}
        except NotStarted:
            report = {"status": "not started", "sentence": f"not started ({exercise.stub})"}
        except Mistake as mistake:
            report = {
                "status": "mistake",
                "diagnosis": mistake.diagnosis,
                "sentence": mistake.sentence,
                "table": mistake.table,
                "hint": f"A hint: python -m ch07 check --hint {exercise.name}",
            }
    return Report(exercise.name, printed=printed.getvalue()[:PRINTED], **report)


def _checked(name, function):
    """Run the checks; an error of the checker's own is what nonsense results lead to."""
    try:
        if not callable(function):
            raise Mistake("not-callable", f"`{name}` is {kind(function)}: nothing can be called.")
        if inspect.iscoroutinefunction(function):
            raise Mistake("async", f"`{name}` is an `async def`: a plain `def` is wanted.")
        CHECKS[name](function)
    except (Mistake, NotStarted):
        raise
    except Exception as error:
        raise Mistake(
            "nonsense",
            f"What your code returned can't be read ({describe_error(error)}). Compare its type "
            "and shape with the docstring of the exercise.",
        ) from error


class _Printed(io.StringIO):
    """Takes what a learner's code prints, even after that code has closed it."""

    def close(self):
        """Stay open."""


@contextlib.contextmanager
def _undisturbed():
    """Random numbers, torch's defaults and warnings are afterwards as they were."""
    state, own_state = random.getstate(), np.random.get_state()
    gradients, dtype = torch.is_grad_enabled(), torch.get_default_dtype()
    device = torch.get_default_device()
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.manual_seed(0)
        torch.set_grad_enabled(True)
        try:
            yield
        finally:
            random.setstate(state)
            np.random.set_state(own_state)
            torch.set_grad_enabled(gradients)
            torch.set_default_dtype(dtype)
            if torch.get_default_device() != device:  # even setting it to what it is costs time
                torch.set_default_device(None if device.type == "cpu" else device)
