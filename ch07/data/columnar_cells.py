"""How large the rows of a columnar file become when they are turned into Python objects.

The one idea: Arrow's columns can be far smaller than what they say. A column of a thousand rows
may refer to one text of 100 MB, and a list of a billion nulls takes no space at all. So sizes are
computed from the lengths that Arrow stores, before any value is made.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

MAX_ROW_BYTES = 10_000_000  # of all cells together, as of a line of text
POINTER_BYTES = 8  # of a number, and of each element of a Python list or dict

Sizes = NDArray[np.int64]  # in bytes, of each row


def row_sizes(batch: Any, pyarrow: Any) -> Sizes:
    """The bytes that each row of a record batch has as text and pointers, in Python.

    Of a row with a list of more than `MAX_ROW_BYTES`, only its pointers are counted.
    """
    sizes = np.zeros(batch.num_rows, dtype=np.int64)
    for column in batch.columns:
        sizes += _cell_sizes(column, pyarrow)
    return sizes


def _cell_sizes(array: Any, pyarrow: Any) -> Sizes:
    """The same of each cell of an array."""
    kind = array.type
    types = pyarrow.types
    if types.is_dictionary(kind):
        used = array.indices.unique().drop_null()
        sizes = _cell_sizes(array.dictionary.take(used), pyarrow)
        return _filled(pyarrow.compute.index_in(array.indices, used), -1, np.append(sizes, 0))
    if types.is_struct(kind):
        sizes = np.zeros(len(array), dtype=np.int64)
        for field in array.flatten():
            sizes += _cell_sizes(field, pyarrow) + POINTER_BYTES
        return sizes
    if types.is_map(kind):
        start = array.offsets[0].as_py() if len(array) else 0
        n = array.offsets[-1].as_py() - start if len(array) else 0
        parts = [array.keys.slice(start, n), array.items.slice(start, n)]
        return _list_sizes(np.diff(array.offsets.to_numpy()), parts, pyarrow)
    if _is_list(kind, types):
        lengths = pyarrow.compute.list_value_length(array)
        lengths = np.asarray(lengths.fill_null(0), dtype=np.int64)
        if lengths.max(initial=0) * POINTER_BYTES > MAX_ROW_BYTES:
            return lengths * POINTER_BYTES
        return _list_sizes(lengths, [array.flatten()], pyarrow)
    if types.is_run_end_encoded(kind):
        return _largest_of([array.values], array, pyarrow)
    if types.is_union(kind):
        return _largest_of([array.field(i) for i in range(kind.num_fields)], array, pyarrow)
    if isinstance(array, pyarrow.ExtensionArray):
        return _cell_sizes(array.storage, pyarrow)
    if types.is_string_view(kind) or types.is_binary_view(kind):
        array = array.cast(pyarrow.large_binary())
    try:
        return np.asarray(pyarrow.compute.binary_length(array).fill_null(0), dtype=np.int64)
    except pyarrow.ArrowNotImplementedError:  # a number, a date, a null
        return _numbers(array)


def _is_list(kind: Any, types: Any) -> bool:
    return any(
        is_kind(kind)
        for is_kind in (
            types.is_list,
            types.is_large_list,
            types.is_fixed_size_list,
            types.is_list_view,
            types.is_large_list_view,
        )
    )


def _filled(positions: Any, when_null: int, sizes: Sizes) -> Sizes:
    """The size at each position; positions are an array of Arrow's."""
    return sizes[np.asarray(positions.fill_null(when_null), dtype=np.int64)]


def _numbers(array: Any) -> Sizes:
    return np.full(len(array), POINTER_BYTES, dtype=np.int64)


def _list_sizes(lengths: NDArray[Any], parts: Sequence[Any], pyarrow: Any) -> Sizes:
    """The sizes of lists of these lengths; their elements follow each other in each of `parts`."""
    ends = np.cumsum(lengths, dtype=np.int64)
    sizes = lengths.astype(np.int64) * POINTER_BYTES * len(parts)
    for part in parts:
        sums = np.concatenate([[0], np.cumsum(_cell_sizes(part, pyarrow))])
        sizes += sums[ends] - sums[ends - lengths]
    return sizes


def _largest_of(parts: Sequence[Any], array: Any, pyarrow: Any) -> Sizes:
    """For each cell of an array, the size of the largest value in any of the parts."""
    largest = max((_cell_sizes(part, pyarrow).max(initial=0) for part in parts), default=0)
    return np.full(len(array), largest, dtype=np.int64)
