"""The exit codes of every command."""

EXIT_FAILED = 1  # it failed, or the data is faulty
EXIT_USAGE = 2
EXIT_INTERRUPTED = 130
