"""With how many tokens several rows begin alike: found in their ids, whatever the template."""

from collections.abc import Sequence


def count_shared_tokens(rows: Sequence[list[int]]) -> int:
    """With how many tokens all rows begin, if there are several; each keeps one of its own.

    >>> count_shared_tokens([[7, 8, 1], [7, 8, 2], [7, 8, 2, 3]]), count_shared_tokens([[7, 8]])
    (2, 0)
    """
    if len(rows) < 2:
        return 0
    # In alphabetical order, whatever the first and the last have in common, all between have, too.
    first = min(rows)
    last = max(rows)
    n = 0
    while n < min(map(len, rows)) - 1 and first[n] == last[n]:
        n += 1
    return n
