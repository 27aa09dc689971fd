"""Kinds of command-line arguments: numbers in a range, and the flags of a settings class."""

import argparse
import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

from ch07.config import RUN_RECIPES, default_text, flag_of


def number(kind: Callable[[str], Any], low: float, high: float) -> Callable[[str], Any]:
    """An argparse type: a number from low to high."""

    def parse(text: str) -> Any:
        value = kind(text)
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"{text} is not between {low} and {high}")
        return value

    parse.__name__ = getattr(kind, "__name__", "number")  # argparse says "invalid int value"
    return parse


COUNT = number(int, 1, 10**9)
SEED = number(int, 0, 2**31 - 1)
NEW_TOKENS = number(int, 0, 10**6)
TEMPERATURE = number(float, 0.0, 1e6)
TOP_P = number(float, 1e-9, 1.0)
WEIGHT_FORMATS = ("float32", "float16", "int8")  # of the weights while answering


def check_value_given(parser: argparse.ArgumentParser, option: str | None, values: Any) -> None:
    """A usage error for "--FLAG=--": argparse drops the dashes, or takes them for a value."""
    if option is not None and values in ([], "--"):
        parser.error(f"{option} needs a value, and '--' is none")


class StoreOnce(argparse.Action):
    """Stores a value, as "store" does; giving the option a second time is an error."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        check_value_given(parser, option_string, values)
        given: set[str] = vars(namespace).setdefault(GIVEN, set())
        if option_string is not None and self.dest in given:
            parser.error(f"{option_string} is given twice: give it once")
        given.add(self.dest)
        setattr(namespace, self.dest, values)


GIVEN = "_given"  # the options that were seen; `forget_given` removes it from the result


def forget_given(namespace: argparse.Namespace) -> None:
    """Remove what `StoreOnce` noted."""
    vars(namespace).pop(GIVEN, None)


class AddFiles(argparse.Action):
    """Adds files to those given before: one is stored as text, several as a list."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        check_value_given(parser, option_string, values)
        before = getattr(namespace, self.dest, None) or []
        files = [before] if isinstance(before, str) else list(before)
        files += [values] if isinstance(values, str) else values
        if files:
            setattr(namespace, self.dest, files[0] if len(files) == 1 else files)


def add_data_files(parser: argparse.ArgumentParser, help: str) -> None:
    """The data files, as arguments or with --data; absent from the result if none is given."""
    parser.add_argument(
        "data", nargs="*", action=AddFiles, default=argparse.SUPPRESS, help=help, metavar="FILE"
    )
    add_data_option(parser, "the same", default=argparse.SUPPRESS)


def add_data_option(parser: argparse.ArgumentParser, help: str, default: str | None = None) -> None:
    """--data, which may be given several times."""
    parser.add_argument(
        "--data", dest="data", action=AddFiles, default=default, metavar="FILE", help=help
    )


def add_json(parser: argparse.ArgumentParser) -> None:
    """--json: print JSON instead of a page."""
    parser.add_argument("--json", dest="as_json", action="store_true", help="print JSON")


def add_skip_bad_rows(parser: argparse.ArgumentParser) -> None:
    """--skip-bad-rows, as `finetune` has it."""
    parser.add_argument("--skip-bad-rows", action="store_true", help="leave faulty rows out")


def add_device(parser: argparse.ArgumentParser) -> None:
    """--device, as `finetune` has it."""
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or mps (default: auto)")


def add_weights(parser: argparse.ArgumentParser) -> None:
    """--weights: the number format of the weights while answering."""
    parser.add_argument(
        "--weights",
        choices=WEIGHT_FORMATS,
        default="float32",
        help="number format of the linear layers: float16 and int8 are rounded, and faster to read",
    )


def add_settings(
    parser: argparse.ArgumentParser,
    config_class: type,
    command: str,
    *,
    recipes: Sequence[str] = RUN_RECIPES,
    leave_out: Sequence[str] = (),
) -> None:
    """A flag for each setting of the class that belongs to the command.

    A flag that isn't given is absent from the result, so that a resumed run keeps its own value.
    `recipes` are those whose defaults the help lists.
    """
    for field in dataclasses.fields(config_class):
        if command not in field.metadata.get("commands", ()) or field.name in leave_out:
            continue
        text = setting_help(field, recipes)
        if field.type is bool:
            parser.add_argument(
                flag_of(field.name), action="store_true", default=argparse.SUPPRESS, help=text
            )
            continue
        parser.add_argument(
            flag_of(field.name),
            type=_parser_of(field.type),
            choices=field.metadata["choices"],
            default=argparse.SUPPRESS,
            help=text,
        )


def setting_help(field: dataclasses.Field[Any], recipes: Sequence[str] = RUN_RECIPES) -> str:
    """What `--help` says about a setting: its help, and its default if it has one."""
    default = default_text(field, recipes)
    if field.type is bool or default == "none":
        return field.metadata["help"]
    return f"{field.metadata['help']} (default: {default})"


def _parser_of(annotation: Any) -> Callable[[str], Any]:
    """`int` for a field of type `int` or `int | None`, and so on."""
    kinds = {int: int, int | None: int, float: float, float | None: float}
    return kinds.get(annotation, str)
