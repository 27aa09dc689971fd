"""How large the batches of a run are, counted from the lengths of its rows; nothing is collated."""

from collections.abc import Iterable, Sequence

import numpy as np

from ch07.data.loaded_rows import TokenizedRows
from ch07.data.shared_tokens import count_shared_tokens
from ch07.models.resource_estimate import Batches

ROWS_COMPARED = 100  # to find out how many tokens all rows of a dataset share


def count_batch_sizes(
    dataset: TokenizedRows,
    batches: Iterable[Sequence[int]],
    *,
    limit: int | None,
    loss_on: str,
    share_beginning: bool,
) -> Batches:
    """The tokens and counted targets of batches, which are given as row numbers.

    `limit` is how many tokens a row may have; `loss_on` says which targets count. With
    `share_beginning`, a batch holds what all rows begin with once.
    """
    lengths = np.asarray(dataset.lengths).tolist()
    masked_lengths = [0] * len(lengths)
    if loss_on != "all":
        masked = getattr(dataset, "masked_lengths", dataset.prompt_lengths)
        masked_lengths = np.asarray(masked).tolist()
    n_shared = _shared_tokens(dataset) if share_beginning else 0
    return Batches.from_lengths(batches, lengths, masked_lengths, limit, n_shared)


def _shared_tokens(dataset: TokenizedRows) -> int:
    """With how many tokens all rows of a dataset begin, judged from some of them."""
    step = max(1, len(dataset) // ROWS_COMPARED)
    items = [dataset[i] for i in range(0, len(dataset), step)]
    # an item is token ids, or (prompt_length or flags, token_ids)
    return count_shared_tokens([item[1] if isinstance(item, tuple) else item for item in items])
