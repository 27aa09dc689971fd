"""A model's chat template, written in Jinja -> the prompt style that writes the same text.

The one idea: a template is a program, and what it writes can't be read off its text. So it is
rendered for a few conversations, and a style is accepted only if it writes the same. A template
that does more than join messages, and could therefore run for ever or fill the memory, isn't
rendered at all: then its style is not known.
"""

import re
from typing import Any

from jinja2 import TemplateError, nodes
from jinja2.sandbox import ImmutableSandboxedEnvironment

from ch07.data.chat_forms import full_prompt_with_ends
from ch07.data.entry_checks import Entry
from ch07.data.prompt_styles import CHATML_STYLE, chatml_style
from instruction_dataset import PromptStyle

MAX_CHARACTERS = 100_000
MAX_LOOPS = 10
MAX_NUMBER = 1000
SIMPLE_FILTERS = {
    "trim",
    "length",
    "lower",
    "upper",
    "string",
    "tojson",
    "default",
    "first",
    "last",
}
SIMPLE_METHODS = {"strip", "lstrip", "rstrip", "startswith", "endswith", "split", "get", "items"}
SIMPLE_CALLS = {"raise_exception", "namespace"}
REFUSED_NODES = (
    nodes.Mul,
    nodes.Pow,
    nodes.Macro,
    nodes.CallBlock,
    nodes.Include,
    nodes.Import,
    nodes.FromImport,
    nodes.Extends,
)
# Marks for transformers alone: what stands between them was written by the assistant.
GENERATION_TAG = re.compile(r"\{%-?\s*(?:end)?generation\s*-?%\}")
SINGLE = {"instruction": "Why?", "output": ""}
CONVERSATION = {
    "history": [{"instruction": "Why?", "output": "So."}],
    "instruction": "How?",
    "output": "",
}
WITH_SYSTEM = {**CONVERSATION, "system": "Be brief."}
PROMPT = re.compile(
    r"(?:<\|im_start\|>system\n(?P<system>.*?)<\|im_end\|>\n)?"
    r"<\|im_start\|>user\nWhy\?<\|im_end\|>\n<\|im_start\|>assistant\n",
    flags=re.DOTALL,
)


def style_of_template(template: str | None, end: str) -> tuple[PromptStyle | None, bool]:
    """(the style that a template writes, whether it also writes conversations); None: not known.

    `end` is the token that ends an answer.

    >>> template = "{% for m in messages %}<|im_start|>{{ m.role }}\\n{{ m.content }}<|im_end|>\\n"
    >>> template += "{% endfor %}{{ '<|im_start|>assistant\\n' }}"
    >>> style_of_template(template, "<|im_end|>") == (CHATML_STYLE, True)
    True
    """
    if template is None or len(template) > MAX_CHARACTERS:
        return None, False
    rendered = _render(template, SINGLE, end)
    match = PROMPT.fullmatch(rendered or "")
    if match is None:
        return None, False
    style = CHATML_STYLE if match["system"] is None else chatml_style(match["system"])
    if rendered != full_prompt_with_ends(SINGLE, style, end):
        return None, False
    texts = [_render(template, entry, end) for entry in (CONVERSATION, WITH_SYSTEM)]
    expected = [full_prompt_with_ends(e, style, end) for e in (CONVERSATION, WITH_SYSTEM)]
    if texts == expected:
        return style, True
    refuses_both = texts == [None, None]  # as the template of a run on single questions does
    return (style if refuses_both else None), False


def _render(template: str, entry: Entry, end: str) -> str | None:
    """What a template writes before the last answer; None if it fails, or isn't rendered."""
    messages = [{"role": "system", "content": entry["system"]}] if "system" in entry else []
    for turn in [*entry.get("history", []), entry]:
        messages.append({"role": "user", "content": turn["instruction"]})
        messages.append({"role": "assistant", "content": turn["output"]})
    # as transformers sets it up
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    environment.globals = {"raise_exception": _raise_template_error}
    try:
        source = GENERATION_TAG.sub("", template)
        if not _is_simple(environment.parse(source)):
            return None
        values: dict[str, Any] = {"add_generation_prompt": True, "eos_token": end, "bos_token": ""}
        return environment.from_string(source).render(messages=messages[:-1], **values)
    except (TemplateError, TypeError, ValueError, ArithmeticError, LookupError, RecursionError):
        return None


def _raise_template_error(message: str) -> None:
    raise TemplateError(message)


def _is_simple(tree: nodes.Template) -> bool:
    """Whether a template only joins texts: no large loops, numbers or repetitions."""
    if next(tree.find_all(REFUSED_NODES), None) is not None:
        return False
    if len(list(tree.find_all(nodes.For))) > MAX_LOOPS:
        return False
    if any(node.name not in SIMPLE_FILTERS for node in tree.find_all(nodes.Filter)):
        return False
    for constant in tree.find_all(nodes.Const):
        if isinstance(constant.value, int | float) and abs(constant.value) > MAX_NUMBER:
            return False
    # "%1000000d" % 2 would be a long text; loop.index0 % 2 is a number
    if any(not isinstance(mod.left, nodes.Getattr) for mod in tree.find_all(nodes.Mod)):
        return False
    return all(_is_simple_call(call.node) for call in tree.find_all(nodes.Call))


def _is_simple_call(called: nodes.Node) -> bool:
    if isinstance(called, nodes.Getattr):
        return called.attr in SIMPLE_METHODS
    return isinstance(called, nodes.Name) and called.name in SIMPLE_CALLS
