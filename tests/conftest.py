"""What all tests share: no network, a tokenizer, a small model, a way to run commands."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
NO_NETWORK = Path(__file__).with_name("no_network")
sys.path.insert(0, str(NO_NETWORK))
os.environ["HF_HUB_OFFLINE"] = "1"
# One thread: two processes with two each would wait for each other, and a run that chooses its own
# number of threads might round differently from the one that it is compared with.
os.environ["OMP_NUM_THREADS"] = "1"

# Under nohup, or behind an "&", these are ignored, and would be by all that the tests start.
for number in (signal.SIGINT, getattr(signal, "SIGHUP", signal.SIGINT)):
    if signal.getsignal(number) is signal.SIG_IGN:
        is_int = number == signal.SIGINT
        signal.signal(number, signal.default_int_handler if is_int else signal.SIG_DFL)

import sitecustomize  # noqa: E402
import torch  # noqa: E402
from filelock import FileLock  # noqa: E402

if Path(sitecustomize.__file__).parent != NO_NETWORK:  # some Pythons bring one of their own
    exec((NO_NETWORK / "sitecustomize.py").read_text(encoding="utf-8"))


# Files that take long, the longest first: else a process may begin the last of them when the
# others have no work left. `make test` tells xdist to keep this order.
LONGEST = (
    "test_finetune test_notebooks test_distributed test_readme test_survival test_sandbox "
    "test_book test_class_report test_handouts test_slides test_collate_explorer test_look "
    "test_export test_mutate test_job test_sizes test_pretrained test_token_store test_doctor "
    "test_safety"
).split()


def pytest_collection_modifyitems(items):
    place = {name: number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.path.stem, len(LONGEST)))


@pytest.fixture(scope="session", autouse=True)
def tokenizer_cache(tmp_path_factory):
    """Empty, so that the vocabulary must come from the package, not from an earlier download."""
    os.environ["TIKTOKEN_CACHE_DIR"] = str(tmp_path_factory.mktemp("tiktoken"))


@pytest.fixture(autouse=True)
def seeded():
    """The tests' own random ids are the same ones every time."""
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def tokenizer(tokenizer_cache):
    from ch07.data.tokenizer import load_tokenizer

    return load_tokenizer()


@pytest.fixture(params=["gpt2", "llama"])
def small_model(request):
    """A model of two narrow layers, of each kind, with random weights that can be told apart."""
    from ch07.models.llama import LlamaModel
    from gpt_model import GPTModel

    shape = {"vocab_size": 97, "context_length": 32, "emb_dim": 24, "n_layers": 2}
    stream = torch.Generator().manual_seed(0)
    if request.param == "gpt2":
        model = GPTModel({**shape, "n_heads": 3}, stream)
    else:
        llama = {"n_heads": 6, "n_kv_heads": 2, "hidden_dim": 40, "rope_theta": 100.0}
        model = LlamaModel({**shape, **llama}, stream)
    with torch.no_grad():  # far from the initial weights, where every position looks alike
        for weight in model.parameters():
            weight.add_(0.3 * torch.randn(weight.shape, generator=stream))
    return model.eval()


@pytest.fixture(scope="session")
def run_command():
    """Run a command of the project in a process of its own, without a network."""

    def run(*arguments, cwd=ROOT, timeout=200, **options):
        path = os.pathsep.join([str(NO_NETWORK), str(ROOT)])
        return subprocess.run(
            [sys.executable, *map(str, arguments)],
            cwd=cwd,
            env={**os.environ, "PYTHONPATH": path},
            capture_output=True,
            text=True,
            encoding="utf-8",
            timeout=timeout,
            **options,
        )

    return run


ENTRIES = [
    {"instruction": "Name a colour.", "input": "", "output": "Red"},
    {"instruction": "Add the numbers.", "input": "2 and 3", "output": "5"},
    {"instruction": "Give the opposite of the word.", "input": "hot", "output": "cold"},
]


@pytest.fixture
def entries():
    return [dict(entry) for entry in ENTRIES]


@pytest.fixture(scope="session")
def common(tmp_path_factory):
    """A folder that all of pytest's processes share; they take turns with its lock."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "common"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def number_data(common):
    """Numbers from zero to nine in fourteen phrasings: learned in seconds."""
    from ch07.data.toy_instructions.facts import FACT_FAMILIES

    facts, phrasings = FACT_FAMILIES["number in words"]
    rows = [
        {"instruction": a.format(**slots), "input": b.format(**slots), "output": answer}
        for slots, answer in facts[:10]
        for a, b in phrasings
    ]
    path = common / "numbers.json"
    with FileLock(common / "data.lock"):
        if not path.exists():
            path.write_text(json.dumps(rows), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def few_answers(number_data, tmp_path_factory):
    """The same rows, of which two are held out: untrained models answer at length."""
    rows = json.loads(number_data.read_text(encoding="utf-8"))
    for i, row in enumerate(rows):
        row["split"] = ("test", "validation")[i % 2] if i < 4 else "train"
    path = tmp_path_factory.mktemp("few") / "numbers.json"
    path.write_text(json.dumps(rows), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def run(number_data, common, tokenizer_cache):
    """One finished run, shared by the tests that only look at it, and by pytest's processes."""
    from ch07.commands.cli import main

    folder = common / "run"
    arguments = ["--data", str(number_data), "--out", str(folder), "--batch-size", "16"]
    arguments += ["--epochs", "20", "--eval-freq", "50", "--seed", "1"]
    with FileLock(common / "run.lock"):
        if not (folder / "scores.json").exists():
            assert main(["finetune", *arguments]) == 0
    return folder


@pytest.fixture(scope="session")
def smollm2(tokenizer_cache):
    """The real model, if its package is installed."""
    from ch07.models.saved_run import load_trained_model
    from ch07.models.smollm2 import INSTALL_COMMAND, SMOLLM2, smollm2_file

    if smollm2_file() is None:
        pytest.skip(f"the real model's package is not installed: {INSTALL_COMMAND}")
    return load_trained_model(SMOLLM2)
