"""A stranger's files: runs that are sealed as ours are, and bombs, each in a process of its own.

`python tests/strangers.py FOLDER` gives every bomb to the command line, with 120 MB of memory said
to be free, and prints what came of each: exit code, words, seconds, bytes more than before.
"""

import gzip
import io
import json
import os
import sys
import time
import zipfile
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from types import SimpleNamespace

from ch07.models.saved_run import save_model

SHAPE = {
    "vocab_size": 50257, "context_length": 128, "emb_dim": 8, "n_heads": 2, "n_layers": 1,
    "drop_rate": 0.0, "qkv_bias": True, "tied_head": True,
}  # fmt: skip
STYLE = {"name": "book", "with_input": "{instruction}: {input}\n", "no_input": "{instruction}\n"}
ROW = {"instruction": "a", "output": "b"}
BIN = b"\x80\x02]q\x00."  # a list, as pickle writes it
HUGE = 300_000_000
FREE = 120_000_000


def altered(folder, **changes):
    """Change parts of a run's config.json, and seal it, as whoever wants to be believed would."""
    from ch07.runs import run_folder
    from ch07.utils.atomic_files import read_json, sha256_of, write_json

    config = read_json(folder / run_folder.CONFIG)
    for part, values in changes.items():
        config[part] = {**config[part], **values}
    config["model_sha256"] = run_folder.model_checksum(config, sha256_of(folder / run_folder.MODEL))
    write_json(folder / run_folder.CONFIG, config)
    return folder


def a_run(folder, **changes):
    """A finished run of a model that knows nothing, with what a stranger would have it say."""
    from ch07.runs import run_folder
    from ch07.utils.atomic_files import write_json
    from gpt_model import GPTModel

    folder.mkdir(parents=True)
    config = {"options": {}, "model": SHAPE, "prompt_style": STYLE, "settings": {}, "facts": {}}
    write_json(folder / run_folder.CONFIG, config)
    save_model(folder, GPTModel(SHAPE))
    return altered(folder, **changes)


def refused(capsys, *command):
    """The error of a command that ends in a sentence."""
    from ch07.commands.cli import main

    assert main([str(word) for word in command]) in (1, 2)
    error = capsys.readouterr().err
    assert error.startswith("error: ") and "Traceback" not in error, error
    assert all(c.isprintable() or c == "\n" for c in error)
    return error


def header(text, path, length=None):
    """A file that begins as safetensors do."""
    length = len(text) if length is None else length
    path.write_bytes(length.to_bytes(8, "little") + text.encode() + bytes(64))
    return ["finetune", "--model", str(path)]


# --- bombs: each writes its files and returns the command ---------------------------------------


def data_bombs():
    """Name -> the text of a data file."""
    many = ",".join(f'"{i:x}":0' for i in range(200_000))
    row = json.dumps(ROW)
    return {
        "deep lists": "[" * 1_000_000,
        "deep objects": '{"a":' * 500_000,
        "a deep field": '[{"instruction": "a", "output": ' + "[" * 100_000,
        "a long number": "[" + "9" * 2_900_000 + "]",
        "a large number": '[{"instruction": "a", "output": 1e999999999}]',
        "empty objects": "[" + "{}," * 950_000 + "{}]",
        "wide letters": '["\U0001f600",' + "[]," * 950_000 + "{}]",
        "broken lines and a row": row + "\n" + "x\n" * 1_400_000,
        "faulty rows and a note": f"[{'{},' * 99_990}{row[:-1]}, " + '"k": 0},' + "{}," * 850_000
        + "{}]",
        "keys": "[{" + many + "}]",
        "a key twice among many": "[{" + many + ',"x":0,"x":0}]',
        "a long key": json.dumps([{"k" * 2_900_000: 0}]),
        "a long field": json.dumps([{**ROW, "output": "b" * 2_900_000}]),
        "too much": "[" + "{}," * 1_100_000 + "{}]",
        "ten megabytes": json.dumps([{**ROW, "output": "b" * 10_000_000}]),
    }  # fmt: skip


def special_files(place):
    """Name -> the path of what is no plain file, or not text."""
    pipe, packed = place / "pipe", place / "packed.json"
    os.mkfifo(pipe)
    packed.write_bytes(gzip.compress(b"[" + b"{}," * 20_000_000, 1))
    return {"a device": "/dev/zero", "a pipe": pipe, "a folder": place, "a gzip": packed}


