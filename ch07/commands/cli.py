"""The command line: a command in, an exit code out. `python -m ch07 --help` lists the commands.

Exit codes: 0 success, 1 failure or faulty data, 2 wrong usage, 130 interrupted. A command's module
is imported when it is called, so that `--help` answers at once.
"""

import io
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from ch07.commands.parser import TARGETS, check_words, make_parser, with_command
from ch07.utils.console import terminal_safe
from ch07.utils.dependencies import INSTALL_COMMAND, unmet_requirements
from ch07.utils.errors import OptionError, UserError, is_out_of_memory
from ch07.utils.exit_codes import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_USAGE

# Large pages for large tensors on Linux, where they save a tenth of a training step. PyTorch reads
# this when it first allocates (c10/core/impl/alloc_cpu.cpp), so it comes before its import.
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")

OUT_OF_MEMORY = "not enough free memory: close other programs, or choose smaller settings"
HOW_TO_REPORT = """
This is a bug in ch07, not your mistake. Please report it, with the command, the lines above
and what `python -m ch07 doctor` prints."""
PROJECT = Path(__file__).resolve().parents[2]


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the arguments, run the command, and return its exit code.

    A `UserError`, an error of the operating system about a file, or a lack of memory is printed as
    one line. Any other exception is a bug in this project: its traceback is shown, with
    instructions for reporting it. With --verbose, every exception is raised as it is.
    """
    words = with_command(sys.argv[1:] if argv is None else argv)
    problem = check_words(words)
    if problem is not None:
        print(terminal_safe(f"error: {problem}\n  see python -m ch07 --help"), file=sys.stderr)
        raise SystemExit(EXIT_USAGE)
    arguments = vars(make_parser().parse_args(words))
    name = arguments.pop("command")
    verbose = arguments.pop("verbose")
    _prepare_streams()
    os.environ["MPLBACKEND"] = "agg"  # commands draw to files only, whatever a window would need
    try:
        _check_working_folder()
        code = load_command(name)(**arguments)
        sys.stdout.flush()  # here, where a closed pipe or a full disk can still be reported
        return code
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED
    except BrokenPipeError:  # `... | head` has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return EXIT_FAILED
    except ModuleNotFoundError as error:
        if verbose or (error.name or "").startswith("ch07"):
            raise
        print(f"error: {_missing_packages(error)}", file=sys.stderr)
        return EXIT_FAILED
    except (UserError, OSError) as error:
        if verbose:
            raise
        print(terminal_safe(f"error: {error}"), file=sys.stderr)
        return EXIT_USAGE if isinstance(error, OptionError) else EXIT_FAILED
    except Exception as error:
        if verbose:
            raise
        if is_out_of_memory(error):
            print(f"error: {OUT_OF_MEMORY}", file=sys.stderr)
        else:
            print(terminal_safe(traceback.format_exc()) + HOW_TO_REPORT, file=sys.stderr)
        return EXIT_FAILED


def _check_working_folder() -> None:
    """UserError if the current folder was deleted: PyTorch's libraries would abort the process."""
    try:
        os.getcwd()
    except OSError:
        raise UserError(
            "the current folder no longer exists: change to one that does, with cd"
        ) from None


def load_command(name: str) -> Callable[..., int]:
    """The function of a command, its module imported now."""
    if name == "doctor":  # it lists everything that is missing, not only the first failed import
        missing = [line for line in unmet_requirements() if line.endswith("is not installed")]
        if missing:
            raise UserError(f"{'; '.join(missing)}: {_how_to_install()}")
    module, function = TARGETS[name].split(":")
    return getattr(import_module(module), function)


def _missing_packages(error: ModuleNotFoundError) -> str:
    return f"the package {error.name!r} is not installed: {_how_to_install()}"


def _how_to_install() -> str:
    """How to fix it: use the project's own interpreter if it has one, else install the packages."""
    folder = "Scripts" if os.name == "nt" else "bin"
    python = PROJECT / ".venv" / folder / ("python.exe" if os.name == "nt" else "python")
    if python.exists() and Path(sys.prefix).resolve() != (PROJECT / ".venv").resolve():
        return f"this Python is {sys.executable}; use {python} -m ch07"
    return INSTALL_COMMAND


def _prepare_streams() -> None:
    """Escape characters that a terminal or file can't show; closed streams become empty ones."""
    if sys.stdin is None:
        sys.stdin = io.StringIO()
    if sys.stderr is None:
        sys.stderr = io.StringIO()
    elif sys.stderr is sys.__stderr__:
        sys.stderr = _ForgivingStream(sys.stderr)
    if sys.stdout is None:
        sys.stdout = io.StringIO()
    elif isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


class _ForgivingStream:
    """Standard error that may break: a run continues even if its terminal or pipe is closed."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write the text, or drop it if the stream is broken; returns its length."""
        return self._try(self._stream.write, text) or len(text)

    def flush(self) -> None:
        """Flush, unless the stream is broken."""
        self._try(self._stream.flush)

    def _try(self, function: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return function(*arguments)
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), self._stream.fileno())
            return None
