"""A check of the checks: small faults are put into the chapter's code; do the tests see them?

    python tests/mutate.py [collate.py ...] [--json FILE]

Each mutant changes one place: a comparison, an operator, a number, a slice's end, a condition, a
statement left out. It is run in a forked child, in which the module under test is the mutant. A
mutant that no test kills is printed with its line. A development tool for Linux and macOS; the
suite tries every thirtieth mutant of collate.py.
"""

import argparse
import ast
import contextlib
import copy
import importlib
import io
import json
import os
import signal
import sys
import types
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SECONDS = 120  # for one mutant; the unchanged code needs a few
TARGETS = {  # file -> (functions, or None for all; the tests that should see a fault in them)
    "collate.py": (None, "collate.py tests/test_collate.py tests/parity/test_collators.py"),
    "instruction_dataset.py": (
        None,
        "instruction_dataset.py tests/test_instruction_dataset.py tests/data/test_prompt_styles.py "
        "tests/visualization/test_token_grid.py",
    ),
    "train_loop.py": (
        "takes_wanted wanted_logits sum_loss calc_loss_batch calc_loss_loader evaluate_model "
        "count_tokens count_targets train_step",
        "tests/test_train_loop.py tests/exercises/test_implementation.py",
    ),
    "gpt_model.py": (
        "causal_attention positions_and_mask check_length extend",
        "tests/test_gpt_model.py tests/generation/test_decoding.py tests/parity/test_gpt2.py "
        "tests/exercises/test_implementation.py",
    ),
}
COMPARISONS = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq, ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In,
}  # fmt: skip
OPERATORS = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Add, ast.Div: ast.Mult,
    ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd,
}  # fmt: skip


@dataclass(frozen=True)
class Mutant:
    """One fault: where it is, what it is, and the whole file with it."""

    file: str
    line: int
    what: str
    source: str


def mutants(file, source, functions=None):
    """All mutants of a file's source, or of the named functions in it."""
    tree = ast.parse(source)
    wanted = None if functions is None else set(functions.split())
    for path, node in _places(tree, wanted):
        for what, change in _changes(node):
            copied = copy.deepcopy(tree)
            change(_at(copied, path))
            text = ast.unparse(ast.fix_missing_locations(copied))
            if text != ast.unparse(tree):
                yield Mutant(file, node.lineno, what, text)


def _places(tree, wanted):
    """(path, node) of everything that can be changed; a path is a list of (field, index)."""

    def walk(node, path, inside):
        if isinstance(node, ast.FunctionDef):
            inside = inside or wanted is None or node.name in wanted
        if inside and hasattr(node, "lineno") and not _is_text(node):
            yield path, node
        for field, value in ast.iter_fields(node):
            children = enumerate(value) if isinstance(value, list) else [(None, value)]
            for index, child in children:
                if isinstance(child, ast.AST) and not _is_text(child):
                    yield from walk(child, [*path, (field, index)], inside)

    yield from walk(tree, [], wanted is None)


def _is_text(node):
    """Docstrings and error messages: a fault in them is no fault of the code."""
    docstring = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    return docstring or isinstance(node, ast.JoinedStr | ast.Import | ast.ImportFrom)


def _at(tree, path):
    for field, index in path:
        tree = getattr(tree, field) if index is None else getattr(tree, field)[index]
    return tree