def weight_bombs(place):
    """Name -> the command, for files of weights."""
    import torch

    class Bytes:
        def __reduce__(self):
            return bytearray, (HUGE * 10,)

    def saved(name, value, **options):
        torch.save(value, place / name, **options)
        return ["finetune", "--model", str(place / name)]

    wide = {"wte.weight": torch.zeros(1).expand(50257, 10**6), "wpe.weight": torch.zeros(8, 8)}
    bombs = {"a tensor of one number": saved("wide.pth", wide)}
    bombs["bytes by number"] = saved("bytes.pth", Bytes())
    old = {"_use_new_zipfile_serialization": False}
    bombs["bytes by number, old"] = saved("old.pth", Bytes(), **old)
    with zipfile.ZipFile(place / "zip.pth", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/version", "3")
        archive.writestr("archive/data.pkl", BIN + bytes(HUGE // 5))
    bombs["a packed zip"] = ["finetune", "--model", str(place / "zip.pth")]
    bombs["a header of 2**60"] = header("{}", place / "long.safetensors", 2**60)
    text = '{"wte.weight": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}'
    bombs["a wide header"] = header(text + " " * 12_000_000 + "}", place / "wide.safetensors")
    index = place / "shards" / "model.safetensors.index.json"
    index.parent.mkdir()
    index.write_text('{"weight_map": [' + "{}," * 2_000_000, encoding="utf-8")
    bombs["a long index"] = ["finetune", "--model", str(index.parent)]
    return bombs


def run_bombs(place):
    """Name -> the command, for run folders and folders for transformers."""

    def replaced(name, text=None, link=None, command="respond"):
        folder = a_run(place / f"run{len(list(place.iterdir()))}")
        (folder / name).unlink(missing_ok=True)
        if text is not None:
            (folder / name).write_text(text, encoding="utf-8")
        elif link is not None:
            (folder / name).symlink_to(link)
        else:
            os.mkfifo(folder / name)
        return [command, str(folder), str(folder) if command == "compare" else "Name a colour."]

    return {
        "config too long": replaced("config.json", '{"options": [' + "{}," * 2_000_000),
        "config too deep": replaced("config.json", '{"a":' * 500_000),
        "config a number": replaced("config.json", "9" * 4_000_000),
        "config a device": replaced("config.json", link="/dev/zero"),
        "config a pipe": replaced("config.json"),
        "weights a device": replaced("model.safetensors", link="/dev/zero"),
        "metrics too long": replaced("metrics.jsonl", "{}," * 2_000_000, command="compare"),
        "metrics too deep": replaced("metrics.jsonl", "[" * 500_000, command="compare"),
        "metrics a pipe": replaced("metrics.jsonl", command="compare"),
    }


def tried(command):
    """What came of a command in a fork of this process."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        from ch07.commands.cli import main

        status = Path("/proc/self/status").read_text
        before = int(status("utf-8").split("VmRSS:")[1].split()[0])
        Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")  # forget the peak
        said, began = io.StringIO(), time.process_time()
        with redirect_stderr(said), redirect_stdout(said):
            code = main([str(word) for word in command])
        seconds = time.process_time() - began
        grown = int(status("utf-8").split("VmHWM:")[1].split()[0]) - before
        found = {"code": code, "said": said.getvalue()[:20_000], "seconds": seconds}
        os.write(write, json.dumps(found | {"grown": grown * 1024}).encode())
        os._exit(0)
    os.close(write)
    with open(read, "rb") as answer:
        text = answer.read()
    os.waitpid(child, 0)
    return json.loads(text) if text else {"code": None, "said": "it died"}


def main(place):
    """Try all bombs, one after the other; print a JSON object."""
    import psutil

    import ch07.commands.chat
    import ch07.commands.compare
    import ch07.commands.finetune  # noqa: F401  (imports are no part of what is measured)
    from ch07.data.tokenizer import load_tokenizer

    load_tokenizer()
    free = SimpleNamespace(available=FREE)
    psutil.virtual_memory = lambda: free
    found, path = {}, place / "bomb.json"
    for name, text in data_bombs().items():
        path.write_text(text, encoding="utf-8")
        free.available = 10**9 if name == "ten megabytes" else FREE
        found[name] = tried(["finetune", "--data", path])
    del text
    free.available = FREE
    for name, special in special_files(place).items():
        found[name] = tried(["finetune", "--data", special])
    for name, command in (weight_bombs(place) | run_bombs(place)).items():
        found[name] = tried(command)
    print(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
