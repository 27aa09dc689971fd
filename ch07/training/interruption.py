"""What happens when a run is stopped: signals, checkpoints that are due, and what is kept.

The one idea: whatever ends a run, Ctrl-C, a full disk or a lost process, the reader learns which
checkpoint is complete and which command resumes from it. Knows nothing of what is trained.
"""

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import nn

from ch07.runs import run_folder
from ch07.runs.checkpoint import CheckpointError, newest_intact_checkpoint, save_checkpoint
from ch07.utils import distributed
from ch07.utils.console import log_rank0, shell_path
from ch07.utils.errors import DivergedError, RunStoppedError, UserError, is_out_of_memory
from ch07.utils.exit_codes import EXIT_INTERRUPTED
from train_loop import TrainState

STOP_SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP")  # Ctrl-C, a system shutting down, a lost terminal


# --- checkpoints ----------------------------------------------------------------------------------
def checkpoint_callback(
    folder: Path,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    config: dict[str, Any],
    *,
    minutes: float,
    last_step: int,
    stop_requested: Callable[[], bool],
) -> Callable[[TrainState], bool]:
    """`on_step(state)` for a loop: saves a checkpoint if one is due, and returns whether to stop.

    One is due every `minutes`, at the last step, and when the loop is asked to stop.
    """
    last_saved = time.monotonic()

    def on_step(state: TrainState) -> bool:
        nonlocal last_saved
        # asked once: a request that comes later is seen at the next step
        stop = bool(distributed.any_rank(stop_requested()))
        due = distributed.any_rank(time.monotonic() - last_saved >= 60 * minutes)
        if due or stop or state.step == last_step:
            save_checkpoint(folder / run_folder.CHECKPOINT, model, optimizer, state, config=config)
            last_saved = time.monotonic()
        return stop

    return on_step


# --- what the reader is told ----------------------------------------------------------------------
def report_interruption(folder: Path, step: int) -> int:
    """Print how to resume; the exit code."""
    log_rank0(f"\nstopped after step {step}; resume with:\n{resume_command_line(folder)}")
    return EXIT_INTERRUPTED


def resume_command_line(folder: Path) -> str:
    """The command that resumes the run in a folder, indented."""
    command = run_folder.resume_command(folder)
    if distributed.get_world_size() > 1:
        torchrun = f"torchrun --nproc-per-node {distributed.local_world_size()}"
        command = command.replace("python", torchrun, 1)
    return f"  {command}"


@contextmanager
def explain_failures(folder: Path) -> Iterator[None]:
    """A full disk, a lost process, a second Ctrl-C: the error says how to resume the run."""
    try:
        yield
    except BrokenPipeError:  # nobody reads the results, but they are saved
        raise
    except (OSError, CheckpointError) as error:
        reason = getattr(error, "strerror", None) or error
        place = _place_of(error, folder)
        raise RunStoppedError(f"{place}: {reason}. {describe_saved_state(folder)}") from error
    except FloatingPointError as error:
        # How to resume isn't said: the same steps would end in the same way.
        checkpoint, _, _ = newest_intact_checkpoint(folder / run_folder.CHECKPOINT)
        raise DivergedError(f"{error}\n{_what_is_saved(checkpoint)}") from error
    except (RuntimeError, MemoryError) as error:
        if is_out_of_memory(error):
            raise RunStoppedError(
                "too little memory is free: choose a smaller --batch-size or a smaller model. "
                f"{describe_saved_state(folder)}"
            ) from error
        if isinstance(error, UserError) or not distributed.is_lost_peer_error(error):
            raise
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # torchrun's would cut the message short
        raise RunStoppedError(
            f"{distributed.lost_peer_message()}. {describe_saved_state(folder)}"
        ) from error
    except KeyboardInterrupt:
        log_rank0(f"\nstopped immediately. {describe_saved_state(folder)}")
        raise


def _place_of(error: Exception, folder: Path) -> Path:
    """The file that an error is about, as far as a reader knows it: no name that is temporary."""
    name = getattr(error, "filename", None)
    if name is None:
        return folder
    path = Path(str(name))
    if not path.is_relative_to(folder):
        return path
    is_temporary = any(part.startswith(".") for part in path.relative_to(folder).parts)
    return folder if is_temporary else path


def describe_saved_state(folder: Path) -> str:
    """Which checkpoint is complete, and the command that resumes the run, or starts it again."""
    checkpoint, _, problems = newest_intact_checkpoint(folder / run_folder.CHECKPOINT)
    if checkpoint is None and problems:
        command = ""
        if run_folder.command_of_run(folder) == "finetune":  # the others have no --like
            command = f": python -m ch07 finetune --like {shell_path(folder)}"
        return f"Start again{command}"
    if checkpoint is None and not (folder / run_folder.CONFIG).exists():
        return "The run had not started yet"
    return f"{_what_is_saved(checkpoint)}; resume with:\n{resume_command_line(folder)}"


def _what_is_saved(checkpoint: Path | None) -> str:
    return "No checkpoint was written yet" if checkpoint is None else f"{checkpoint} is complete"


# --- signals --------------------------------------------------------------------------------------
@contextmanager
def stop_on_signal(report: Callable[[str], None]) -> Iterator[Callable[[], bool]]:
    """Gives a function that returns whether to stop; a second Ctrl-C raises KeyboardInterrupt.

    A second SIGTERM does not: under torchrun each process may get it twice, once from torchrun.
    """
    stop = False

    def handle(number: int, frame: FrameType | None) -> None:
        nonlocal stop
        first = not stop
        stop = True  # before anything that could fail
        if first:
            report("\nstopping after this step (press Ctrl-C again to stop immediately) ...")
        elif number == signal.SIGINT:
            raise KeyboardInterrupt

    numbers = [getattr(signal, name) for name in STOP_SIGNALS if hasattr(signal, name)]
    # a signal that is ignored stays ignored, as `nohup` wants it
    numbers = [n for n in numbers if signal.getsignal(n) is not signal.SIG_IGN]
    previous = {number: signal.signal(number, handle) for number in numbers}
    try:
        yield lambda: stop
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
