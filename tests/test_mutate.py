"""The check of the checks: faults are really put in, and the tests of collate.py see them."""

import ast
import os
import re
from pathlib import Path

import pytest
from mutate import mutants

ROOT = Path(__file__).resolve().parent.parent
SOURCE = '''
def first(rows, n=2):
    """Says 3 < 4."""
    if n > 0 and rows:
        return rows[:n] + [1]
    raise ValueError(f"{n} rows")
'''


def test_each_mutant_is_one_fault_in_code_that_runs():
    found = list(mutants("first.py", SOURCE))
    whats = {mutant.what for mutant in found}
    assert {"comparison -> GtE", "And -> Or", "slice without its end", "2 -> 3"} <= whats
    assert {"operator -> Sub", "condition negated", "statement left out", "0 -> -1"} <= whats
    unchanged = ast.unparse(ast.parse(SOURCE))
    for mutant in found:
        compile(mutant.source, "first.py", "exec")
        assert mutant.source != unchanged
        if mutant.what != "statement left out":
            assert "Says 3 < 4" in mutant.source and "{n} rows" in mutant.source
    assert not list(mutants("first.py", SOURCE, functions="second"))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="mutants run in forks")
def test_every_thirtieth_fault_in_collate_is_seen(run_command):
    done = run_command("tests/mutate.py", "collate.py", "--every", "30")
    assert done.returncode == 0, done.stderr
    killed, tried = re.search(r"collate.py: (\d+) of (\d+) mutants killed", done.stdout).groups()
    assert killed == tried and int(tried) >= 5, done.stdout
