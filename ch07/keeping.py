"""What a run keeps while it trains, and what it says if it ends too early.

The one idea: whatever ends a run, Ctrl-C, a full disk or a lost process, the reader is told what is
whole and which command goes on from there. Knows nothing of what is trained.
"""

import signal
import sys
import time
from contextlib import contextmanager

from ch07 import ranks
from ch07 import run_folder as rf
from ch07.checkpoint import CheckpointError, newest_whole, save_checkpoint
from ch07.report import safe

INTERRUPTED = 130  # the exit code after Ctrl-C


def note(text):
    """Progress and notes go to standard error, of the first process alone."""
    if ranks.rank() == 0:
        print(safe(text), file=sys.stderr, flush=True)


def keeper(folder, job, config, minutes, last_step, asked_to_stop):
    """`on_step(state)` for a loop: keeps a checkpoint if one is due, and says whether to stop.

    One is due after so many minutes, at the last step, and when the loop is asked to stop.
    """
    last_saved = time.monotonic()

    def on_step(state):
        nonlocal last_saved
        asked = ranks.any_of(asked_to_stop())  # once: what is asked later is seen at the next step
        due = ranks.any_of(time.monotonic() - last_saved >= 60 * minutes)
        if due or asked or state.step == last_step:
            save_checkpoint(folder / rf.CHECKPOINT, job.model, job.optimizer, state, config)
            last_saved = time.monotonic()
        return asked

    return on_step


def stopped_politely(folder, step):
    """Say how to go on; the exit code."""
    note(f"\nstopped after step {step}; go on with:\n{how_to_go_on(folder)}")
    return INTERRUPTED


def how_to_go_on(folder):
    """The command that goes on with a run in this folder, indented."""
    command = rf.command_to_go_on(folder)
    if ranks.size() > 1:
        many = f"torchrun --nproc-per-node {ranks.on_this_machine()}"
        command = command.replace("python", many, 1)
    return f"  {command}"


@contextmanager
def ending_in_words(folder):
    """A disk that is full, a second Ctrl-C: whatever ends a run, it says how to go on."""
    try:
        yield
    except BrokenPipeError:  # nobody reads the results, but they are kept
        raise
    except (OSError, CheckpointError) as error:
        why, name = getattr(error, "strerror", None) or error, getattr(error, "filename", None)
        where = folder if name is None or str(name).startswith(str(folder)) else name
        raise RuntimeError(f"{where}: {why}. {what_is_kept(folder)}") from error
    except RuntimeError as error:
        if not ranks.lost(error):
            raise
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # torchrun's, which would cut this short
        raise RuntimeError(f"{ranks.stopped()}. {what_is_kept(folder)}") from error
    except KeyboardInterrupt:
        note(f"\nstopped at once. {what_is_kept(folder)}")
        raise


def what_is_kept(folder):
    """Which checkpoint is whole, and the command that goes on, or begins anew."""
    place, _, problems = newest_whole(folder / rf.CHECKPOINT)
    if place is None and problems:
        anew = rf.command_to_go_on(folder)
        like = f": python -m ch07 finetune --like {folder}" if "finetune" in anew else ""
        return f"Begin anew{like}"
    if place is None and not (folder / rf.CONFIG).exists():
        return "Nothing was begun yet"
    kept = "No checkpoint was written yet" if place is None else f"{place} is whole"
    return f"{kept}; go on with:\n{how_to_go_on(folder)}"
