"""`look`: where the page goes, what is said, what is refused."""

import json
import shutil

import pytest
import torch

from ch07.commands.cli import main
from ch07.commands.run_arguments import WEIGHT_BITS
from ch07.data.tokenizer import load_tokenizer
from ch07.models.saved_run import save_model
from ch07.pages.look_data import ANSWERS, LookOptions
from ch07.pages.look_weights import BITS
from ch07.runs.run_folder import read_config


def test_the_flags_have_the_defaults_of_the_page():
    from ch07.commands.parser import make_parser

    given = vars(make_parser().parse_args(["look", "RUN"]))
    assert given["max_size"] == LookOptions.max_megabytes
    assert given["bits"] == LookOptions.bits == max(BITS)
    assert WEIGHT_BITS == BITS
    assert given["answers"] is None and ANSWERS == 20


def test_the_page_is_written_into_the_run_folder(run, tmp_path, capsys):
    folder = tmp_path / "copy"
    shutil.copytree(run, folder, ignore=shutil.ignore_patterns("checkpoint"))
    command = ["look", str(folder), "--answers-only", "--answers", "1", "--device", "cpu"]
    assert main(command) == 0
    out, err = capsys.readouterr()
    page = (folder / "look.html").read_text(encoding="utf-8")
    assert f"{len(page.encode()) / 1e6:.1f} MB: open it in a browser" in out
    n = len(json.loads((run / "responses.json").read_text(encoding="utf-8")))
    assert f"1 of {n} held-out answers (--answers)" in err
    assert '"isComputed":true' in page
    assert main(command) == 2  # the file exists
    assert "look.html exists: choose another name for --out" in capsys.readouterr().err


def test_what_is_no_run_is_refused(tmp_path, capsys):
    assert main(["look", str(tmp_path / "none")]) == 1
    assert "is not a run folder" in capsys.readouterr().err
    assert main(["look", str(tmp_path), "--out", str(tmp_path / "a" / "b.html")]) == 2
    assert "is not a folder: choose another for --out" in capsys.readouterr().err
    for wrong in (["--answers", "0"], ["--max-size", "0"], ["--bits", "8"]):
        with pytest.raises(SystemExit):
            main(["look", str(tmp_path), *wrong])


def test_a_llama_goes_into_the_page_too(run, tmp_path, capsys):
    from ch07.models.architectures import describe_shape
    from ch07.models.llama import LlamaConfig, LlamaModel

    shape = {"vocab_size": 50257, "context_length": 64, "emb_dim": 4, "n_layers": 1}
    config = LlamaConfig(**shape, n_heads=2, n_kv_heads=1, hidden_dim=8)
    folder = tmp_path / "llama"
    folder.mkdir()
    stored = {**read_config(run), "model": describe_shape(config)}
    (folder / "config.json").write_text(json.dumps(stored), encoding="utf-8")
    save_model(folder, LlamaModel(config, torch.Generator().manual_seed(0)), load_tokenizer())
    assert main(["look", str(folder), "--bits", "16", "--device", "cpu"]) == 0
    page = (folder / "look.html").read_text(encoding="utf-8")
    assert '"kind":"llama"' in page and '"remainders":null' in page
