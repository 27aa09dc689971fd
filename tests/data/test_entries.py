"""Every row of the edge-case table that a data file meets: an answer, or a sentence that helps."""

import hashlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ch07.data.entries import load_entries, read_data
from ch07.data.findings import summarize_findings
from ch07.utils.errors import DataError

GOOD = {"instruction": "Name a colour.", "input": "", "output": "Red"}


@pytest.fixture
def write(tmp_path):
    def write(content, name="data.json"):
        path = tmp_path / name
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            text = content if isinstance(content, str) else json.dumps(content)
            path.write_text(text, encoding="utf-8", newline="\n")
        return path

    return write


def refused(path, *parts, **options):
    with pytest.raises(DataError) as caught:
        read_data(path, **options)
    for part in (path.name, *parts):
        assert part in str(caught.value)


def notes(path, **options):
    return " / ".join(summarize_findings(read_data(path, **options).findings))


def jsonl(*rows):
    return "\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows)


@pytest.mark.parametrize("name", ["data.json", "data.jsonl", "data.txt"])
def test_json_and_jsonl_are_told_apart_by_content(write, name):
    two = [GOOD, {**GOOD, "output": "Blue"}]
    assert load_entries(write(two, name)) == two
    assert load_entries(write(jsonl(*two), name)) == two
    assert load_entries(write(jsonl(GOOD), name)) == [GOOD]


def test_blank_lines_are_skipped_and_lines_counted(write):
    file = read_data(write(jsonl("", GOOD, "", "  ", {**GOOD, "output": "Blue"}, "")))
    assert file.places == ["line 2", "line 5"]


def test_a_line_separator_inside_text_is_no_line_end(write):
    entry = {**GOOD, "output": "one\u2028two\u0085three"}
    assert load_entries(write(json.dumps(entry, ensure_ascii=False))) == [entry]


@pytest.mark.parametrize("empty", [None, "", "  ", "missing"])
def test_no_input_is_no_input(write, empty):
    entry = {"instruction": "Name a colour.", "input": empty, "output": "Red"}
    if empty == "missing":
        del entry["input"]
    assert load_entries(write([entry])) == [GOOD]


@pytest.mark.parametrize("placeholder", ["N/A", "n/a", "<noinput>"])
def test_placeholders_are_reported_not_guessed(write, placeholder):
    path = write([{**GOOD, "input": placeholder}])
    assert load_entries(path)[0]["input"] == placeholder
    assert f"'input' is the placeholder {placeholder!r}" in notes(path)


def test_missing_keys_name_the_row_and_the_keys_found(write):
    path = write([GOOD, {"instruction": "x", "text": "y"}])
    refused(path, "row 2: 'output' is missing; keys found: 'instruction', 'text'")
    refused(write([GOOD, {}]), "row 2: 'instruction' and 'output' are missing; keys found: none")


@pytest.mark.parametrize("key", ["messages", "conversations"])
def test_a_chat_of_a_single_line_gets_the_same_words_as_two(write, key):
    chat = {key: [{"role": "user", "content": "x"}]}
    refused(write(jsonl(chat)), f"row 1: {key!r}: the conversation has no answer")
    refused(write(jsonl(chat, chat)), f"line 1: {key!r}: the conversation has no answer (and 1 mo")


@pytest.mark.parametrize(
    "names",
    [
        ("question", "answer"),
        ("instruction", "response"),
        ("prompt", "response"),
        ("prompt", "completion"),
    ],
)
def test_other_schemas_are_recognised_and_reported(write, names):
    path = write([dict(zip(names, ("Name a colour.", "Red"), strict=True))])
    assert load_entries(path) == [GOOD]
    assert f"{names[0]}/{names[1]} read as instruction/output (1: row 1)" in notes(path)


@pytest.mark.parametrize("key", ["instruction", "input", "output"])
@pytest.mark.parametrize(
    ("value", "name"),
    [
        (5, "a number"),
        (1.5, "a number"),
        ([], "a list"),
        ({}, "an object"),
        (True, "a boolean"),
    ],
)
def test_fields_that_are_not_text_are_refused_with_their_type(write, key, value, name):
    refused(write([GOOD, {**GOOD, key: value}]), f"row 2: {key!r} is {name}, but must be text")


