"""The command line: a command in, an exit code out. `python -m ch07 --help` lists the commands.

Exit codes: 0 ok, 1 it failed or the data is bad, 2 wrong usage, 130 interrupted. Heavy imports
happen inside the commands, so that `--help` answers at once.
"""

import io
import os
import sys

from ch07.commands.parser import make_parser
from ch07.utils.console import terminal_safe
from ch07.utils.errors import OptionError

# Large pages for large tensors on Linux, where they save a tenth of a training step. PyTorch reads
# this when it first allocates (c10/core/impl/alloc_cpu.cpp), so it comes before its import.
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")

EXPECTED = (
    ValueError,
    RuntimeError,
    OSError,
    FloatingPointError,
)  # a person can act on these without a traceback


def main(argv=None):
    """Parse the arguments, run the command, and return its exit code."""
    argv = list(sys.argv[1:] if argv is None else argv)
    if not argv or (argv[0].startswith("-") and argv[0] not in ("-h", "--help")):
        argv.insert(0, "finetune")  # `python -m ch07` is `python -m ch07 finetune`
    arguments = vars(make_parser().parse_args(argv))
    command, verbose = COMMANDS[arguments.pop("command")], arguments.pop("verbose")
    _prepare_streams()
    try:
        code = command(**arguments)
        sys.stdout.flush()  # here, where a closed pipe or a full disk can still be told
        return code
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # `... | head` has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 1
    except ModuleNotFoundError as error:
        if verbose or (error.name or "").startswith("ch07"):
            raise
        from ch07.utils.dependencies import INSTALL_COMMAND

        print(
            f"error: the package {error.name!r} is not installed: {INSTALL_COMMAND}",
            file=sys.stderr,
        )
        return 1
    except EXPECTED as error:
        if verbose:
            raise
        print(terminal_safe(f"error: {error}"), file=sys.stderr)
        return 2 if isinstance(error, OptionError) else 1


def _prepare_streams():
    """Letters that a terminal or file can't take are escaped; a closed stream is an empty one."""
    if sys.stdin is None:
        sys.stdin = io.StringIO()
    if sys.stderr is None:
        sys.stderr = io.StringIO()
    elif sys.stderr is sys.__stderr__:
        sys.stderr = _StillThere(sys.stderr)
    if sys.stdout is None:
        sys.stdout = io.StringIO()
    elif hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="backslashreplace")


class _StillThere:
    """Standard error that may break: a run goes on although its terminal or pipe is gone."""

    def __init__(self, stream):
        self._stream = stream

    def __getattr__(self, name):
        return getattr(self._stream, name)

    def write(self, text):
        return self._try(self._stream.write, text) or len(text)

    def flush(self):
        self._try(self._stream.flush)

    def _try(self, function, *arguments):
        try:
            return function(*arguments)
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), self._stream.fileno())


def _finetune(resume, like, **given):
    from ch07.commands.finetune import finetune

    return finetune(given, resume, like)


def _pretrain(**arguments):
    from ch07.commands.pretrain import pretrain

    return pretrain(**arguments)


def _respond(**arguments):
    from ch07.commands.chat import respond_once

    return respond_once(**arguments)


def _evaluate(losses, **arguments):
    from ch07.commands.evaluate import evaluate, recompute_losses

    if losses:
        wanted = ("folder", "data", "device", "as_json")
        return recompute_losses(**{name: arguments[name] for name in wanted})
    return evaluate(**arguments)


def _prefer(**arguments):
    from ch07.commands.prefer import prefer

    return prefer(**arguments)


def _doctor(**arguments):
    from ch07.utils.dependencies import INSTALL_COMMAND, unmet_requirements

    missing = [line for line in unmet_requirements() if line.endswith("is not installed")]
    if missing:  # whatever else is wrong, nothing could be looked at
        print(f"error: {'; '.join(missing)}: {INSTALL_COMMAND}", file=sys.stderr)
        return 1
    from ch07.commands.doctor import doctor

    return doctor(**arguments)


def _compare(**arguments):
    from ch07.commands.compare import compare

    return compare(**arguments)


def _grid(**arguments):
    from ch07.commands.grid import grid

    return grid(**arguments)


def _prepare_data(**arguments):
    from ch07.commands.prepare_data import prepare_data

    return prepare_data(**arguments)


def _tokenize(**arguments):
    from ch07.commands.tokenize_data import tokenize_data

    return tokenize_data(**arguments)


def _curate(**arguments):
    from ch07.commands.curate import curate

    return curate(**arguments)


def _check(**arguments):
    from ch07.commands.check import check

    return check(**arguments)


def _api_calls(**arguments):
    from ch07.commands.api_calls import api_calls

    return api_calls(**arguments)


def _chat(**arguments):
    from ch07.commands.chat import chat

    return chat(**arguments)


def _export(**arguments):
    from ch07.commands.export import export

    return export(**arguments)


def _self_instruct(**arguments):
    from ch07.commands.generate_data import self_instruct

    return self_instruct(**arguments)


def _magpie(**arguments):
    from ch07.commands.generate_data import magpie

    return magpie(**arguments)


def _reflect(**arguments):
    from ch07.commands.generate_data import reflect

    return reflect(**arguments)


def _verify(**arguments):
    from ch07.commands.verify_weights import verify_weights

    return verify_weights(**arguments)


COMMANDS = {
    "finetune": _finetune,
    "pretrain": _pretrain,
    "respond": _respond,
    "evaluate": _evaluate,
    "prefer": _prefer,
    "compare": _compare,
    "doctor": _doctor,
    "grid": _grid,
    "prepare-data": _prepare_data,
    "tokenize": _tokenize,
    "curate": _curate,
    "check": _check,
    "api-calls": _api_calls,
    "chat": _chat,
    "export": _export,
    "self-instruct": _self_instruct,
    "magpie": _magpie,
    "reflect": _reflect,
    "verify-weights": _verify,
}
