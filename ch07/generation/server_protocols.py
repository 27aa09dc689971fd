"""What is said to OpenAI's chat interface, and to Ollama's, and what their answers mean.

The one idea: the two differ in where the options stand and in what an answer looks like, and in
nothing else; so each is a function that writes a request and one that reads an answer. Knows
nothing of networks: bytes in, text out.

Sources: OpenAI's "Create chat completion" (`/v1/chat/completions`) and Ollama's docs/api.md
(`/api/chat`, `/api/generate`), where what steers sampling stands inside "options": at the top level
of the request it is ignored. A raw prompt goes to OpenAI's older `/v1/completions`, which llama.cpp
and vLLM have, too.
"""

import json

from ch07.data.tokenizer import load_tokenizer
from ch07.generation.completion import REASONS, CompletionError, Refused
from ch07.utils.console import terminal_line

OLLAMA_READS = (
    2048  # tokens that some of its versions read; they cut longer prompts and say nothing
)
TEMPLATE = 64  # tokens that a chat template may add


class PassesBy(Exception):
    """A failure that another try may not meet."""

    def __init__(self, text, wait=0.0):
        super().__init__(text)
        self.wait = wait  # seconds that the server asked for


def _messages(prompt, asked):
    system = [] if asked.system is None else [{"role": "system", "content": asked.system}]
    return [*system, {"role": "user", "content": prompt}]


def openai_request(model, prompt, asked, stream, raw):
    """The request as a dict; `asked` are the `Options`, `stream` is Ollama's alone."""
    body = {"model": model, "temperature": asked.temperature}
    body |= {"prompt": prompt} if raw else {"messages": _messages(prompt, asked)}
    body |= {"max_tokens": asked.max_new_tokens, "top_p": asked.top_p, "seed": asked.seed}
    body["stop"] = list(asked.stop[:4]) or None  # it takes four; the text is cut here in any case
    return {name: value for name, value in body.items() if value is not None}


def ollama_request(model, prompt, asked, stream, raw):
    """The request as a dict; `raw` for /api/generate, else for /api/chat."""
    settings = {"num_predict": asked.max_new_tokens, "temperature": asked.temperature}
    settings |= {"top_p": asked.top_p, "seed": asked.seed, "stop": list(asked.stop) or None}
    settings |= {"num_ctx": _context(prompt, asked)}
    body = {"model": model, "stream": stream}
    body |= {"prompt": prompt, "raw": True} if raw else {"messages": _messages(prompt, asked)}
    return body | {"options": {k: v for k, v in settings.items() if v is not None}}


def _context(prompt, asked):
    """The context to ask for, a power of two, so that few are asked for; None where any will do.

    An estimate: other tokenizers, which cut every digit, say, may need twice GPT-2's tokens.
    """
    n_read = 2 * len(load_tokenizer().encode_ordinary(f"{asked.system or ''}\n{prompt}"))
    needed = n_read + TEMPLATE + asked.max_new_tokens
    return None if needed <= OLLAMA_READS else 1 << (needed - 1).bit_length()


def read_openai(data):
    """(text, finish_reason) of an answer; CompletionError, or `PassesBy` for half of one."""
    value = _json(data)
    try:
        choice = value["choices"][0]
        text = choice["text"] if "text" in choice else choice["message"]["content"]
        return _checked_answer(text, choice["finish_reason"])
    except (KeyError, IndexError, TypeError):
        raise CompletionError(
            f"this isn't OpenAI's chat interface: its answer has {_keys(value)}, but no "
            "choices[0].message.content (or text) and finish_reason"
        ) from None


def read_ollama(data):
    """`read_openai` for one object, or one on each line; blank lines between them say nothing."""
    text, part = "", {}
    for line in filter(bytes.strip, data.split(b"\n")):
        part = _json(line)
        if isinstance(part, dict) and "error" in part:
            raise CompletionError(f"the server says: {terminal_line(str(part['error']), 200)}")
        try:
            text += part["response"] if "response" in part else part["message"]["content"]
            if part["done"] is True:
                return _checked_answer(text, part.get("done_reason") or "stop")
        except (KeyError, TypeError):
            raise CompletionError(
                f"this isn't Ollama's interface: its answer has {_keys(part)}, but no "
                "message.content (or response) and done"
            ) from None
    raise PassesBy("the answer broke off")


def _checked_answer(text, reason):
    if isinstance(reason, str) and reason not in REASONS:  # as a filter's
        raise Refused(f"the server gave no whole answer: {terminal_line(reason, 60)}")
    if text is None and reason == "length":  # all of it was thought, and nothing said
        return "", reason
    if not isinstance(text, str) or not isinstance(reason, str):
        raise TypeError("no text")
    return text, reason


def _json(data):
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        if data.lstrip().startswith(b"{"):
            raise PassesBy("the answer broke off") from None
        start = terminal_line(data[:60].decode(errors="replace"), 60)
        raise CompletionError(
            f"the server's answer isn't JSON, but begins with {start!r}: is the address right?"
        ) from None


def _keys(value):
    keys = ", ".join(map(str, value)) if isinstance(value, dict) and value else "no keys"
    return terminal_line(keys, 100)
