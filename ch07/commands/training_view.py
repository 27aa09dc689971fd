"""What a reader sees while a run trains: losses and an answer at each evaluation.

    step 200 of 900: training loss 1.234, validation loss 1.345, about 2 minutes left
      Which day comes after Monday? -> Tuesday

With --watch also a page, with --log tensorboard also event files. Nothing here changes the run: the
answer is greedy, and everything else only reads what the loop has recorded.
"""

import os
import sys
import webbrowser
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from tqdm import tqdm

from ch07.config import FinetuneOptions, PreferOptions, flag_of
from ch07.evaluation.score_report import answer_line
from ch07.pages import training_page
from ch07.runs import run_folder
from ch07.runs.samples import Sample, read_samples, save_samples
from ch07.training.held_out_question import AnswerAt
from ch07.training.progress import History, progress_line
from ch07.training.tensorboard_log import TensorBoardLog, import_tensorboard
from ch07.utils import distributed
from ch07.utils.console import terminal_line
from ch07.utils.errors import RunFolderError
from train_loop import can_redraw

LOCAL_DISPLAYS = ("DISPLAY", "WAYLAND_DISPLAY")  # one of them is set where Linux has a screen


def check_log(options: FinetuneOptions | PreferOptions) -> None:
    """MissingPackage if what `--log` needs is not installed; before a run begins."""
    if options.log == "tensorboard":
        import_tensorboard()


class TrainingView:
    """The evaluations of one run, shown as they come; use it as a context around the training.

    `begin` takes what an interrupted run has recorded, `show` is called after each evaluation, and
    `end` before the block ends without an error; all three by rank 0 alone.
    """

    def __init__(
        self,
        folder: Path,
        options: FinetuneOptions | PreferOptions,
        n_steps: int,
        answer_at: AnswerAt | None,
    ) -> None:
        self.folder = folder
        self.options = options
        self.n_steps = n_steps
        self.answer_at = answer_at  # None: no answer is shown
        self.history: History = []
        self.samples: list[Sample] = []
        self.log: TensorBoardLog | None = None

    def __enter__(self) -> "TrainingView":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if distributed.get_rank() != 0:
            return
        if error is not None:
            with suppress(OSError):  # the error that ends the run is the one to report
                self._end_after(error)
        if self.log is not None:
            self.log.close()

    def begin(self, history: History) -> None:
        """Take over what was recorded so far, and open the page."""
        self.history = history
        self.samples = self._samples_so_far()
        if self.options.log == "tensorboard":
            self.log = TensorBoardLog(self.folder, history, self.samples)
        if self.options.watch:
            self._write_page()
            self._open_page()

    def _samples_so_far(self) -> list[Sample]:
        """The stored answers at evaluations that the checkpoint counts; the others come again."""
        evaluated = {record["step"] for record in self.history}
        if not evaluated:
            return []
        try:
            stored = read_samples(self.folder)
        except RunFolderError as error:
            _print_line(f"{error}; the answers so far are left out")
            return []
        return [sample for sample in stored if sample["step"] in evaluated]

    def show(self, history: History) -> None:
        """Save the metrics, answer the question, and show both."""
        self.history = history
        run_folder.save_metrics(self.folder, history)
        sample = None
        line = progress_line(history, self.n_steps, with_time=not can_redraw())
        if self.answer_at is not None:
            sample = self.answer_at(int(history[-1]["step"]))
            self.samples.append(sample)
            save_samples(self.folder, self.samples)
            line += f"\n  {terminal_line(sample['question'])} -> {answer_line(sample['answer'])}"
        _print_line(line)
        if self.log is not None:
            self.log.add(history, sample)
        if self.options.watch:
            self._write_page()

    def end(self, finished: bool) -> None:
        """The training is over, for good if it has `finished`."""
        if not self.options.watch:
            return
        if finished:
            self._write_page(training_page.FINISHED)
        else:
            self._write_page(training_page.STOPPED, run_folder.resume_command(self.folder))

    def _end_after(self, error: BaseException) -> None:
        if not self.options.watch:
            return
        if isinstance(error, KeyboardInterrupt):
            self._write_page(training_page.STOPPED, run_folder.resume_command(self.folder))
        else:
            reason = str(error).strip() or type(error).__name__
            self._write_page(training_page.FAILED, reason.splitlines()[0])

    # --- the page --------------------------------------------------------------------------------
    def _write_page(self, state: str = training_page.TRAINING, note: str = "") -> None:
        page = training_page.training_page(
            str(self.folder),
            self.history,
            self.samples,
            n_steps=self.n_steps,
            settings=_settings_shown(self.options),
            state=state,
            note=note,
        )
        training_page.write_training_page(self.folder, page)

    def _open_page(self) -> None:
        """Open the page in a browser where there is one to see; its path is printed anyway."""
        path = (self.folder / run_folder.WATCH).resolve()
        opened = has_display() and webbrowser.open_new_tab(path.as_uri())
        how = "is open in the browser" if opened else "open this file in a browser"
        _print_line(f"the page of this run ({how}): {terminal_line(str(path), width=None)}")


def has_display() -> bool:
    """Whether a browser window would appear before the person who typed the command.

    Not for a script, in continuous integration, or on the far side of an SSH connection.
    """
    is_terminal = sys.stderr is not None and sys.stderr.isatty()
    if not is_terminal or os.environ.get("CI"):
        return False
    if sys.platform in ("win32", "darwin"):
        return "SSH_CONNECTION" not in os.environ
    return any(os.environ.get(name) for name in LOCAL_DISPLAYS)


def _settings_shown(options: FinetuneOptions | PreferOptions) -> dict[str, Any]:
    """The settings of a run as its page lists them, without those that were left open."""
    return {flag_of(name): value for name, value in vars(options).items() if value is not None}


def _print_line(text: str) -> None:
    """Print to standard error, above the progress bar if there is one."""
    tqdm.write(text, file=sys.stderr)
