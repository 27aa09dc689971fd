"""Tokens per second when answering, compared with the book's code, transformers and llama.cpp.

    python -m benchmarks.generation [--data FILE] [--model gpt2-small] [--rounds 5] [--json FILE]

All contestants have the same random weights and generate 64 tokens greedily after each of 110
held-out prompts, ignoring end-of-text tokens. The book's code answers one prompt at a time, in
float32, without a KV cache. transformers uses the number format and batch size that suit it best
(tried first). llama.cpp takes part if llama-cpp-python is installed; it reads the GGUF file that
this project exports, and has as many threads as PyTorch. Contestants that don't round the weights
must generate the same first tokens; of the others, the number of equal tokens is printed.

The limit for many prompts is two operations per weight and token, at the speed of a large matrix
product measured after the contest; for one prompt it is reading every weight once per token, at
memory bandwidth.
"""

import importlib.util
import itertools
import tempfile
import time
from pathlib import Path

import torch

from benchmarks import harness, peers
from benchmarks.harness import contest_main, speeds
from ch07.data.entries import load_entries
from ch07.data.splits import positional_split
from ch07.data.tokenizer import load_tokenizer
from ch07.generation.decoding import generate
from ch07.models.quantization import quantize_layers
from ch07.models.resource_estimate import count_parameters
from ch07.utils.malloc_tuning import keep_freed_memory
from gpt_model import MODEL_SIZES, GPTConfig, GPTModel
from instruction_dataset import BOOK_STYLE, encode_prompt

N_NEW_TOKENS = 64  # per prompt
N_PROMPTS = 110
N_CHECKED_TOKENS = 16  # must be the same for all contestants that don't round the weights
QUANTIZED = ("float16", "int8")
ROUNDED = (*QUANTIZED, "f16", "q8_0")
BITS = {"float32": 32, "bfloat16": 16, "float16": 16, "int8": 8}


def prompts_of(data):
    """The first `N_PROMPTS` held-out prompts of a data file, as token ids."""
    entries = positional_split(load_entries(data))["test"][:N_PROMPTS]
    return [encode_prompt(entry, load_tokenizer()) for entry in entries]


class Ours:
    def __init__(self, model, dtype, at_once):
        keep_freed_memory()
        if dtype in ROUNDED:
            self.model = quantize_layers(model, dtype)
        else:
            self.model = model.to(getattr(torch, dtype))

    def answer(self, prompts, n_new):
        return generate(self.model, prompts, n_new, end_id=-1)


class Book:
    def __init__(self, model, dtype, at_once):
        self.model = peers.book_model(model).eval()

    def answer(self, prompts, n_new):
        from llms_from_scratch.ch05 import generate as book_generate

        answers = []
        for prompt in prompts:
            ids = book_generate(self.model, torch.tensor([prompt]), n_new, 1024)
            answers.append(ids[0, len(prompt) :].tolist())
        return answers


class Transformers:
    def __init__(self, model, dtype, at_once):
        self.model = peers.hf_model(model).eval().to(getattr(torch, dtype))
        self.model.generation_config.eos_token_id = None  # never stop
        self.at_once = int(at_once)

    @torch.inference_mode()
    def answer(self, prompts, n_new):
        answers = []
        for i in range(0, len(prompts), self.at_once):
            some = prompts[i : i + self.at_once]
            longest = max(map(len, some))
            ids = torch.tensor([[peers.END] * (longest - len(p)) + p for p in some])
            mask = torch.tensor([[0] * (longest - len(p)) + [1] * len(p) for p in some])
            options = {"max_new_tokens": n_new, "do_sample": False, "pad_token_id": peers.END}
            new = self.model.generate(input_ids=ids, attention_mask=mask, **options)
            answers += new[:, longest:].tolist()
        return answers


class LlamaCpp:
    def __init__(self, model, number_format, at_once):
        from llama_cpp import Llama

        from ch07.models.gguf_export import write_gguf

        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.gguf"
            write_gguf(model, path, BOOK_STYLE, name="benchmark", number_format=number_format)
            n_threads = torch.get_num_threads()
            options = {"n_threads": n_threads, "n_threads_batch": n_threads, "use_mmap": False}
            self.llama = Llama(str(path), n_ctx=1024, verbose=False, **options)

    def answer(self, prompts, n_new):
        answers = []
        for prompt in prompts:
            tokens = self.llama.generate(prompt, top_k=1, temp=0.0, repeat_penalty=1.0)
            answers.append(list(itertools.islice(tokens, n_new)))
        return answers


CONTESTANTS = {"ours": Ours, "book": Book, "transformers": Transformers, "llama.cpp": LlamaCpp}