def _changes(node):
    """(description, function that changes the node in place) of each fault."""
    if isinstance(node, ast.Compare) and type(node.ops[0]) in COMPARISONS:
        other = COMPARISONS[type(node.ops[0])]
        yield f"comparison -> {other.__name__}", lambda n: n.ops.__setitem__(0, other())
    if isinstance(node, ast.BinOp | ast.AugAssign) and type(node.op) in OPERATORS:
        other = OPERATORS[type(node.op)]
        yield f"operator -> {other.__name__}", lambda n: setattr(n, "op", other())
    if isinstance(node, ast.BoolOp):
        other = ast.Or if isinstance(node.op, ast.And) else ast.And
        yield f"{type(node.op).__name__} -> {other.__name__}", lambda n: setattr(n, "op", other())
    if isinstance(node, ast.Constant) and isinstance(node.value, bool):
        yield f"{node.value} -> {not node.value}", lambda n: setattr(n, "value", not n.value)
    elif isinstance(node, ast.Constant) and isinstance(node.value, int | float):
        for step in (1, -1):
            what = f"{node.value} -> {node.value + step}"
            yield what, lambda n, step=step: setattr(n, "value", n.value + step)
    if isinstance(node, ast.If | ast.IfExp):
        negated = lambda n: setattr(n, "test", ast.UnaryOp(ast.Not(), n.test))  # noqa: E731
        yield "condition negated", negated
    if isinstance(node, ast.Slice) and node.upper is not None:
        yield "slice without its end", lambda n: setattr(n, "upper", None)
    if isinstance(node, ast.Slice) and node.lower is not None:
        yield "slice without its start", lambda n: setattr(n, "lower", None)
    if isinstance(node, ast.stmt) and not isinstance(node, ast.FunctionDef | ast.ClassDef):
        yield "statement left out", _leave_out


def _leave_out(node):
    """Turn a statement into `pass`, whatever it was."""
    node.__class__ = ast.Pass
    for field in list(vars(node)):
        if field not in ("lineno", "col_offset", "end_lineno", "end_col_offset"):
            delattr(node, field)


# --- running them -------------------------------------------------------------------------------


def killed(mutant, tests):
    """Whether a test fails with the mutant in the module's place."""
    child = os.fork()
    if child == 0:
        signal.alarm(SECONDS)
        os._exit(_run_child(mutant, tests))
    return os.waitpid(child, 0)[1] != 0  # a crash or the alarm kills it as well


def _run_child(mutant, tests):
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        try:
            name = Path(mutant.file).stem
            module = types.ModuleType(name)
            module.__file__ = str(ROOT / mutant.file)
            sys.modules[name] = module
            exec(compile(mutant.source, mutant.file, "exec"), vars(module))
        except BaseException:
            return 1
        return int(_pytest(tests))


def _pytest(tests):
    import pytest

    quiet = "ignore::pytest.PytestAssertRewriteWarning"  # plugins were imported by the parent
    options = ["-x", "-q", "-W", quiet, "-p", "no:cacheprovider", f"--rootdir={ROOT}"]
    return pytest.main([*options, *tests.split()])


def survey(names, tell=lambda text: None, every=1):
    """[(mutant, whether it was killed)] for the named files; the unchanged code must pass.

    With `every` above 1 only so many are tried: the first, the eleventh, ...
    """
    os.chdir(ROOT)
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    sys.path.insert(0, str(ROOT))
    for module in ("torch", "pytest", "hypothesis", "transformers", "matplotlib.figure"):
        importlib.import_module(module)  # once, here: the children are forks
    found = []
    for name in names:
        functions, tests = TARGETS[name]
        source = (ROOT / name).read_text(encoding="utf-8")
        if killed(Mutant(name, 0, "unchanged", source), tests):
            raise RuntimeError(f"the tests of {name} fail without any fault")
        for mutant in list(mutants(name, source, functions))[::every]:
            found.append((mutant, killed(mutant, tests)))
            if not found[-1][1]:
                line = source.splitlines()[mutant.line - 1].strip()
                tell(f"survived: {name}:{mutant.line}: {mutant.what}: {line}")
    return found


def main():
    """Survey the named files, or all, and print a line for each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    # [] is what argparse makes of no name at all
    parser.add_argument("names", nargs="*", choices=[*TARGETS, []], help="files (default: all)")
    parser.add_argument("--every", type=int, default=1, metavar="N", help="every Nth mutant only")
    parser.add_argument("--json", metavar="FILE", help="keep the result")
    arguments = parser.parse_args()
    results = []
    for name in arguments.names or TARGETS:
        found = survey([name], partial(print, flush=True), arguments.every)
        results += [{**asdict(m), "source": None, "killed": dead} for m, dead in found]
        dead = sum(dead for _, dead in found)
        print(f"{name}: {dead} of {len(found)} mutants killed", flush=True)
    if arguments.json:
        Path(arguments.json).write_text(json.dumps(results, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
