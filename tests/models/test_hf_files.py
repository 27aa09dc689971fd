"""The exported chat template: the training prompt for one instruction, an error for all else."""

import pytest
import transformers

from ch07.data.prompt_styles import STYLES
from ch07.models.hf_files import CHAT_TEMPLATE, chat_template, gpt2_tokenizer_files

USER = {"role": "user", "content": "Name a colour."}
ASSISTANT = {"role": "assistant", "content": "Red."}


@pytest.fixture(scope="module", params=STYLES)
def style(request):
    return STYLES[request.param]


@pytest.fixture(scope="module")
def apply_chat_template(style, tmp_path_factory, tokenizer_cache):
    """transformers' own function, with the tokenizer and template of an exported folder."""
    folder = tmp_path_factory.mktemp("exported")
    for name, data in gpt2_tokenizer_files(64).items():
        (folder / name).write_bytes(data)
    (folder / "chat_template.jinja").write_text(chat_template(style), encoding="utf-8")
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    return lambda messages, **options: tokenizer.apply_chat_template(
        messages, tokenize=False, **options
    )


@pytest.mark.parametrize("options", [{}, {"add_generation_prompt": True}])
def test_one_instruction_becomes_the_training_prompt(style, apply_chat_template, options):
    entry = {"instruction": "Add the numbers.", "input": "2 and 3"}
    message = {"role": "user", "content": "Add the numbers.", "input": "2 and 3"}
    assert apply_chat_template([message], **options) == style.prompt(entry)
    plain = style.prompt({"instruction": "Name a colour."})
    assert apply_chat_template([USER], **options) == plain


def test_an_answer_after_it_ends_with_end_of_text(style, apply_chat_template):
    prompt = style.prompt({"instruction": "Name a colour."})
    assert apply_chat_template([USER, ASSISTANT]) == f"{prompt}Red.<|endoftext|>"


@pytest.mark.parametrize(
    ("messages", "message"),
    [
        ([], "There is no message|at least one message"),
        ([{"role": "system", "content": "Be brief."}, USER], "trained without system messages"),
        ([USER, {"role": "system", "content": "Be brief."}], "trained without system messages"),
        ([USER, ASSISTANT, USER], "trained on single instructions, not on conversations"),
        ([USER, USER], "trained on single instructions"),
        ([ASSISTANT], "trained on single instructions"),
        ([{"role": "tool", "content": "5"}], "trained on single instructions"),
        ([{"role": "user", "content": None}], "must be text"),
        ([{"role": "user", "content": [{"type": "image"}]}], "must be text"),
    ],
)
def test_what_the_model_was_not_trained_on_is_an_error(apply_chat_template, messages, message):
    from jinja2 import TemplateError

    with pytest.raises((TemplateError, ValueError), match=message):
        apply_chat_template(messages)


def test_the_sentences_of_the_template_survive_the_style():
    """A style's texts are put into the template by name, which no sentence may contain."""
    for name in ("WITH_INPUT", "NO_INPUT"):
        assert CHAT_TEMPLATE.count(name) == 1