def contest(who, dtype, at_once, n_prompts, size, data):
    """One contestant in a process of its own: prints some tokens, then one line per turn."""
    prompts = prompts_of(data)[: int(n_prompts)]
    start = GPTModel(GPTConfig(**MODEL_SIZES[size]), torch.Generator().manual_seed(0))
    contestant = CONTESTANTS[who](start, dtype, at_once)
    del start

    def work():
        started = time.perf_counter()
        answers = contestant.answer(prompts, N_NEW_TOKENS)
        assert all(len(answer) == N_NEW_TOKENS for answer in answers)
        return {"speed": N_NEW_TOKENS * len(prompts) / (time.perf_counter() - started)}

    harness.serve({"tokens": contestant.answer(prompts[:1], N_CHECKED_TOKENS)}, work)


def run_contest(contestants, rounds, size, data, optional=()):
    """Measure each (who, dtype, batch size, number of prompts): a list of speeds for each.

    AssertionError unless all that don't round the weights generate the same tokens. `optional`
    contestants are left out if they can't start.
    """
    options = ("--model", size, "--data", data)
    module = "benchmarks.generation"
    first, turns = harness.in_turns(module, contestants, options, rounds, optional)
    tokens = {c: line["tokens"][0] for c, line in first.items()}
    exact = [tokens[c] for c in tokens if c[1] not in ROUNDED]
    assert all(other == exact[0] for other in exact), tokens
    for c in tokens:
        if c[1] in ROUNDED:
            equal = sum(map(int.__eq__, tokens[c], exact[0]))
            print(f"{c[0]} {c[1]}: {equal} of the first {N_CHECKED_TOKENS} tokens are the same")
    return {c: [turn["speed"] for turn in done] for c, done in turns.items()}


def limits(data, size, formats, rounds):
    """Tokens per second at the machine's peak: for many prompts, for one prompt in each format."""
    config = GPTConfig(**MODEL_SIZES[size])
    blocks, head = count_parameters(config)[1], config.vocab_size * config.emb_dim
    prompts = prompts_of(data)
    new = N_NEW_TOKENS * len(prompts)
    operations = 2 * (blocks * (sum(map(len, prompts)) + new) + head * new)
    peak = harness.faster_dtype()
    many = [new / (operations / harness.matrix_peak(peak)) for _ in range(rounds)]
    bandwidths = [harness.bandwidth() for _ in range(rounds)]
    n_bytes = {name: (blocks + head) * BITS[name] / 8 for name in formats}
    return many, {name: [b / n_bytes[name] for b in bandwidths] for name in formats}


def best_of_transformers(given):
    """The number format and batch size with which transformers answers 110 prompts fastest."""
    formats = sorted({harness.faster_dtype(), "float32"})
    tried = [("transformers", d, n, N_PROMPTS) for d in formats for n in (55, N_PROMPTS)]
    speeds_of = run_contest(tried, 1, given.model, given.data)
    return max(tried, key=lambda c: speeds_of[c][0])


def compare(given):
    """All rows of the table."""
    peers.require_peers()
    fast = harness.faster_dtype()
    size, data, rounds = given.model, given.data, given.rounds
    formats = [fast, *QUANTIZED]
    many_limit, one_limit = limits(data, size, formats, rounds)
    best = best_of_transformers(given)
    book = ("book", "float32", 1, 1)
    ours = {d: ("ours", d, N_PROMPTS, N_PROMPTS) for d in formats}
    turns = run_contest([*ours.values(), best, book], rounds, size, data)
    rows = []
    for d, mine in ours.items():
        what = f"{N_PROMPTS} prompts, tokens/s ({d})"
        name = "transformers, {} {} at once".format(*best[1:3])
        rows.append(speeds(what, turns[mine], turns[book], "the book's generate", many_limit))
        rows.append(speeds(what, turns[mine], turns[best], name, many_limit))
    ours = {d: ("ours", d, 1, 1) for d in formats}
    others = [("transformers", d, 1, 1) for d in ("bfloat16", "float32")]
    if importlib.util.find_spec("llama_cpp"):
        others += [("llama.cpp", d, 1, 1) for d in ("f16", "q8_0")]
    else:
        print("without llama.cpp: pip install llama-cpp-python builds it, which takes minutes")
    turns = run_contest([*ours.values(), *others], rounds, size, data, optional=others)
    for d, mine in ours.items():
        for peer in [p for p in others if p in turns]:
            what = f"one prompt, tokens/s ({d})"
            name = f"{peer[0]}, {peer[1]}"
            rows.append(speeds(what, turns[mine], turns[peer], name, one_limit[d]))
    return rows


if __name__ == "__main__":
    contest_main(__doc__, 4, contest, compare)
