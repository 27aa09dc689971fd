"""What a person can act on is a `UserError`; everything else that leaves a command is a bug."""

import builtins
import importlib
import inspect
import pkgutil
from pathlib import Path

import pytest
import torch

import ch07
from ch07.utils.errors import InputError, UserError, is_out_of_memory

# Caught where they are expected, so they never leave a command.
INTERNAL = {
    "Mistake",  # of a learner's code: the checker reports it
    "NotStarted",  # a stub that nothing has been written into: the checker reports it
    "TransientError",  # of a server: the request is sent again, then a CompletionError says so
}
MODULES = [
    info.name
    for info in pkgutil.walk_packages(ch07.__path__, "ch07.")
    if not info.name.endswith("__main__") and ".stubs" not in info.name
]


def exceptions_of(module):
    """The exception classes that a module defines."""
    for name, value in vars(module).items():
        is_exception = inspect.isclass(value) and issubclass(value, BaseException)
        if is_exception and value.__module__ == module.__name__:
            yield name, value


def test_every_exception_of_the_project_is_a_user_error_or_known_to_be_internal():
    found = {}
    for name in MODULES:
        found.update(exceptions_of(importlib.import_module(name)))
    others = {name for name, error in found.items() if not issubclass(error, UserError)}
    assert others == INTERNAL
    assert {"DataError", "OptionError", "WeightsError", "CheckpointError"} < set(found)
    assert all(error.__doc__ for error in found.values())


def test_a_user_error_can_still_be_caught_as_the_builtin_it_is_like():
    for name in MODULES:
        for _, error in exceptions_of(importlib.import_module(name)):
            if issubclass(error, UserError) and error is not UserError:
                assert issubclass(error, (ValueError, RuntimeError, OSError, ArithmeticError))
    with pytest.raises(ValueError, match="no"):
        raise InputError("no")


@pytest.mark.parametrize("name", MODULES)
def test_the_workshop_raises_no_plain_error_that_a_person_would_see(name):
    """A plain ValueError or RuntimeError would be shown as a bug; see `ch07.commands.cli.main`."""
    path = Path(inspect.getsourcefile(importlib.import_module(name)))
    if "museum" in path.parts:
        return  # copies of other people's mistakes, run in the checker's sandbox
    text = path.read_text(encoding="utf-8")
    for plain in ("ValueError", "RuntimeError", "FloatingPointError", "Exception"):
        assert hasattr(builtins, plain) and f"raise {plain}(" not in text


def test_too_little_memory_is_recognised_whoever_reports_it():
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60, dtype=torch.uint8)
    assert is_out_of_memory(caught.value)
    assert is_out_of_memory(MemoryError()) and is_out_of_memory(torch.OutOfMemoryError("CUDA"))
    with pytest.raises(RuntimeError) as caught:
        torch.ones(2, 3) @ torch.ones(2, 3)
    assert not is_out_of_memory(caught.value)
    assert not is_out_of_memory(ValueError("DefaultCPUAllocator"))


def test_a_notebook_shows_one_line_without_a_traceback():
    """IPython asks an error for `_render_traceback_`; a bug has none, so all of it is shown."""
    assert InputError("row 3 is empty")._render_traceback_() == ["error: row 3 is empty"]
    assert not hasattr(ValueError(), "_render_traceback_")
