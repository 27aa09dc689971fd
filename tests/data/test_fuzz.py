"""Whatever the bytes: an answer or a sentence, in a second per kilobyte.

Random data files are in test_data.py; here they are longer, deeper and nearer to what is right.
"""

import hashlib
import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from strangers import SHAPE, STYLE

from ch07.data.entries import read_data
from ch07.models.weight_reader import WeightsError, open_weights
from ch07.runs.checkpoint import newest_intact_checkpoint
from ch07.runs.config_differences import nested_differences
from ch07.runs.run_folder import read_config, read_finished_config, read_metrics
from ch07.utils.atomic_files import CHECKSUM_KEY
from ch07.utils.errors import RunFolderError

fast = settings(
    deadline=1000, max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
numbers = st.integers() | st.floats() | st.sampled_from([0, 1, -1, 2**63, 10**400, 1e308])
leaves = st.none() | st.booleans() | numbers | st.text(max_size=8)
values = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner),
    max_leaves=12,
)
signs = st.sampled_from(["[", '{"":', "]", "}"])
deep = st.builds(lambda n, a, b: a * n + b * n, st.integers(1, 1100), signs, signs)
raw = st.binary() | (st.text() | deep).map(lambda text: text.encode("utf-8", "replace"))


def as_json(value):
    return json.dumps(value).encode()


def near(good):
    """The object with some of its values, or of theirs, replaced."""
    changed = {
        key: st.just(value) | values | (near(value) if isinstance(value, dict) else st.nothing())
        for key, value in good.items()
    }
    return st.fixed_dictionaries({}, optional=changed)


rows = near({"instruction": "a", "input": "b", "output": "c", "family": "f", "split": "train"})
files = raw | st.lists(rows | values, max_size=5).map(as_json)
files |= st.lists(rows | values).map(lambda some: b"\n".join(map(as_json, some)))


@fast
@given(files, st.booleans())
def test_data(tmp_path, content, skip_bad_rows):
    path = tmp_path / "data"
    path.write_bytes(content)
    try:
        file = read_data(path, skip_bad_rows)
    except ValueError as error:
        assert str(path) in str(error) and len(str(error)) < 5000
    else:
        assert file.entries and len(file.entries) == len(file.places)


CONFIG = {
    "options": {"data": None, "epochs": 2, "lr": 0.1, "seed": 1, "force": False},
    "model": SHAPE,
    "prompt_style": STYLE,
    "settings": {"dtype": "float32"},
    "facts": {"versions": {"torch": "2"}, "rows": {"train": 1}},
    "model_sha256": "0",
}


@fast
@given(raw | near(CONFIG).map(as_json) | values.map(as_json))
def test_config(tmp_path, content):
    (tmp_path / "config.json").write_bytes(content)
    try:
        config = read_config(tmp_path)
    except RunFolderError as error:
        assert str(tmp_path) in str(error)
    else:
        assert nested_differences(config, config) == [] or "NaN" in json.dumps(config)


RECORD = {
    "step": 1, "epoch": 0.5, "tokens_seen": 2, "lr": 0.1, "seconds": 1.0,
    "train_loss": 2.0, "val_loss": None,
}  # fmt: skip


@fast
@given(raw | st.lists(near(RECORD) | values).map(lambda some: b"\n".join(map(as_json, some))))
def test_metrics(tmp_path, content):
    (tmp_path / "metrics.jsonl").write_bytes(content)
    try:
        records = read_metrics(tmp_path)
    except RunFolderError as error:
        assert str(tmp_path) in str(error)
    else:
        assert [r["step"] for r in records] == sorted(r["step"] for r in records)


NO_TENSORS = (2).to_bytes(8, "little") + b"{}"  # a safetensors file
EMPTY = hashlib.sha256(NO_TENSORS).hexdigest()
STATE = {"epoch": 0, "batch": 1, "step": 2, "tokens_seen": 3, "skipped": 0, "seconds": 1.5}
STATE = {
    "sha256": {"model": EMPTY, "optimizer": EMPTY},
    "state": {**STATE, "history": [RECORD]},
    "config": CONFIG,
}


def as_sealed(value):
    """As `write_sealed_json` would have it."""
    try:
        seal = hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
    except TypeError:
        seal = ""
    return as_json({**value, CHECKSUM_KEY: seal})


@fast
@given(raw | near(STATE).map(as_sealed) | values.map(as_json))
def test_state(tmp_path, content):
    place = tmp_path / "step-00000002"
    place.mkdir(exist_ok=True)
    for name in ("model", "optimizer"):
        (place / f"{name}.safetensors").write_bytes(NO_TENSORS)
    (place / "state.json").write_bytes(content)
    found, state, problems = newest_intact_checkpoint(tmp_path)
    assert (found is None) == (state is None) == (len(problems) == 1)
    assert state is None or type(state["state"]["step"]) is int


def test_the_state_that_is_altered_above_is_intact(tmp_path):
    place = tmp_path / "step-00000002"
    place.mkdir()
    for name in ("model", "optimizer"):
        (place / f"{name}.safetensors").write_bytes(NO_TENSORS)
    (place / "state.json").write_bytes(as_sealed(STATE))
    assert newest_intact_checkpoint(tmp_path)[0] == place


HEADER = {"wte.weight": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}


@pytest.mark.parametrize("name", ["model.safetensors", "model.pth", "model.safetensors.index.json"])
def test_weights(tmp_path, name):
    """safetensors, torch's two formats, and an index of shards."""

    def whole(value):
        text = as_json(value)
        return len(text).to_bytes(8, "little") + text + bytes(4)

    index = near({"weight_map": {"wte.weight": "x.safetensors"}}).map(as_json)
    zipped = raw.map(lambda content: b"PK\x03\x04" + content + b"PK\x05\x06" + bytes(18))

    @fast
    @given(raw | near(HEADER).map(whole) | index | zipped)
    def opened(content):
        (tmp_path / name).write_bytes(content)
        try:
            assert open_weights(tmp_path / name).shapes is not None
        except WeightsError as error:
            assert str(tmp_path) in str(error)

    opened()


@pytest.mark.parametrize("depth", [100, 300, 600, 900, 950, 990, 1000])
@pytest.mark.parametrize("brackets", [("[", "]"), ('{"a":', "}")])
def test_any_depth(tmp_path, depth, brackets):
    """What can just be read may be too deep to be looked at, or to be written again."""
    text = brackets[0] * depth + "0" + brackets[1] * depth
    for name in ("options", "facts", "seed", "emb_dim", "versions"):
        config = json.dumps(CONFIG)
        for old in (f'"{name}": {{', f'"{name}": 1', f'"{name}": 8'):
            new = f'"{name}": {{"deep": {text}, ' if old.endswith("{") else f'"{name}": {text}'
            config = config.replace(old, new)
        (tmp_path / "config.json").write_text(config, encoding="utf-8")
        try:
            read_finished_config(tmp_path)
        except RunFolderError as error:
            assert str(tmp_path) in str(error)
    (tmp_path / "metrics.jsonl").write_text(f'{{"step": {text}}}', encoding="utf-8")
    with pytest.raises(RunFolderError):
        read_metrics(tmp_path)
    place = tmp_path / "step-00000002"
    place.mkdir()
    (place / "state.json").write_text(f'{{"sealed": "", "x": {text}}}', encoding="utf-8")
    assert newest_intact_checkpoint(tmp_path)[0] is None