@pytest.mark.parametrize("nothing", [None, float("nan")])
def test_what_a_table_writes_for_nothing_is_absent(write, nothing):
    file = read_data(write([GOOD, {**GOOD, "input": nothing, "split": nothing, "x": nothing}]))
    assert file.entries[1]["input"] == "" and "split" not in file.entries[1]
    for key in ("instruction", "output"):
        refused(write([GOOD, {**GOOD, key: nothing}]), f"row 2: {key!r} is null; keys found: ")


def test_a_row_that_is_no_object(write):
    refused(
        write([GOOD, "text", 3]),
        "row 2: expected an object, found a text",
        "row 3",
        "2 faulty rows",
    )


@pytest.mark.parametrize("blank", ["", "  \n"])
def test_an_empty_answer_is_dropped_and_counted(write, blank):
    path = write([GOOD, {**GOOD, "output": blank}])
    assert load_entries(path) == [GOOD]
    assert "left out: 'output' is empty (1: row 2)" in notes(path)
    refused(write([{**GOOD, "output": blank}]), "no usable row", "'output' is empty")


def test_an_empty_instruction_and_half_a_character_are_refused(write):
    refused(write([{**GOOD, "instruction": " "}]), "row 1: 'instruction' is empty")
    refused(write('[{"instruction": "x", "output": "\\ud800"}]'), "half a character")


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ('[{"instruction": "x", "output": "y"},]', ["line 1, column", "a comma too many"]),
        ("[{'instruction': 'x'}]", ["line 1, column 3", "Python also takes '"]),
        ('[\n{"instruction" "x"}\n]', ["line 2, column 16", "near"]),
        (
            '{\n"data": [],\n"x": 1\n}',
            ["one object with the keys 'data', 'x'", "entries in its 'data'"],
        ),
        ('{"data": [1]}', ["one object with the keys 'data'", "entries in its 'data'"]),
        ('"text"', ["expected a list of entries, found a text"]),
        ("hello", ["not JSON", "line 1, column 1"]),
        ("[" * 100_000, ["not JSON"]),
        ("[" + "9" * 5000 + "]", ["not JSON"]),
        ("", ["the file is empty"]),
        (" \n ", ["the file is empty"]),
        ("[]", ["no usable row"]),
    ],
)
def test_what_is_not_a_list_of_entries_is_said(write, text, parts):
    refused(write(text), *parts)


def test_a_broken_jsonl_line_is_named_and_can_be_skipped(write):
    path = write(jsonl(GOOD, '{"instruction": "x", ', {**GOOD, "output": "Blue"}))
    refused(path, "line 2: not JSON", "column", "--skip-bad-rows")
    assert len(load_entries(path, skip_bad_rows=True)) == 2
    assert "left out: not JSON" in notes(path, skip_bad_rows=True)


def test_a_line_has_one_number(write):
    with pytest.raises(DataError, match=r"  line 3: not JSON: [^:]*: column 3, near") as caught:
        read_data(write(jsonl(GOOD, GOOD, "{ broken", GOOD)))
    assert "line 1" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "too_many"),
    [
        ("[1, 2,]", True),
        ("[1, 2, \n ]", True),
        ('[{"a": 1 , }]', True),
        ('[{"a": 1,', False),
        ("[1, 2, ", False),
        ("[1, , 2]", False),
        ("[1, x]", False),
        ("[1, 2", False),
        ("[1, [}]", False),
        ("]", False),
        (",", False),
    ],
)
def test_a_comma_is_too_many_only_before_a_closing_bracket(write, text, too_many):
    with pytest.raises(DataError) as caught:
        read_data(write(text))
    assert ("is there a comma too many?" in str(caught.value)) == too_many


def test_byte_order_mark_and_crlf(write):
    text = json.dumps([{**GOOD, "output": "a\r\nb"}]).replace(", ", ",\r\n")
    (entry,) = load_entries(write(b"\xef\xbb\xbf" + text.encode()))
    assert entry["output"] == "a\nb"


def test_not_utf8_names_the_byte(write):
    refused(write('[{"instruction": "caf\xe9"}]'.encode("latin-1")), "not UTF-8: byte 21 is 0xe9")


def test_a_byte_order_mark_counts_among_the_bytes(write):
    data = b"\xef\xbb\xbf" + '[{"instruction": "caf\xe9"}]'.encode("latin-1")
    refused(write(data), "not UTF-8: byte 24 is 0xe9")


def test_no_such_file(tmp_path):
    refused(tmp_path / "none.json", "No such file")
    with pytest.raises(DataError):
        read_data(tmp_path)


