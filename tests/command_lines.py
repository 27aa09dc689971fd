"""Commands with some of their options replaced: an option that is given twice is refused."""


def with_options(command, *options):
    """The command with these options (and other words) in place of those of the same name."""
    words, flags = list(command), {word for word in options if str(word).startswith("--")}
    for flag in flags & set(words):
        at = words.index(flag)
        takes_value = at + 1 < len(words) and not str(words[at + 1]).startswith("--")
        del words[at : at + 1 + takes_value]
    return [*words, *options]
