"""Talk to a run or another model: one answer, or a conversation in the terminal.

The one idea: a model remembers what it was trained to remember. If its data had conversations, the
turns so far are part of each prompt, as in training; else each line stands alone.

python -m ch07 respond RUN "instruction" [--input TEXT]
python -m ch07 chat RUN
"""

import sys
from typing import Any

import torch

from ch07.config import ANSWER_TOKENS, flag_of
from ch07.data.chat_forms import full_prompt
from ch07.data.entry_checks import MAX_FIELD_CHARACTERS
from ch07.generation.decoding import Sampling
from ch07.generation.respond import Answer, forget_oldest_turns, respond_streaming
from ch07.models.model_slice import use_fastest_threads
from ch07.models.model_to_answer import load_model_to_answer
from ch07.models.saved_run import TrainedModel
from ch07.utils.console import count, terminal_line, terminal_safe
from ch07.utils.errors import InputError, OptionError, UserError
from ch07.utils.validation import has_lone_surrogate
from instruction_dataset import Entry

HELP = """Each line is an instruction; what follows " | " is its input. {memory}
  /prompt   show each prompt exactly as the model reads it (again to hide them){more}
  /help     show this
  Ctrl-C    end an answer that is too long
  exit      leave (so do quit, /quit and Ctrl-D)"""
STANDS_ALONE = """The model was tuned on
single questions, so it doesn't remember earlier lines."""
REMEMBERS = """The model was tuned on
conversations, so it remembers earlier lines."""
MORE_COMMANDS = """
  /new      begin a new conversation
  /system   what follows is the system prompt of a new conversation"""
TOO_LONG = f"more than {MAX_FIELD_CHARACTERS:,} characters"
EXIT_COMMANDS = ("exit", "quit", "/exit", "/quit")
STOP_NOTES = {
    "length": "[stopped at the limit of new tokens]",
    "context": "[the context is full]",
}


def respond_once(
    folder: str,
    instruction: str,
    text: str = "",
    device: str = "auto",
    weights: str = "float32",
    **options: Any,
) -> int:
    """Print the answer to one instruction; `options` are those of `_print_answer`. Returns 0."""
    _check_sampling(options)
    run = load_model_to_answer(folder, device, weights, _print_note)
    _print_answer(run, _entry(instruction, text), **options)
    return 0


def chat(folder: str, device: str = "auto", weights: str = "float32", **options: Any) -> int:
    """Read instructions line by line and print answers until the input ends; returns 0."""
    _check_sampling(options)
    run = load_model_to_answer(folder, device, weights, _print_note)
    device_used = next(run.model.parameters()).device
    use_fastest_threads(run.model.config, 1, device_used)
    session = ChatSession(run, options)
    interactive = sys.stdin.isatty()
    if interactive:
        _print_note(session.help)
    while True:
        try:
            line = _read_line(interactive).strip()
        except EOFError:
            return 0
        except UnicodeDecodeError as error:
            _print_note(f"that line is not valid {error.encoding}")
            continue
        except InputError as error:
            _print_note(str(error))
            continue
        if line in EXIT_COMMANDS:
            return 0
        if line.startswith("/"):
            session.obey(line)
        elif line:
            session.answer(line)