def test_outer_white_space_goes_and_inner_stays(write):
    path = write([{"instruction": " a  b ", "input": "\n", "output": "\tc\n\nd\n"}])
    assert load_entries(path) == [{"instruction": "a  b", "input": "", "output": "c\n\nd"}]
    assert "outer white space or CRLF of 'output' removed" in notes(path)


def test_duplicates_are_reported_and_kept(write):
    path = write([GOOD, {**GOOD, "output": "Blue"}, GOOD])
    assert len(load_entries(path)) == 3
    assert "the same as an earlier row (1: row 3)" in notes(path)


def test_other_keys_are_kept(write):
    entry = {**GOOD, "family": "colours", "id": 7}
    assert load_entries(write([entry])) == [entry]


def test_keys_that_are_not_trained_on_are_said(write):
    row = {"instruction": "Who?", "colour": "red", "response": "Anna"}
    assert "the key 'colour' is not trained on (1: row 1)" in notes(write([row]))
    assert "not trained on" not in notes(write([{**GOOD, "family": "x", "split": "test"}]))


@pytest.mark.parametrize("bad", [3, ["a"]])
def test_a_family_is_text(write, bad):
    refused(write([{**GOOD, "family": bad}]), "row 1: 'family' is a")


@pytest.mark.parametrize("bad", ["first", 3, ["test"]])
def test_a_split_is_one_of_three(write, bad):
    refused(write([GOOD, {**GOOD, "split": bad}]), "row 2: 'split' is", "choose one of train, test")


def test_a_key_that_stands_twice_is_refused(write):
    text = '[{"instruction": "a", "instruction": "b", "output": "c"}]'
    refused(write(text), "row 1: the key 'instruction' appears twice")
    assert load_entries(write(text[:-1] + ", " + json.dumps(GOOD) + "]"), skip_bad_rows=True) == [
        GOOD
    ]


def test_one_schema_never_overwrites_another(write):
    row = {"question": "q", "answer": "a", "output": "the true one"}
    refused(write([row]), "row 1: 'output' and 'answer' both hold the answer: leave one of them")
    row = {"instruction": "x", "question": "q", "answer": "a"}
    refused(write([row]), "'instruction' and 'question' both hold the question")


def test_a_field_beyond_all_models_is_refused(write):
    """A million spaces would otherwise overflow the tokenizer's stack."""
    refused(write([{**GOOD, "input": "a" + " " * 1_500_000 + "b"}]), "row 1: 'input' has more than")


def test_the_hash_is_of_what_was_read(write):
    path = write([GOOD])
    assert read_data(path).sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_broken_first_line_is_one_fault_among_lines(write):
    for first in ("{broken", "garbage"):
        path = write(jsonl(first, GOOD))
        refused(path, "1 faulty row;", "line 1: not JSON")
        assert load_entries(path, skip_bad_rows=True) == [GOOD]


def test_all_faults_come_in_one_report(write):
    path = write([{**GOOD, "output": i} for i in range(15)] + [{"input": 3}, GOOD])
    others = ", ".join(f"row {i}" for i in range(2, 11))
    refused(
        path,
        "16 faulty rows",
        f"\n  row 1: 'output' is a number, but must be text (and 14 more: {others}, ...)\n",
        "\n  row 16: 'instruction' and 'output' are missing",
    )
    assert load_entries(path, skip_bad_rows=True) == [GOOD]


json_values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
)


@given(
    st.one_of(
        st.binary(), st.text().map(str.encode), json_values.map(lambda v: json.dumps(v).encode())
    )
)
def test_whatever_the_bytes_an_answer_or_a_clear_error(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("fuzz") / "data"
    path.write_bytes(content)
    try:
        assert load_entries(path)
    except DataError as error:
        assert str(path) in str(error)


texts = st.text(st.characters(codec="utf-8"), min_size=1).filter(lambda t: t.strip())


@given(st.lists(st.tuples(texts, texts), min_size=1, max_size=5), st.booleans())
def test_good_rows_come_back_whole(tmp_path_factory, pairs, lines):
    rows = [{"instruction": a, "input": "", "output": b} for a, b in pairs]
    path = tmp_path_factory.mktemp("good") / "data"
    text = jsonl(*rows) if lines else json.dumps(rows, ensure_ascii=False)
    path.write_text(text, encoding="utf-8", newline="\n")
    wanted = [{k: v.replace("\r\n", "\n").strip() for k, v in row.items()} for row in rows]
    assert load_entries(path) == wanted
