"""One option for learners: `pytest --impl=FILE` checks the exercises in a file of their own."""

from pathlib import Path

import pytest

CHECKS = Path(__file__).parent / "tests" / "exercises" / "test_implementation.py"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Defined here, not in tests/, so that pytest knows it wherever FILE is in the project."""
    text = "check the exercises in a file of your own, and run nothing else"
    parser.addoption("--impl", metavar="FILE", help=text)


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--impl"):
        config.args = [str(CHECKS)]
