"""`python -m ch07`: everything is in cli."""

import os
import sys

from ch07.commands.cli import main

try:
    code = main()
except SystemExit as ended:
    code = ended.code
if "TORCHELASTIC_RUN_ID" in os.environ:  # threads of a group may be at work: Python would abort
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code or 0)
sys.exit(code)
