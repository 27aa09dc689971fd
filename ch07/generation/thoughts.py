"""A reasoning model's thoughts, which it writes before its answer, are no part of the answer.

The one idea: such models write what they think between two marks, as in "<think>17 is a prime ...
</think> Yes." Whoever takes the whole text for the answer finds a score, or a row, that the model
only considered. The marks are those of DeepSeek-R1 and Qwen3 (<think>), of Mistral's Magistral
([THINK]), and of models that were asked to use other names.
"""

import re

NAMES = "think|thinking|thought|thoughts|reasoning"
OPENING = re.compile(rf"\s*(?:<({NAMES})>|\[(THINK)\])", re.IGNORECASE)
CLOSING = re.compile(rf"</(?:{NAMES})>|\[/THINK\]", re.IGNORECASE)
ANY_OPENING = re.compile(rf"<(?:{NAMES})>|\[THINK\]", re.IGNORECASE)


def drop_thoughts(text: str) -> str:
    """The text after the thoughts that it begins with; "" if these don't end.

    A prompt template may have written the opening mark itself: then the text begins within a
    thought, and only the closing mark stands in it. Marks further on belong to the answer.

    >>> drop_thoughts("<think>10 would be too harsh.</think> 90"), drop_thoughts("<think>10 or")
    ('90', '')
    >>> drop_thoughts("10 would be too harsh.</think> 90"), drop_thoughts("Type <think>.")
    ('90', 'Type <think>.')
    """
    start = 0  # of what is not a thought; the text is copied once, however many thoughts it has
    while opening := OPENING.match(text, start):
        name = opening[1] or opening[2]
        closing = re.compile(rf"[<\[]/{name}[>\]]", re.IGNORECASE).search(text, opening.end())
        if closing is None:
            return ""
        start = closing.end()
    closing = CLOSING.search(text, start)
    if closing is not None and not ANY_OPENING.search(text, start, closing.start()):
        start = closing.end()
    return text[start:].lstrip() if start else text
