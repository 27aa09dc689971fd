"""What happens when a run is stopped: signals, checkpoints that are due, and what is kept.

Whatever ends a run, Ctrl-C, a full disk or a lost process, the reader learns which checkpoint is
complete and which command resumes from it. Knows nothing of what is trained.
"""

import signal
import time
from contextlib import contextmanager

from ch07.runs import run_folder as rf
from ch07.runs.checkpoint import CheckpointError, newest_intact_checkpoint, save_checkpoint
from ch07.utils import distributed
from ch07.utils.console import log_rank0

EXIT_INTERRUPTED = 130  # the exit code after Ctrl-C


def checkpoint_callback(folder, job, config, minutes, last_step, asked_to_stop):
    """`on_step(state)` for a loop: keeps a checkpoint if one is due, and says whether to stop.

    One is due after so many minutes, at the last step, and when the loop is asked to stop.
    """
    last_saved = time.monotonic()

    def on_step(state):
        nonlocal last_saved
        asked = distributed.any_rank(
            asked_to_stop()
        )  # once: what is asked later is seen at the next step
        due = distributed.any_rank(time.monotonic() - last_saved >= 60 * minutes)
        if due or asked or state.step == last_step:
            save_checkpoint(folder / rf.CHECKPOINT, job.model, job.optimizer, state, config=config)
            last_saved = time.monotonic()
        return asked

    return on_step


def report_interruption(folder, step):
    """Say how to go on; the exit code."""
    log_rank0(f"\nstopped after step {step}; go on with:\n{resume_command_line(folder)}")
    return EXIT_INTERRUPTED


def resume_command_line(folder):
    """The command that goes on with a run in this folder, indented."""
    command = rf.resume_command(folder)
    if distributed.get_world_size() > 1:
        many = f"torchrun --nproc-per-node {distributed.local_world_size()}"
        command = command.replace("python", many, 1)
    return f"  {command}"


@contextmanager
def explained_failures(folder):
    """A disk that is full, a second Ctrl-C: whatever ends a run, it says how to go on."""
    try:
        yield
    except BrokenPipeError:  # nobody reads the results, but they are kept
        raise
    except (OSError, CheckpointError) as error:
        why, name = getattr(error, "strerror", None) or error, getattr(error, "filename", None)
        where = folder if name is None or str(name).startswith(str(folder)) else name
        raise RuntimeError(f"{where}: {why}. {describe_saved_state(folder)}") from error
    except RuntimeError as error:
        if not distributed.is_lost_peer_error(error):
            raise
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # torchrun's, which would cut this short
        raise RuntimeError(
            f"{distributed.lost_peer_message()}. {describe_saved_state(folder)}"
        ) from error
    except KeyboardInterrupt:
        log_rank0(f"\nstopped at once. {describe_saved_state(folder)}")
        raise


def describe_saved_state(folder):
    """Which checkpoint is whole, and the command that goes on, or begins anew."""
    place, _, problems = newest_intact_checkpoint(folder / rf.CHECKPOINT)
    if place is None and problems:
        anew = rf.resume_command(folder)
        like = f": python -m ch07 finetune --like {folder}" if "finetune" in anew else ""
        return f"Begin anew{like}"
    if place is None and not (folder / rf.CONFIG).exists():
        return "Nothing was begun yet"
    kept = "No checkpoint was written yet" if place is None else f"{place} is whole"
    return f"{kept}; go on with:\n{resume_command_line(folder)}"


STOP_SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP")  # Ctrl-C, a system that shuts down, a lost terminal


@contextmanager
def stop_on_signal(note):
    """Gives a function that says whether to stop; a second Ctrl-C raises KeyboardInterrupt.

    A second SIGTERM does not: under torchrun each process may get it twice, once from torchrun.
    """
    asked = False

    def ask(number, frame):
        nonlocal asked
        again, asked = asked, True  # before anything that could fail
        if not again:
            note("\nstopping after this step (once more: at once) ...")
        elif number == signal.SIGINT:
            raise KeyboardInterrupt

    numbers = [getattr(signal, name) for name in STOP_SIGNALS if hasattr(signal, name)]
    # what is ignored stays ignored: `nohup` would have it so
    numbers = [n for n in numbers if signal.getsignal(n) is not signal.SIG_IGN]
    before = {number: signal.signal(number, ask) for number in numbers}
    try:
        yield lambda: asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
