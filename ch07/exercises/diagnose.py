"""A learner's function in, a `Report` out: the one diagnosis behind all three ways to ask for it.

The one idea: from the general to the special, the first mistake that is found is named and the
rest waits, since most later findings follow from it. Runs the code in this process; a file that
nobody has looked at goes through `ch07.exercises.sandbox`.
"""

import contextlib
import io
import random
import warnings

import torch

from ch07.exercises.cache_checks import check_cache
from ch07.exercises.catalogue import find
from ch07.exercises.collate_checks import (
    check_draft_1,
    check_draft_2,
    check_final,
    check_response,
)
from ch07.exercises.findings import Mistake, NotStarted, Report
from ch07.exercises.generation_checks import check_generate
from ch07.exercises.loss_checks import check_loss_batch, check_loss_loader
from ch07.exercises.model_checks import check_attention, check_block
from ch07.exercises.step_checks import check_train_step
from ch07.exercises.text_checks import check_dataset, check_format

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
    exercise, printed = find(name), io.StringIO()
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
            raise Mistake("not-callable", f"`{name}` is {function!r}, but should be code to call.")
        CHECKS[name](function)
    except (Mistake, NotStarted):
        raise
    except Exception as error:
        raise Mistake(
            "nonsense",
            f"What your code returned can't be read ({type(error).__name__}: {error}). Compare "
            "its type and shape with the docstring of the exercise.",
        ) from error


@contextlib.contextmanager
def _undisturbed():
    """Random numbers, gradient mode and warnings are afterwards as they were."""
    state, gradients = random.getstate(), torch.is_grad_enabled()
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.manual_seed(0)
        torch.set_grad_enabled(True)
        try:
            yield
        finally:
            random.setstate(state)
            torch.set_grad_enabled(gradients)
