"""Errors that a person can act on: one sentence each, printed without a traceback."""


class OptionError(ValueError):
    """An option that can't be used as it was given: wrong usage, not bad data."""


class DataError(ValueError):
    """The data can't be trained on as it is; the message says where and what to do."""


class RunFolderError(ValueError):
    """The folder isn't a run, or not one that can be used; the message says what to do."""
