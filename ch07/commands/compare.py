"""Two runs side by side: which settings differ, and at which step their numbers part.

    python -m ch07 compare RUN RUN [--json]

The one idea: same settings, same machine, same bits; so whatever differs has a first step and,
most often, a name. Exit code 0: the same; 1: not the same.
"""

import json
from pathlib import Path

import torch
from safetensors import SafetensorError

from ch07.runs import run_folder as rf
from ch07.utils.atomic_files import read_json, read_tensors
from ch07.utils.console import terminal_line
from ch07.utils.errors import RunFolderError
from ch07.utils.validation import check_size

NUMBERS = rf.METRIC_FIELDS[:-1]  # of a record; not its seconds
PARTS = ("numbers", "weights", "answers")


def compare(one, two, as_json=False):
    """Print what differs between two run folders; returns 0 if nothing does, else 1."""
    folders = Path(one), Path(two)
    found = {
        "settings": _settings(*folders),
        "numbers": _numbers(*folders),
        "weights": _weights(*folders),
        "answers": _answers(*folders),
    }
    whole = found["numbers"]["shared"] and not any("missing" in found[part] for part in PARTS)
    differ = found["settings"] or any(found[part]["differ"] for part in PARTS)
    found["same"] = bool(whole and not differ)
    print(json.dumps(found, indent=2) if as_json else "\n".join(_told(found)))
    return 0 if found["same"] else 1


def _settings(one, two):
    configs = (rf.read_config(folder) for folder in (one, two))
    return [{"name": name, "values": [a, b]} for name, a, b in rf.setting_differences(*configs)]


def _numbers(one, two):
    """The first evaluation, of those that both runs made, whose numbers are not the same."""
    first, second = ({r["step"]: r for r in rf.read_metrics(folder)} for folder in (one, two))
    shared = [step for step in first if step in second]
    found = {"shared": len(shared), "only_one": len(first) + len(second) - 2 * len(shared)}
    before = None
    for step in shared:
        pairs = {name: [r[step].get(name) for r in (first, second)] for name in NUMBERS}
        departed = {name: values for name, values in pairs.items() if values[0] != values[1]}
        if departed:
            place = {"first": step, "last_equal": before, "values": departed}
            return {"differ": True, **found, **place}
        before = step
    return {"differ": found["only_one"] > 0, **found, "last_equal": before}


def _weights(one, two):
    missing = [str(folder) for folder in (one, two) if not (folder / rf.MODEL).is_file()]
    if missing:
        return {"differ": len(missing) == 1, "missing": missing}
    first, second = map(_learned, (one, two))
    names = sorted(first.keys() | second.keys())
    other = [
        name
        for name in names
        if name not in first or name not in second or not torch.equal(first[name], second[name])
    ]
    gaps = [
        (first[name].double() - second[name].double()).abs().max().item()
        for name in other
        if name in first and name in second and first[name].shape == second[name].shape
    ]
    return {"differ": bool(other), "of": len(names), "tensors": other, "largest": max(gaps or [0])}


def _learned(folder):
    """The tensors of the model, and those of its adapter."""
    adapter = folder / rf.ADAPTER / rf.ADAPTER_WEIGHTS
    return _tensors(folder / rf.MODEL) | (_tensors(adapter) if adapter.is_file() else {})


def _tensors(path):
    try:
        return read_tensors(path)
    except SafetensorError as error:
        raise RunFolderError(f"{path} is not a whole safetensors file: {error}") from None


def _answers(one, two):
    missing = [str(folder) for folder in (one, two) if not (folder / rf.RESPONSES).is_file()]
    if missing:
        return {"differ": len(missing) == 1, "missing": missing}
    first, second = (_read_answers(folder / rf.RESPONSES) for folder in (one, two))
    other = [pair for pair in zip(first, second, strict=False) if pair[0] != pair[1]]
    found = {"differ": bool(other) or len(first) != len(second), "of": [len(first), len(second)]}
    if [_asked(row) for row in first] != [_asked(row) for row in second]:
        return found | {"differ": True, "other_questions": True}
    return found | {"entries": len(other), "first": list(other[0]) if other else None}


def _read_answers(path):
    check_size(path)
    answers = read_json(path)
    if not isinstance(answers, list) or not all(isinstance(row, dict) for row in answers):
        raise RunFolderError(f"{path} is no list of answers")
    return answers


def _asked(row):
    return row.get("instruction"), row.get("input")


# --- in words -----------------------------------------------------------------------------------
def _told(found):
    if found["same"]:
        yield "the same run: settings, numbers, weights and answers are equal to the bit"
        return
    yield "settings that differ:" if found["settings"] else "all settings are equal"
    for setting in found["settings"]:
        a, b = (terminal_line(repr(value), width=60) for value in setting["values"])
        yield f"  {terminal_line(setting['name'])}: {a} and {b}"
    yield from _told_numbers(found["numbers"])
    yield from _told_weights(found["weights"])
    yield from _told_answers(found["answers"])


def _told_numbers(numbers):
    if "first" in numbers:
        values = "; ".join(f"{n} {a} and {b}" for n, (a, b) in numbers["values"].items())
        yield f"numbers: the first step that departs is {numbers['first']}: {values}"
        if numbers["last_equal"] is not None:
            yield f"  (step {numbers['last_equal']} was still equal)"
    else:
        yield f"numbers: equal at all {numbers['shared']} steps that both evaluated"
    if numbers["only_one"]:
        yield f"  (evaluations that only one of them made: {numbers['only_one']})"


def _told_weights(weights):
    if "missing" in weights:
        yield f"weights: not finished: {terminal_line(', '.join(weights['missing']), width=None)}"
    else:
        yield (
            f"weights: {len(weights['tensors'])} of {weights['of']} tensors differ, "
            f"by at most {weights['largest']:.3g}"
        )


def _told_answers(answers):
    if "missing" in answers:
        yield f"answers: none in {terminal_line(', '.join(answers['missing']), width=None)}"
        return
    if "other_questions" in answers:
        yield "answers: not compared, since the questions differ"
        return
    a, b = answers["of"]
    more = f" ({a} and {b} were given)" if a != b else ""
    yield f"answers: {answers['entries']} of {min(a, b)} differ{more}"
    if answers["first"]:
        a, b = answers["first"]
        yield f"  asked  {terminal_line(str(a.get('instruction')))}"
        for row in (a, b):
            yield f"  said   {terminal_line(str(row.get('model_response')))}"
