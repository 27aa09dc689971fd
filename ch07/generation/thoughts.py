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
    answer = text
    while opening := OPENING.match(answer):
        name = opening[1] or opening[2]
        closing = re.search(rf"[<\[]/{name}[>\]]", answer[opening.end() :], re.IGNORECASE)
        if closing is None:
            return ""
        answer = answer[opening.end() + closing.end() :].lstrip()
    closing = CLOSING.search(answer)
    if closing is not None and not ANY_OPENING.search(answer[: closing.start()]):
        answer = answer[closing.end() :].lstrip()
    return answer
