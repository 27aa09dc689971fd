"""Where two runs' config.json differ, and which differences can change a number."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from ch07.config import MAY_CHANGE_ON_RESUME, OPTIONS_OF_OLDER_VERSIONS, FinetuneOptions
from ch07.runs.run_folder import Config


def nested_differences(
    one: Mapping[str, Any], other: Mapping[str, Any], within: str = ""
) -> list[tuple[str, Any, Any]]:
    """(name, value, other value) wherever two nested objects differ; None stands for no value.

    >>> four = {"lr": 0.1, "model": {"n_layers": 4}}
    >>> nested_differences(four, {"lr": 0.1, "model": {"n_layers": 2}})
    [('model.n_layers', 4, 2)]
    """
    differences = []
    for key in [*one, *(key for key in other if key not in one)]:
        a = one.get(key)
        b = other.get(key)
        if isinstance(a, dict) and isinstance(b, dict):
            differences += nested_differences(a, b, f"{within}{key}.")
        elif a != b:
            differences.append((f"{within}{key}", a, b))
    return differences


def setting_differences(one: Config, other: Config) -> list[tuple[str, Any, Any]]:
    """Those `nested_differences` of two configs that can change a number.

    Paths can't: data and initial weights are identified by their hashes. Of the settings, which
    follow from the options, only dtype is compared. An option that an older version didn't have yet
    counts as what that version did.
    """
    one = _with_all_options(one)
    other = _with_all_options(other)
    ignored = {f"options.{name}" for name in (*MAY_CHANGE_ON_RESUME, "dtype")}
    ignored |= {"facts.findings", "model_sha256"}
    return [
        (name, a, b)
        for name, a, b in nested_differences(one, other)
        if name not in ignored and (not name.startswith("settings.") or name == "settings.dtype")
    ]


def _with_all_options(config: Config) -> Config:
    """The config with every option of `finetune`; that of a run on pairs as it is."""
    if "preference" in config:
        return config
    defaults = {field.name: field.default for field in dataclasses.fields(FinetuneOptions)}
    options = {**defaults, **OPTIONS_OF_OLDER_VERSIONS, **config["options"]}
    return {**config, "options": options}
