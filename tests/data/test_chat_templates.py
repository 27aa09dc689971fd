"""A chat template's style is what it writes, not what its text looks like."""

import pytest
from chat_model import STYLE, TEMPLATE

from ch07.data.chat_templates import style_of_template
from ch07.data.prompt_styles import CHATML_STYLE, STYLES, chatml_style
from ch07.models.hf_files import chat_template

END = "<|im_end|>"
LOOP = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}"
)
ENDING = "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
PLAIN = LOOP + ENDING
DEFAULT = (
    "{% if messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\nSYSTEM<|im_end|>\n' }}{% endif %}"
)


def test_known_templates():
    assert style_of_template(PLAIN, END) == (CHATML_STYLE, True)
    assert style_of_template(TEMPLATE, END) == (STYLE, True)
    assert style_of_template(None, END) == (None, False)


@pytest.mark.parametrize(
    ("in_jinja", "system"),
    [
        ("Be kind.", "Be kind."),
        ("It\\'s caf\\u00e9.", "It's caf\u00e9."),
        ("Two\nlines, {braces} and }", "Two\nlines, {braces} and }"),
    ],
)
def test_a_system_line_of_any_text(in_jinja, system):
    template = DEFAULT.replace("SYSTEM", in_jinja) + PLAIN
    style, has_turns = style_of_template(template, END)
    assert style == chatml_style(system) and has_turns
    assert f"system\n{system}<|im_end|>" in style.prompt({"instruction": "Hi", "input": ""})


def test_a_system_line_in_a_variable_or_in_a_comment():
    variable = "{% set s = 'You are X.' %}" + DEFAULT.replace("SYSTEM", "' + s + '") + PLAIN
    assert style_of_template(variable, END) == (chatml_style("You are X."), True)
    comment = "{#- <|im_start|>system\nNot this.<|im_end|> -#}" + PLAIN
    assert style_of_template(comment, END) == (CHATML_STYLE, True)


@pytest.mark.parametrize("conversations", [True, False])
@pytest.mark.parametrize("style", [CHATML_STYLE, STYLE])
def test_our_own_exports(style, conversations):
    template = chat_template(style, conversations)
    assert style_of_template(template, END) == (style, conversations)


@pytest.mark.parametrize("name", ["book", "llama-3", "phi3"])
def test_templates_of_other_styles_are_not_taken_for_chatml(name):
    assert style_of_template(chat_template(STYLES[name], True), END) == (None, False)


@pytest.mark.parametrize(
    "template",
    [
        PLAIN.replace("'\n' + m['content']", "': ' + m['content']"),
        PLAIN.replace("assistant\n", "assistant\n<think>\n"),
        "{{ bos_token }}<s>" + PLAIN,
        PLAIN.replace("'<|im_end|>\n'", "'<|im_end|>'"),
        "{{",
        "{% for m in messages %}",
        "{{ messages[9]['content'] }}",
        "x" * 200_000,
    ],
)
def test_what_writes_something_else_is_not_known(template):
    assert style_of_template(template, END) == (None, False)


@pytest.mark.parametrize(
    "bomb",
    [
        "{{ 'a' * 10**10 }}",
        "{{ ''.center(10000000000) }}",
        "{{ '%10000000000d' % 2 }}",
        "{{ '{:10000000000}'.format(2) }}",
        "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
        "{% for a in messages %}" * 30 + "{% endfor %}" * 30,
        "{{ lipsum(1000) }}",
        "{{ ''.__class__.__mro__ }}",
        "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
        "{% include '/etc/passwd' %}",
        "{{ cycler.__init__.__globals__ }}",
    ],
)
def test_a_template_that_does_more_than_join_texts_is_not_run(bomb):
    assert style_of_template(bomb + PLAIN, END) == (None, False)
