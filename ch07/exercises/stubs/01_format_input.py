"""Exercise 1: an entry becomes the text of a prompt (the book's section 7.2)."""

PREAMBLE = (
    "Below is an instruction that describes a task. "
    "Write a response that appropriately completes the request."
)


def format_input(entry):
    """The prompt of an entry, without its response header: a string in Alpaca's format.

    `entry` is a dict with "instruction", and perhaps "input" (it may be missing or None) and
    "output". The parts, in order:
      PREAMBLE
      a blank line, the line "### Instruction:", and below it the instruction
      only if there is an input that is not blank:
      a blank line, the line "### Input:", and below it the input as it is
    Nothing follows, not even a newline. The answer is not part of the prompt.
    """
    raise NotImplementedError