class ChatSession:
    """A conversation with a model: its turns so far, if it was trained on conversations."""

    def __init__(self, run: TrainedModel, options: dict[str, Any]) -> None:
        self.run = run
        self.options = options
        self.remembers = run.conversations is not None
        self.history: list[Entry] = []
        self.system = ""
        self.show_prompt = False

    @property
    def help(self) -> str:
        """What can be typed."""
        memory = REMEMBERS if self.remembers else STANDS_ALONE
        return HELP.format(memory=memory, more=MORE_COMMANDS if self.remembers else "")

    def obey(self, line: str) -> None:
        """Do what a line that starts with "/" says."""
        command, _, text = line.partition(" ")
        if line == "/help":
            _print_note(self.help)
        elif line == "/prompt":
            self.show_prompt = not self.show_prompt
            _print_note(f"prompts are {'shown' if self.show_prompt else 'hidden'}")
        elif self.remembers and command in ("/new", "/system"):
            if command == "/system":
                try:
                    self.system = _checked(text)
                except InputError as error:
                    _print_note(str(error))
                    return
            self.history = []
            _print_note("a new conversation")
        else:
            _print_note(f"no command {terminal_line(line)}; /help lists the commands")

    def answer(self, line: str) -> None:
        """Print the answer to a line "instruction | input", or why there is none."""
        instruction, _, text = line.partition(" | ")
        try:
            entry = self._with_history(_entry(instruction, text))
            if self.show_prompt:
                _print_note(full_prompt(entry, self.run.style))
            answer = _print_answer(self.run, entry, **self.options)
        except UserError as error:  # such as a prompt longer than the context: the chat goes on
            _print_note(str(error))
            return
        except KeyboardInterrupt:  # ends the answer, not the chat
            _print_note("[interrupted]")
            return
        if self.remembers:
            turn = {key: entry[key] for key in ("instruction", "input")}
            self.history.append({**turn, "output": answer.text.strip()})

    def _with_history(self, entry: Entry) -> Entry:
        """The entry after the turns so far; the oldest go when the context gets full."""
        if self.system:
            entry = {**entry, "system": self.system}
        if not self.history:
            return entry
        entry, n_dropped = forget_oldest_turns(
            {**entry, "history": self.history, "output": ""},
            self.run.model.config,
            self.run.tokenizer,
            self.run.style,
            self.options.get("max_new_tokens", ANSWER_TOKENS),
        )
        if n_dropped:
            self.history = self.history[n_dropped:]
            _print_note(f"[{count(n_dropped, 'earlier turn')} forgotten: the context is full]")
        return entry


def _read_line(interactive: bool) -> str:
    """The next line; EOFError at the end, InputError for one that is too long, which is skipped.

    Of a pipe no more is read at a time than a line may have, in case it never ends.
    """
    if interactive:
        return input("> ")
    line = sys.stdin.readline(MAX_FIELD_CHARACTERS + 1)
    if not line:
        raise EOFError
    if len(line) <= MAX_FIELD_CHARACTERS or line.endswith("\n"):
        return line
    while line and not line.endswith("\n"):
        line = sys.stdin.readline(MAX_FIELD_CHARACTERS)
    raise InputError(TOO_LONG)


def _entry(instruction: str, text: str) -> dict[str, str]:
    """The entry, its fields stripped as in training data, so that the prompts are the same."""
    if not instruction.strip():
        raise InputError("the instruction is empty")
    _checked(instruction + text)
    return {"instruction": instruction.strip(), "input": text.strip()}


def _checked(text: str) -> str:
    """The text without outer white space; InputError if it can't stand in a prompt."""
    if len(text) > MAX_FIELD_CHARACTERS:
        raise InputError(TOO_LONG)
    if has_lone_surrogate(text):
        raise InputError("the text contains half a character (a lone surrogate): type it as UTF-8")
    return text.strip()


def _check_sampling(options: dict[str, Any]) -> None:
    """OptionError for what would do nothing: at temperature 0 no token is drawn."""
    given = [name for name in ("top_k", "top_p", "seed") if options.get(name) is not None]
    if given and not options.get("temperature"):
        flags = " and ".join(map(flag_of, given))
        raise OptionError(
            f"without --temperature the likeliest token is always taken, so {flags} would do "
            "nothing: add --temperature 1.0, or a lower one"
        )


def _print_answer(
    run: TrainedModel,
    entry: Entry,
    *,
    max_new_tokens: int = ANSWER_TOKENS,
    temperature: float = 0.0,
    top_k: int | None = None,
    top_p: float | None = None,
    seed: int | None = None,
) -> Answer:
    """Print the answer as it is written and, on standard error, why it stopped if it didn't end."""
    generator = torch.Generator(device=next(run.model.parameters()).device)
    if seed is None:
        generator.seed()
    else:
        generator.manual_seed(seed)
    try:
        answer = respond_streaming(
            run.model,
            run.tokenizer,
            entry,
            run.style,
            max_new_tokens,
            _print_piece,
            sampling=Sampling(temperature, top_k, top_p),
            generator=generator,
        )
    except KeyboardInterrupt:
        print(flush=True)  # ends the line that was begun
        raise
    print(flush=True)
    _explain_end(answer)
    return answer


def _print_piece(text: str) -> None:
    if sys.stdout.isatty():  # a terminal would obey control characters
        text = terminal_safe(text)
    print(text, end="", flush=True)


def _explain_end(answer: Answer) -> None:
    """Say on standard error why an answer stopped, unless it ended by itself with some text."""
    if answer.stopped != "end":
        _print_note(STOP_NOTES[answer.stopped])
    elif not answer.text.strip():
        _print_note("[an empty answer]")


def _print_note(text: str) -> None:
    print(terminal_safe(text), file=sys.stderr)
