"""docs/reference/systems/: whoever searches for an original's name finds where it is here."""

import re

import pytest
from documented_names import ROOT, assert_is_defined, dotted_names, table_rows

FOLDER = ROOT / "docs" / "reference" / "systems"
INDEX = FOLDER / "README.md"
PAGES = sorted(set(FOLDER.glob("*.md")) - {INDEX})
TEXTS = {path.name: path.read_text(encoding="utf-8") for path in PAGES}
SECTIONS = ["Run it", "Names", "Default and faithful settings", "Where this project departs"]
MAX_LINES = 70
EXPECTED = """
    build_instruction_dataset preprocess PROMPT_DICT DataCollatorForSupervisedDataset
    SupervisedDataset smart_tokenizer_and_embedding_resize encode_prompt
    post_process_gpt3_response find_word_in_string generate_instruction_following_data
    parse_instances_for_generation_task parse_instances_for_classification_task ast_check
    ast_parse prompt_template_qa prompt_template_q tokenize_function LoRALayer LinearWithLoRA
    replace_linear_with_lora compute_dpo_loss compute_logprobs PreferenceDataset
    preprocess_function_train preprocess_function_eval PrefixEncoder find_near_duplicates
    generate_model_scores query_model extract_instruction
""".split()


def names_in(cell):
    """The names in a cell: each in backticks by itself, or the whole cell if there is other text.

    >>> names_in("`preprocess`, `_tokenize_fn`")
    ['`preprocess`', '`_tokenize_fn`']
    >>> names_in("the prompt in `main`")
    ['the prompt in `main`']
    """
    names = re.findall(r"`[^`]+`", cell)
    return names if ", ".join(names) == cell else [cell]


ROWS = [
    (name, page, here)
    for page, text in TEXTS.items()
    for cell, here, _ in table_rows(text, n_cells=3)
    for name in names_in(cell)
]
INDEX_ROWS = table_rows(INDEX.read_text(encoding="utf-8"), n_cells=3)


@pytest.mark.parametrize("name", EXPECTED)
def test_a_name_that_a_reader_may_search_for_is_found(name):
    assert f"`{name}`" in {row[0] for row in ROWS}


@pytest.mark.parametrize("path", sorted({path for row in ROWS for path in dotted_names(row[2])}))
def test_each_counterpart_is_where_the_page_says(path):
    assert_is_defined(path)


@pytest.mark.parametrize("page", TEXTS)
def test_each_row_says_where_or_that_it_is_not_here(page):
    rows = [row for row in ROWS if row[1] == page]
    assert rows
    for name, _, here in rows:
        assert here == "not here" or re.fullmatch(r"`[\w. -]+`(?:, `[\w. -]+`)*", here), name


@pytest.mark.parametrize("page", TEXTS)
def test_each_page_has_the_same_sections_and_is_short(page):
    assert re.findall(r"^## (.*)", TEXTS[page], flags=re.M) == SECTIONS
    assert len(TEXTS[page].splitlines()) <= MAX_LINES


@pytest.mark.parametrize("page", TEXTS)
def test_each_equality_is_held_by_a_test_that_exists(page):
    named = re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", TEXTS[page])
    assert named
    for path, function in named:
        assert (ROOT / path).exists(), path
        source = (ROOT / path).read_text(encoding="utf-8")
        assert not function or f"def {function}(" in source, f"{path}::{function}"


def alphabetically(row):
    name, page, _ = row
    return re.sub(r"[`_\[\]<>]", "", name).casefold(), page


def test_the_index_has_each_name_of_each_page_and_no_other():
    """As rows of name, link to the page, counterpart, in alphabetical order."""
    titles = {page: re.match(r"# (.*)", text).group(1) for page, text in TEXTS.items()}
    wanted = [[name, f"[{titles[page]}]({page})", here] for name, page, here in ROWS]
    assert [row for row in wanted if row not in INDEX_ROWS] == [], "rows that the index lacks"
    assert [row for row in INDEX_ROWS if row not in wanted] == [], "rows that no page has"
    assert sorted(wanted, key=alphabetically) == INDEX_ROWS
