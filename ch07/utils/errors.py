"""Errors that a person can act on: one sentence each, printed without a traceback.

`UserError` is the base of them all, wherever they are defined. Any other exception that leaves a
command is a bug in this project, and the command line shows its traceback. Most are also one of
Python's own exceptions, so that `except ValueError` works for those who import the project.
"""


class UserError(Exception):
    """Something that the person at the keyboard can put right; the message says how."""

    def _render_traceback_(self) -> list[str]:
        """What a notebook shows in place of a traceback (IPython asks for it): one line."""
        return [f"error: {self}"]


class OptionError(UserError, ValueError):
    """An option that can't be used as it was given: wrong usage, not bad data."""


class DataError(UserError, ValueError):
    """The data can't be trained on as it is; the message says where and what to do."""


class RunFolderError(UserError, ValueError):
    """The folder isn't a run, or not one that can be used; the message says what to do."""


class InputError(UserError, ValueError):
    """An argument, a file or a value in it that can't be used; the message says which and why."""


class RunStoppedError(UserError, RuntimeError):
    """A run that had to stop; the message says why, what is saved, and how to resume."""


class DivergedError(UserError, FloatingPointError):
    """A loss or gradient that is no longer a finite number; the message says what to do."""


def is_out_of_memory(error: Exception) -> bool:
    """Whether something failed because the computer or its GPU has too little memory.

    PyTorch raises OutOfMemoryError for a GPU, but a plain RuntimeError for the CPU; they are
    recognized by name and text, so that this module need not import it.
    """
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return isinstance(error, RuntimeError) and "DefaultCPUAllocator" in str(error)
