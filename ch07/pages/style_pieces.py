"""Prompt styles as data for a page's scripts."""

from instruction_dataset import PromptStyle, parse_template


def style_pieces(style: PromptStyle) -> dict[str, list[list[str | None]]]:
    """A style's two templates in pieces [role, text]; a field's text is None.

    >>> style_pieces(PromptStyle("tiny", "{instruction}: {input}", "Q: {instruction}"))["no_input"]
    [['template', 'Q: '], ['instruction', None]]
    """
    return {
        "with_input": _template_pieces(style.with_input),
        "no_input": _template_pieces(style.no_input),
    }


def _template_pieces(template: str) -> list[list[str | None]]:
    pieces: list[list[str | None]] = []
    for fixed, field, _, _ in parse_template(template):
        if fixed:
            pieces.append(["template", fixed])
        if field is not None:
            pieces.append([field, None])
    return pieces
