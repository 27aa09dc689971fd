"""`python -m ch07`: the command line is in `ch07.commands.cli`."""

import os
import sys

try:
    from ch07.commands.cli import main
except ModuleNotFoundError as error:
    if error.name != "ch07":
        raise
    # `python ch07`, or `python __main__.py`: the folder that holds the package is not on the path
    folder = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    sys.exit(f"error: run it from the project's folder:\n  cd {folder}\n  python -m ch07")

try:
    code = main()
except SystemExit as ended:
    code = ended.code
if "TORCHELASTIC_RUN_ID" in os.environ:  # threads of a group may be at work: Python would abort
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code if isinstance(code, int) else 0)
sys.exit(code)
