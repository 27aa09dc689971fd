"""Splits: nothing lost, nothing twice, no prompt on both sides."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ch07.data.splits import normalised_prompt, overlap, positional_split, split_entries

entry_lists = st.lists(
    st.builds(
        lambda i, j, k: {"instruction": f"Ask {i}", "input": " " * j, "output": str(k)},
        st.integers(0, 30), st.integers(0, 2), st.integers(),
    ),
    max_size=60,
)  # fmt: skip


@given(entry_lists, st.integers(0, 5))
def test_sizes_sum_and_no_prompt_is_shared(entries, seed):
    splits = split_entries(entries, seed=seed)
    ids = [id(entry) for rows in splits.values() for entry in rows]
    assert sorted(ids) == sorted(map(id, entries))
    prompts = [{normalised_prompt(entry) for entry in rows} for rows in splits.values()]
    assert sum(map(len, prompts)) == len(set.union(*prompts))
    assert overlap(splits) == {"test": 0, "validation": 0}


@given(entry_lists)
def test_the_same_seed_gives_the_same_split(entries):
    assert split_entries(entries, seed=1) == split_entries(entries, seed=1)


def test_fractions_are_met_where_prompts_are_single():
    entries = [{"instruction": str(i), "output": "x"} for i in range(1000)]
    sizes = {name: len(rows) for name, rows in split_entries(entries).items()}
    assert sizes == {"train": 850, "test": 100, "validation": 50}
    assert split_entries(entries, seed=1) != split_entries(entries, seed=2)


def test_letter_case_and_white_space_make_no_new_prompt():
    one = {"instruction": "Name  a Colour.", "input": "x\ty"}
    assert normalised_prompt(one) == normalised_prompt(
        {"instruction": "name a colour.", "input": "X Y"}
    )
    assert normalised_prompt(one) != normalised_prompt(
        {"instruction": "name a colour. x y", "input": ""}
    )


def test_the_books_split_is_positional_and_tells_its_overlap():
    entries = [{"instruction": str(i % 90), "output": "x"} for i in range(100)]
    splits = positional_split(entries)
    assert [len(rows) for rows in splits.values()] == [85, 10, 5]
    assert splits["train"] == entries[:85] and splits["test"] == entries[85:95]
    assert overlap(splits) == {"test": 5, "validation": 5}


def test_a_split_of_the_entries_own_is_kept():
    entries = [
        {"instruction": "a"},
        {"instruction": "b", "split": "test"},
        {"instruction": "c", "split": "validation"},
    ]
    splits = split_entries(entries)
    assert [rows[0]["instruction"] for rows in splits.values()] == ["a", "b", "c"]
    with pytest.raises(ValueError, match=r"no split \['dev'\]"):
        split_entries([{"instruction": "a", "split": "dev"}])


@pytest.mark.parametrize("bad", [(0.9, 0.1), (0.9, 0.1, 0.1), (1.2, -0.1, -0.1), (0.5, 0.2, 0.2)])
def test_fractions_that_lose_rows_or_overlap_are_refused(bad):
    for split in (split_entries, positional_split):
        with pytest.raises(ValueError, match="three shares that sum to 1"):
            split([{"instruction": "a"}], bad)


@pytest.mark.parametrize("n", [0, 1, 2, 5])
def test_few_rows_all_train(n):
    entries = [{"instruction": str(i)} for i in range(n)]
    assert len(split_entries(entries)["train"]) == n
