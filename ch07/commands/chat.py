"""Talk to a run: one answer, or a conversation in the terminal where each line stands alone.

python -m ch07 respond RUN "instruction" [--input TEXT]
python -m ch07 chat RUN
"""

import sys

import torch

from ch07.data.entry_checks import MAX_FIELD_CHARACTERS
from ch07.generation.decoding import Sampling
from ch07.generation.respond import respond
from ch07.models.saved_run import load_run
from ch07.utils.console import terminal_line, terminal_safe
from ch07.utils.device import choose_device
from ch07.utils.errors import InputError
from ch07.utils.validation import has_lone_surrogate

HELP = """Each line is an instruction; what follows " | " is its input. The model was tuned on
single questions, so it doesn't remember the ones before.
  /prompt   show the next prompt exactly as the model reads it (again: stop showing)
  /help     show this
  /quit     leave (or press Ctrl-D)"""
WHY = {"length": "[stopped at the limit of new tokens]", "context": "[the context is full]"}


def respond_once(folder, instruction, text="", device="auto", **options):
    """Print one answer; why it stopped, if not by itself, goes to standard error."""
    run = load_run(folder, choose_device(device))
    _say(_answer(run, instruction, text, **options))
    return 0


def chat(folder, device="auto", **options):
    """Read instructions line by line and print answers until the input ends; returns 0."""
    run = load_run(folder, choose_device(device))
    interactive = sys.stdin.isatty()
    if interactive:
        print(HELP, file=sys.stderr)
    show_prompt = False
    while True:
        try:
            line = input("> " if interactive else "").strip()
        except EOFError:
            return 0
        except UnicodeDecodeError as error:
            print(f"that line is not {error.encoding} text", file=sys.stderr)
            continue
        if line in ("/quit", "/exit"):
            return 0
        if line == "/help":
            print(HELP, file=sys.stderr)
        elif line == "/prompt":
            show_prompt = not show_prompt
            print(f"prompts are {'shown' if show_prompt else 'hidden'}", file=sys.stderr)
        elif line.startswith("/"):
            print(f"no command {terminal_line(line)}; /help lists them", file=sys.stderr)
        elif line:
            instruction, _, text = line.partition(" | ")
            try:
                if show_prompt:
                    prompt = run.style.prompt(_entry(instruction, text))
                    print(terminal_safe(prompt), file=sys.stderr)
                _say(_answer(run, instruction, text, **options))
            except ValueError as error:  # a prompt longer than the context: say so, and go on
                print(terminal_safe(str(error)), file=sys.stderr)


def _entry(instruction, text):
    """Fields stripped as they are when data is read, so that the prompt is the trained one."""
    if not instruction.strip():
        raise InputError("the instruction is empty")
    if len(instruction) + len(text) > MAX_FIELD_CHARACTERS:
        raise InputError(f"more than {MAX_FIELD_CHARACTERS:,} characters")
    if has_lone_surrogate(instruction + text):
        raise InputError("half a character (a lone surrogate) can't be read: type it as UTF-8")
    return {"instruction": instruction.strip(), "input": text.strip()}


def _answer(
    run, instruction, text, max_new_tokens=256, temperature=0.0, top_k=None, top_p=None, seed=None
):
    sampling = Sampling(temperature, top_k, top_p)
    generator = torch.Generator(device=next(run.model.parameters()).device)
    generator.seed() if seed is None else generator.manual_seed(seed)
    return respond(
        run.model,
        run.tokenizer,
        [_entry(instruction, text)],
        run.style,
        max_new_tokens,
        sampling=sampling,
        generator=generator,
    )[0]


def _say(answer):
    """The answer to standard output; why it stopped, if not by itself, to standard error."""
    text = answer.text
    if sys.stdout.isatty():  # a terminal would obey control characters
        text = terminal_safe(text)
    print(text, flush=True)
    if answer.stopped != "end":
        print(WHY[answer.stopped], file=sys.stderr)
    elif not answer.text.strip():
        print("[an empty answer]", file=sys.stderr)
