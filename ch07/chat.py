"""Talk to a run: one answer, or a conversation in the terminal where each line stands alone.

python -m ch07 respond RUN "instruction" [--input TEXT]
python -m ch07 chat RUN
"""

import sys

import torch

from ch07 import run_folder as rf
from ch07.generation import Sampling
from ch07.machine import choose_device
from ch07.report import printable
from ch07.respond import respond

HELP = """Each line is an instruction; what stands behind " | " is its input. The model was tuned on
single questions, so it doesn't remember the ones before.
  /prompt   show the next prompt exactly as the model reads it (again: stop showing)
  /help     show this
  /quit     leave (or press Ctrl-D)"""
WHY = {"length": "[stopped at the limit of new tokens]", "context": "[the context is full]"}


def respond_once(folder, instruction, text="", device="auto", **options):
    """Print one answer; why it stopped, if not by itself, goes to standard error."""
    run = rf.load_run(folder, choose_device(device))
    answer = _answer(run, {"instruction": instruction, "input": text}, **options)
    print(answer.text)
    _explain(answer)
    return 0


def chat(folder, device="auto", **options):
    """Read instructions line by line and print answers until the input ends; returns 0."""
    run = rf.load_run(folder, choose_device(device))
    interactive = sys.stdin.isatty()
    if interactive:
        print(HELP, file=sys.stderr)
    show_prompt = False
    while True:
        try:
            line = input("> " if interactive else "").strip()
        except EOFError:
            return 0
        if line in ("/quit", "/exit"):
            return 0
        if line == "/help":
            print(HELP, file=sys.stderr)
        elif line == "/prompt":
            show_prompt = not show_prompt
            print(f"prompts are {'shown' if show_prompt else 'hidden'}", file=sys.stderr)
        elif line.startswith("/"):
            print(f"no command {line}; /help lists them", file=sys.stderr)
        elif line:
            instruction, _, text = line.partition(" | ")
            entry = {"instruction": instruction.strip(), "input": text.strip()}
            if show_prompt:
                print(run.style.prompt(entry), file=sys.stderr)
            _say(run, entry, options)


def _say(run, entry, options):
    try:
        answer = _answer(run, entry, **options)
    except ValueError as error:  # a prompt longer than the context: say so, and go on
        print(error, file=sys.stderr)
        return
    print("\n".join(printable(part, width=None) for part in answer.text.split("\n")), flush=True)
    _explain(answer)


def _answer(run, entry, max_new_tokens=256, temperature=0.0, top_k=None, top_p=None, seed=None):
    sampling = Sampling(temperature, top_k, top_p)
    generator = torch.Generator(device=next(run.model.parameters()).device)
    generator.seed() if seed is None else generator.manual_seed(seed)
    return respond(
        run.model, run.tokenizer, [entry], run.style, max_new_tokens, sampling, generator
    )[0]


def _explain(answer):
    if answer.stopped != "end":
        print(WHY[answer.stopped], file=sys.stderr)
    elif not answer.text.strip():
        print("[an empty answer: the model's first token was end-of-text]", file=sys.stderr)
