"""Two runs side by side: which settings differ, and at which step their numbers diverge.

    python -m ch07 compare RUN RUN [--json]

The one idea: the same settings on the same machine give the same bits, so every difference has a
first step and, most often, a setting that explains it. Exit code 0: the same; 1: not the same.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from ch07.runs import run_folder
from ch07.runs.config_differences import setting_differences
from ch07.utils.atomic_files import read_json, read_tensors
from ch07.utils.console import terminal_line
from ch07.utils.errors import RunFolderError
from ch07.utils.exit_codes import EXIT_FAILED

NUMBERS = [name for name in run_folder.METRIC_FIELDS if name != "seconds"]
PARTS = ("numbers", "weights", "answers")

Comparison = dict[str, Any]  # what was found about one part; each has "differ"


def compare(one: str, two: str, as_json: bool = False) -> int:
    """Print what differs between two run folders; returns 0 if nothing does, else 1."""
    first = Path(one)
    second = Path(two)
    found: Comparison = {
        "settings": _compare_settings(first, second),
        "numbers": _compare_numbers(first, second),
        "weights": _compare_weights(first, second),
        "answers": _compare_answers(first, second),
    }
    # a run on plain text, or on pairs, has no answers; two such runs can be the same
    incomplete = "missing" in found["weights"] or len(found["answers"].get("missing", ())) == 1
    complete = found["numbers"]["shared"] > 0 and not incomplete
    differ = bool(found["settings"]) or any(found[part]["differ"] for part in PARTS)
    found["same"] = complete and not differ
    print(json.dumps(found, indent=2) if as_json else "\n".join(_describe(found)))
    return 0 if found["same"] else EXIT_FAILED


def _compare_settings(first: Path, second: Path) -> list[dict[str, Any]]:
    differences = setting_differences(run_folder.read_config(first), run_folder.read_config(second))
    return [{"name": name, "values": [a, b]} for name, a, b in differences]


def _compare_numbers(first: Path, second: Path) -> Comparison:
    """The first evaluation made by both runs whose numbers differ."""
    first_records = {record["step"]: record for record in run_folder.read_metrics(first)}
    second_records = {record["step"]: record for record in run_folder.read_metrics(second)}
    shared = [step for step in first_records if step in second_records]
    n_only_one = len(first_records) + len(second_records) - 2 * len(shared)
    found: Comparison = {"shared": len(shared), "only_one": n_only_one}
    last_equal: int | None = None
    for step in shared:
        differing = {}
        for name in NUMBERS:
            values = [first_records[step].get(name), second_records[step].get(name)]
            if values[0] != values[1]:
                differing[name] = values
        if differing:
            place = {"first": step, "last_equal": last_equal, "values": differing}
            return {"differ": True, **found, **place}
        last_equal = step
    return {"differ": n_only_one > 0, **found, "last_equal": last_equal}


def _compare_weights(first: Path, second: Path) -> Comparison:
    missing = _folders_lacking(run_folder.MODEL, first, second)
    if missing:
        return {"differ": len(missing) == 1, "missing": missing}
    first_tensors = _read_model_and_adapter(first)
    second_tensors = _read_model_and_adapter(second)
    names = sorted(first_tensors.keys() | second_tensors.keys())
    differing: list[str] = []
    gaps: list[float] = []  # the largest difference of each tensor that both have
    for name in names:
        a = first_tensors.get(name)
        b = second_tensors.get(name)
        if a is not None and b is not None:
            if torch.equal(a, b):
                continue
            if a.shape == b.shape:
                gaps.append((a.double() - b.double()).abs().max().item())
        differing.append(name)
    found = {"of": len(names), "tensors": differing, "largest": max(gaps, default=0)}
    return {"differ": bool(differing), **found}


def _folders_lacking(name: str, first: Path, second: Path) -> list[str]:
    """Those of the two folders that lack a file."""
    return [str(folder) for folder in (first, second) if not (folder / name).is_file()]


def _read_model_and_adapter(folder: Path) -> dict[str, torch.Tensor]:
    """The tensors of the model and, if the run has an adapter, those of the adapter."""
    tensors = _read_tensors(folder / run_folder.MODEL)
    adapter = folder / run_folder.ADAPTER / run_folder.ADAPTER_WEIGHTS
    if adapter.is_file():
        tensors |= _read_tensors(adapter)
    return tensors


def _read_tensors(path: Path) -> dict[str, torch.Tensor]:
    try:
        return read_tensors(path)
    except SafetensorError as error:
        raise RunFolderError(f"{path} is not a complete safetensors file: {error}") from None


def _compare_answers(first: Path, second: Path) -> Comparison:
    missing = _folders_lacking(run_folder.RESPONSES, first, second)
    if missing:
        return {"differ": len(missing) == 1, "missing": missing}
    first_rows = _read_answers(first / run_folder.RESPONSES)
    second_rows = _read_answers(second / run_folder.RESPONSES)
    pairs = zip(first_rows, second_rows, strict=False)
    differing = [[a, b] for a, b in pairs if a != b]
    sizes = [len(first_rows), len(second_rows)]
    found = {"differ": bool(differing) or sizes[0] != sizes[1], "of": sizes}
    if [_question(row) for row in first_rows] != [_question(row) for row in second_rows]:
        return {**found, "differ": True, "other_questions": True}
    return {**found, "entries": len(differing), "first": differing[0] if differing else None}


def _read_answers(path: Path) -> list[dict[str, Any]]:
    answers = read_json(path)
    if not isinstance(answers, list) or not all(isinstance(row, dict) for row in answers):
        raise RunFolderError(f"{path} is not a list of answers")
    return answers


def _question(row: Mapping[str, Any]) -> list[Any]:
    return [row.get(key) for key in ("system", "history", "instruction", "input")]


# --- the comparison as text ---------------------------------------------------------------------
def _describe(found: Comparison) -> Iterator[str]:
    if found["same"]:
        if "missing" in found["answers"]:
            yield "the same run: settings, numbers and weights are equal to the bit; no answers"
        else:
            yield "the same run: settings, numbers, weights and answers are equal to the bit"
        return
    yield "settings that differ:" if found["settings"] else "all settings are equal"
    for setting in found["settings"]:
        a, b = (terminal_line(repr(value), width=60) for value in setting["values"])
        yield f"  {terminal_line(setting['name'])}: {a} and {b}"
    yield from _describe_numbers(found["numbers"])
    yield from _describe_weights(found["weights"])
    yield from _describe_answers(found["answers"])


def _describe_numbers(numbers: Comparison) -> Iterator[str]:
    if "first" in numbers:
        values = "; ".join(f"{name} {a} and {b}" for name, (a, b) in numbers["values"].items())
        yield f"numbers: the first step that differs is {numbers['first']}: {values}"
        if numbers["last_equal"] is not None:
            yield f"  (step {numbers['last_equal']} was still equal)"
    else:
        yield f"numbers: equal at all {numbers['shared']} steps that both evaluated"
    if numbers["only_one"]:
        yield f"  (evaluations that only one of them made: {numbers['only_one']})"


def _describe_weights(weights: Comparison) -> Iterator[str]:
    if "missing" in weights:
        folders = terminal_line(", ".join(weights["missing"]), width=None)
        yield f"weights: not compared, since a run has not finished: {folders}"
        return
    yield (
        f"weights: {len(weights['tensors'])} of {weights['of']} tensors differ, "
        f"by at most {weights['largest']:.3g}"
    )


def _describe_answers(answers: Comparison) -> Iterator[str]:
    if "missing" in answers:
        yield f"answers: none in {terminal_line(', '.join(answers['missing']), width=None)}"
        return
    if "other_questions" in answers:
        yield "answers: not compared, since the questions differ"
        return
    n_first, n_second = answers["of"]
    sizes = f" (one run has {n_first}, the other {n_second})" if n_first != n_second else ""
    yield f"answers: {answers['entries']} of {min(n_first, n_second)} differ{sizes}"
    if answers["first"]:
        yield f"  question  {terminal_line(str(answers['first'][0].get('instruction')))}"
        for row in answers["first"]:
            yield f"  answer    {terminal_line(str(row.get('model_response')))}"
