"""`python -m ch07`: everything is in cli."""

import sys

from ch07.cli import main

sys.exit(main())
