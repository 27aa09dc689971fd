"""API calls: parsing without execution, the four outcomes; the toolbox and its command."""

import ast
import json
import time

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ch07.commands import data_arguments
from ch07.commands.cli import main
from ch07.data.entries import read_data
from ch07.data.splits import split_entries
from ch07.systems.tool_use.api_call_matching import (
    MAX_CALL_CHARACTERS,
    MAX_NESTING,
    MAX_PARSED_CHARACTERS,
    OUTCOMES,
    Api,
    ApiCall,
    find_api,
    find_by_substring,
    match_api_call,
    parse_api_call,
)
from ch07.systems.tool_use.api_call_metrics import score_api_calls
from ch07.systems.tool_use.toy_api_dataset import (
    DOCUMENTS,
    UNSEEN_FAMILY,
    build_entries,
    catalogue_of,
    reference,
    toolbox,
)

GOLD = "hub.load(model='small', width=1)"
CATALOGUE = [
    Api(parse_api_call(text), domain)
    for text, domain in (
        (GOLD, "vision"),
        ("hub.load(model='small_v2', width=1)", "sound"),
        ("hub.other('x', deep=True)", "vision"),
    )
]

# --- the parser ---------------------------------------------------------------------------------

TABLE = [
    ("hub.load(model='small', width=1)", "correct"),
    ('hub.load( width = 1, model = "small" )', "correct"),
    ("model = hub.load(model='small', width=1)", "correct"),
    ("a.b[0], c = hub.load(model='small', width=1)", "correct"),
    ("hub.load('small', 1)", "correct"),
    ("hub.load('small', width=1)", "correct"),
    ("hub.load(model='sma' 'll', width=0x1)", "correct"),
    ("hub.load(model=u'small', width=1)", "correct"),
    ("hub.load(\n    model='small',  # a :) comment (\n    width=1,\n)", "correct"),
    ("hub.load(model='small', width=1) makes it smaller (don't ask me why).", "correct"),
    ("Use this (it's short): `hub.load(model='small', width=1)`", "correct"),
    ("The function(s): hub.load(model='small', width=1)", "hallucination"),
    ("The function(so to say) is hub.load(model='small', width=1)", "correct"),
    ("<<<api_call>>>: hub.load(model='small', width=1), <<<api_provider>>>: hub", "correct"),
    ("<<<api_call>>>: hub.load (model='small', width=1), <<<api_provider>>>: hub", "correct"),
    ("hub.load (model='small', width=1)", "correct"),
    ("hub . load\t(model='small', width=1)", "correct"),
    ("(hub.load)(model='small', width=1)", "correct"),
    ("await hub.load(model='small', width=1)", "correct"),
    ("the model (small) is good: hub.load (model='small', width=1)", "correct"),
    ("Use it (see the docs). hub.load(model='small', width=1)", "correct"),
    ("print(hub.load(model='small', width=1))", "correct"),
    ("hub.load(model='small', width=1).eval()", "correct"),
    ("f(g(1), [hub.load(model='small', width=1)])", "correct"),
    ("hub.load(model='small_v2', width=1)", "wrong_api"),
    ("hub.other('x', True)", "wrong_api"),
    ("hub.other(deep=True)", "hallucination"),
    ("hub.other(x='x', deep=True)", "hallucination"),
    ("hub.load(model='small', width=1, deep=True)", "hallucination"),
    ("hub.load(model='small')", "hallucination"),
    ("hub.load('small', 1, 1)", "hallucination"),
    ("hub.load('small', 1, model='small')", "hallucination"),
    ("hub.load(1, 'small')", "hallucination"),
    ("hub.load(model='Small', width=1)", "hallucination"),
    ("hub.load(model=small, width=1)", "hallucination"),
    ("hub.load(model='small', width=1.0)", "hallucination"),
    ("hub.load(model='small', width=True)", "hallucination"),
    ("hub.load(model=b'small', width=1)", "hallucination"),
    ("hub.load(*['small', 1])", "hallucination"),
    ("hub.load(**{'model': 'small', 'width': 1})", "hallucination"),
    ("load(model='small', width=1)", "hallucination"),
    ("my.hub.load(model='small', width=1)", "hallucination"),
    ("hub.load(model=hub.load(model='small', width=1), width=1)", "hallucination"),
    (r"hub.load(model='\d', width=1)", "hallucination"),
    ("hub.load(model='small, width=1)", "unparsable"),
    ("hub.load(model='small, width=1)\nhub.load(model='small', width=1)", "correct"),
    ("hub.load(model='small', width=1", "unparsable"),
    ("hub.load(model='small', width=f(1)", "unparsable"),
    ("hub.load(model='small', model='small', width=1)", "unparsable"),
    ("hub.load(model='small' width=1)", "unparsable"),
    ("not(1)", "unparsable"),
    ("hub.load", "unparsable"),
    ("I would make it smaller.", "unparsable"),
    ("", "unparsable"),
    ("f(\0)", "unparsable"),
    ("f('\ud800')", "unparsable"),
]


@pytest.mark.parametrize(("text", "outcome"), TABLE)
def test_answers_have_the_expected_outcome(text, outcome):
    assert match_api_call(parse_api_call(text), parse_api_call(GOLD), CATALOGUE) == outcome


READINGS = {
    # text that is Python: what Python reads
    "x = f (a)": "f(a)",
    "f. g (a)": "f.g(a)",
    "f.\\\ng(a)": "f.g(a)",
    "m = (\n    hub  # (here)\n    .load('a')\n    .eval()\n)": "hub.load('a')",
    "\n    x = f (a)\n    g(b)\n": "f(a)",
    "\n\nf (a)\n": "f(a)",
    "def f(x):\n    return g(x)": "g(x)",
    "return (f(1))": "f(1)",
    "m = await f (a)": "f(a)",
    "not(f(1))": "f(1)",
    "[(f(1)), g(2)]": "f(1)",
    "(f . g) (a)": "f.g(a)",
    "d['k'](1)": "d['k'](1)",
    "(a or b)(1)": "(a or b)(1)",
    "', '.join(f(1))": "', '.join(f(1))",
    "f'{g(1)!r:>{w}}'": "g(1)",
    "f(f'{g(1)}')": "f(f'{g(1)}')",
    "f('''a\n  \nb''')": r"f('a\n  \nb')",
    "f('a\\\nb)')": "f('ab)')",
    # text in which code is marked by backticks
    "```python\nimport f\nm = f (a)\n```": "f(a)",
    "Here:\n\n```\n  f (a)\n```\nThat's it.": "f(a)",
    "```python\n    f (a)\n```": "f(a)",
    "Here:\n```python\nm = f (a)": "f(a)",
    "Answer (short)\n```\nf(1)\n```": "f(1)",
    "Take `f . g (a)`, not `h(a)`.": "f.g(a)",
    "First f(1), then `g(2)`.": "f(1)",
    "Call `f(` with a: `f(a)`": "f(a)",
    "f('a`b') or `g(1)`": "f('a`b')",
    "```\nf(1)\n  not Python\n```": "f(1)",
    # prose
    "It is f ('a'), I think.": "f('a')",
    "It is f\t. g\n('a'), I think.": "f.g('a')",
    "It is f\n  .g('a'), I think.": "f.g('a')",
    "It is f (n=a), I think.": "f(n=a)",
    "It is f (a, n=b), I think.": "f(a, n=b)",
    "It is f (), I think.": "f()",
    "It is f('a\\\nb)'), I think.": "f('ab)')",
    "If not(f(1)), then g(2).": "f(1)",
    "It is (f.g)(a), I think.": "f.g(a)",
    "It's 'f(1)'.": "f(1)",
    "We think that's it. Load(1) does it.": "Load(1)",
    "The model (small) of f(1) is good.": "f(1)",
    "The model (2023) of f(1) is good.": "f(1)",
    "The models (small, large) are in f (size='s') now.": "f(size='s')",
    "Use it (see the docs: f ('a')).": "f('a')",
    "Use it (isn't it?) with f ('a').": "f('a')",
    "The method .eval() of x . y is used: z.f(1)": "z.f(1)",
    "as in [1](http://a.b/c) and f[2](x): g(1)": "g(1)",
    "it (x (y (z: f('a') is it": "f('a')",
    "def f(x): return g(1": None,
    "the model (small) is good": None,
    "we return (1) and not (2)": None,
    "f ('a', is good": None,
    # of a chain, the first link
    "a.b(1).c(2)": "a.b(1)",
    "a.b(1)[0].c(2)(3)": "a.b(1)",
    "(await a.b(1)).c(2)": "a.b(1)",
    "It is a.b(1).c(2), I think.": "a.b(1)",
    "a.b(1).c(d(2))": "a.b(1)",
}


@pytest.mark.parametrize("text", READINGS)
def test_the_first_call_is_read(text):
    call = parse_api_call(text)
    assert (None if call is None else str(call)) == READINGS[text]


def test_a_chain_within_the_arguments_is_its_first_link_too():
    call = parse_api_call("f(a.b(1).c(g(2)))")
    assert [str(inner) for inner in call.inner] == ["g(2)", "a.b(1)"]


def test_a_text_that_is_python_throughout_is_read_as_python():
    """Even if a person would read a heading: nothing in the text says so; a fence would."""
    assert parse_api_call("Answer (short)\nf(1)").name == "Answer"
    assert parse_api_call("Answer (short):\nf(1)").name == "f"
    assert parse_api_call("Answer (short)\n```\nf(1)\n```").name == "f"


TOKENS = "hub . image . load ( 'small' , n = [ 1 , f ( x ) ] , ) . eval ( )".split()
BLANKS = st.sampled_from(["", " ", "\t", "  ", "\\\n", "\n", "  # it's :)\n"])


@settings(max_examples=60, deadline=None)
@given(st.lists(BLANKS, min_size=len(TOKENS), max_size=len(TOKENS)))
def test_blanks_between_tokens_change_nothing(blanks):
    code = "".join(token + blank for token, blank in zip(TOKENS, blanks, strict=True))
    expected = parse_api_call("".join(TOKENS))
    assert str(expected) == "hub.image.load('small', n=[1, f(x)])"
    assert parse_api_call(f"model = ({code})") == expected
    assert parse_api_call(f"Here is it:\n```python\nmodel = ({code})\n```\nGood luck!") == expected


PUNCTUATION = st.text("ab.()[]{}'\"\\#=,*1- \n", max_size=40)


@settings(max_examples=120, deadline=None)
@given(st.text(max_size=40) | PUNCTUATION | PUNCTUATION.map("f({})".format))
@example("f(a=1)(b)")
@example("f('\\d')")
def test_parsing_never_raises_and_a_calls_text_parses_to_the_call(text):
    call = parse_api_call(text)
    assert call is None or isinstance(call, ApiCall)
    if call is not None:
        assert parse_api_call(str(call)) == call


scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.binary()
literals = st.recursive(
    scalars | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=5,
)


@settings(deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(["a", "b", "c"]), literals.filter(lambda v: "inf" not in repr(v))
    )
)
def test_literals_survive_parsing_within_prose(values):
    text = f"hub.load({', '.join(f'{name}={value!r}' for name, value in values.items())})"
    call = parse_api_call(f"Sure! x = {text} does it (I think).")
    parsed = {name: ast.literal_eval(value) for name, value in call.kwargs.items()}
    assert repr(parsed) == repr(values), "compared as text, since True == 1"


@pytest.mark.parametrize(
    "text",
    [
        "f(" * 100_000,
        "f(" * 1000 + ")" * 1000,
        "f(" + "[" * 3000 + "]" * 3000 + ")",
        "f(" + "-" * 3900 + "1)",
        "f(" + "not " * 900 + "1)",
        "f(a" + ".a" * 1900 + ")",
        "f(" + "9" * 3900 + ")",
        "f('" * 100_000,
        "f('''" * 100_000,
        "a." * 100_000,
        "(a) " * 100_000,
        "f(a a) " * 100_000,
        "x" * 10**6 + "(",
        "a . " * 1000,
        "a (" * 1300,
        "`" * 4000,
        "`f (a` " * 500,
        "f(`'" * 1000,
        "f" + "(1)" * 1300,
        "if f(1):\n" * 400,
    ],
    ids=lambda text: f"{text[:9]} {len(text)}",
)
def test_huge_and_deeply_nested_texts_are_parsed_quickly(text):
    started = time.process_time()
    call = parse_api_call(text)
    assert call is None or len(str(call)) <= 2 * MAX_CALL_CHARACTERS
    assert time.process_time() - started < 5, "a few milliseconds on a quiet machine"


@pytest.mark.parametrize(
    "text",
    [
        "a (#" * 400 + "\n" + "x," * 1100 + "x x)",  # brackets in a comment, closed after it
        "a ('#" * 300 + "\n" + "x," * 1100 + "x x)",
        "a (" * 500 + "x," * 900 + "x x" + ")" * 500,
        "`a (#` " * 300 + "\n" + "x," * 900 + "x x)",
    ],
    ids=lambda text: text[:7],
)
def test_no_text_is_parsed_over_and_over(text, monkeypatch):
    parsed = []

    def parse(source):
        parsed.append(len(source))
        return tree_of(source)

    tree_of = ast.parse
    with monkeypatch.context() as patch:
        patch.setattr(ast, "parse", parse)
        parse_api_call(text)
    assert sum(parsed) <= len(text) + MAX_PARSED_CHARACTERS


def test_brackets_are_parsed_up_to_the_maximum_nesting():
    call, deeper = ("f" + "(" * n + ")" * n for n in (MAX_NESTING, MAX_NESTING + 1))
    for form in ("{}", "It is {}!", "It is `{}`!"):
        assert parse_api_call(form.format(call)) is not None
        assert parse_api_call(form.format(deeper)) is None


def test_no_call_is_executed(tmp_path):
    target = tmp_path / "made"
    call = parse_api_call(f"__import__('pathlib').Path({str(target)!r}).touch()")
    assert call.name == "__import__" and not target.exists()
    assert parse_api_call(f"open({str(target)!r}, 'w')").name == "open" and not target.exists()


# --- the four outcomes, and the original's rule -------------------------------------------------


@settings(max_examples=30, deadline=None)
@given(st.lists(st.sampled_from([text for text, _ in TABLE]), min_size=1, max_size=12))
def test_the_outcomes_partition_the_answers(answers):
    scores = score_api_calls(answers, [GOLD] * len(answers), CATALOGUE)
    assert tuple(scores["outcomes"]) == OUTCOMES
    assert sum(scores["outcomes"].values()) == scores["n"] == len(answers)
    known = scores["outcomes"]["correct"] + scores["outcomes"]["wrong_api"]
    assert scores["identity"] <= scores["domain"] <= known / len(answers)


def test_right_call_and_right_domain_are_scored_separately():
    """By hand: made up, right, another of the domain, one of another domain, no call."""
    answers = [
        "hub.load(model='tiny', width=1)",
        GOLD,
        "hub.other('x', deep=True)",
        "hub.load(model='small_v2', width=1)",
        "hub.load(",
    ]
    scores = score_api_calls(answers, [GOLD] * 5, CATALOGUE)
    assert list(scores["outcomes"].values()) == [1, 2, 1, 1]
    assert (scores["identity"], scores["domain"]) == (0.2, 0.4)
    assert (scores["hallucination"], scores["unparsable"]) == (0.2, 0.2)
    low, high = scores["identity_interval"]
    assert 0 < low < 0.2 < high < 1
    # "small" occurs in "small_v2", so the original's rule finds the right domain
    assert scores["substring_rule"] == {"correct": 3, "hallucination": 1}


def test_a_literal_within_another_is_not_a_match():
    small, v2, _ = CATALOGUE
    call = parse_api_call("hub.load(model='small_v2', width=1)")
    assert find_by_substring(call, CATALOGUE) == small, "the original's fault"
    assert find_api(call, CATALOGUE) == v2
    assert find_api(call, [small]) is None
    assert match_api_call(call, small.call, [small]) == "hallucination"
    for wrong_call in ("hub.load(model='small', size=1)", "hub.load(width='small', model=1)"):
        assert find_by_substring(parse_api_call(wrong_call), [small]) == small
        assert find_api(parse_api_call(wrong_call), [small]) is None


def test_by_substring_an_entry_without_literals_is_never_found():
    """In the original its loop over the literals ends before anything has matched."""
    ready = Api(parse_api_call("hub.ready()"), "vision")
    for text in ("hub.ready()", "hub.ready(1)", "hub.ready(model='small')"):
        call = parse_api_call(text)
        assert find_by_substring(call, [ready]) is None
        assert (find_api(call, [ready]) == ready) is (text == "hub.ready()")


@pytest.mark.parametrize(
    ("answers", "golds", "message"),
    [
        ([], [], "no answer to score"),
        (["x"], ["hub.load(model='none')"], "is not in the catalogue"),
        (["x"], ["a photo"], "'a photo' is not a call"),
    ],
)
def test_unscorable_inputs_are_value_errors(answers, golds, message):
    with pytest.raises(ValueError, match=message):
        score_api_calls(answers, golds, CATALOGUE)


# --- the toolbox --------------------------------------------------------------------------------


def copy_call(entry, memory=""):
    """A reader that copies the call in its input, or answers from memory if there is none."""
    call = parse_api_call(entry["input"])
    return memory if call is None else str(call)


def test_the_toolbox_has_twenty_calls_whose_instructions_do_not_name_them():
    tools = toolbox()
    calls = {str(tool.api.call) for tool in tools}
    assert len(tools) == len(calls) == 20 and len({tool.api.domain for tool in tools}) == 5
    instructions = [text.casefold() for tool in tools for text in tool.instructions]
    assert len(set(instructions)) == 200
    for tool in tools + toolbox(renamed=True):
        assert len(tool.instructions) == 10 and str(tool.api.call) in tool.document
        assert parse_api_call(tool.document) == tool.api.call
        for text in tool.instructions:
            assert tool.api.call.name.split(".")[1] not in text.casefold()


@pytest.mark.parametrize("documents", DOCUMENTS)
@pytest.mark.parametrize("renamed", [False, True])
def test_entries_are_split_by_call_and_have_no_findings(documents, renamed, tmp_path):
    entries = build_entries(documents, renamed)
    path = tmp_path / "calls.json"
    path.write_text(json.dumps(entries), encoding="utf-8")
    file = read_data(path)
    assert not file.findings and len(file.entries) == 200
    splits = split_entries(file.entries)
    assert {name: len(rows) for name, rows in splits.items()} == {
        "train": 105, "test": 80, "validation": 15
    }  # fmt: skip
    trained = {entry["output"] for entry in build_entries() if "split" not in entry}
    for tool, old in zip(toolbox(renamed), toolbox(), strict=True):
        call = str(tool.api.call)
        families = {entry["family"] for entry in splits["test"] if entry["output"] == call}
        assert (families == {UNSEEN_FAMILY}) == (str(old.api.call) not in trained)
    kept = [entry for entry in entries if entry.get("split") != "test"]
    assert kept == [e for e in build_entries(documents) if e.get("split") != "test"]


@pytest.mark.parametrize("renamed", [False, True])
def test_copying_from_the_right_document_is_always_right(renamed):
    entries = [e for e in build_entries("oracle", renamed) if e.get("split") == "test"]
    golds = [entry["output"] for entry in entries]
    apis = catalogue_of(golds)
    answers = [copy_call(entry) for entry in entries]
    assert score_api_calls(answers, golds, apis)["identity"] == 1
    memorized = [str(tool.api.call) for tool in toolbox() for _ in range(20)][: len(golds)]
    scores = score_api_calls(memorized, golds, apis)
    assert (scores["hallucination"] == 1) == renamed, "memorized calls no longer exist"


def test_without_documents_the_reader_answers_from_memory():
    assert reference("") == "", "no document gives an empty input"
    entries = [e for e in build_entries() if e.get("split") == "test"]
    golds = [entry["output"] for entry in entries]
    apis = catalogue_of(golds)
    assert score_api_calls([copy_call(e) for e in entries], golds, apis)["unparsable"] == 1
    answers = [copy_call(e, memory=golds[0]) for e in entries]
    assert score_api_calls(answers, golds, apis)["outcomes"]["correct"] == golds.count(golds[0])


def test_unknown_documents_and_calls_are_value_errors():
    with pytest.raises(ValueError, match="no documents 'all'; choose one of none, oracle, bm25"):
        build_entries("all")
    with pytest.raises(ValueError, match="'f\\(1\\)' is not a call of the toolbox"):
        catalogue_of([build_entries()[0]["output"], "f(1)"])
    with pytest.raises(ValueError, match="mix old and renamed keywords"):
        catalogue_of([e["output"] for e in build_entries(renamed=True)])
    assert data_arguments.DOCUMENTS == DOCUMENTS


# --- the command --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def calls_run(tmp_path_factory):
    """A folder with a two-step run of a very small model, and the few entries it was trained on."""
    from ch07.models.hf_export import export_hf
    from gpt_model import GPTConfig, GPTModel

    folder = tmp_path_factory.mktemp("calls")
    shape = {"vocab_size": 50257, "context_length": 128, "emb_dim": 8, "n_heads": 2, "n_layers": 1}
    export_hf(GPTModel(GPTConfig(**shape)), folder / "model")
    assert main(["api-calls", "--write", str(folder / "all.json"), "--documents", "oracle"]) == 0
    rows = json.loads((folder / "all.json").read_text(encoding="utf-8"))
    few = [*rows[:8], *(row for row in rows[30:] if row["family"] == UNSEEN_FAMILY)][:12]
    (folder / "few.json").write_text(json.dumps(few), encoding="utf-8")
    arguments = ["--data", "few.json", "--model", "model", "--out", "run"]
    arguments = [str(folder / a) if a[0] != "-" else a for a in arguments]
    assert main(["finetune", *arguments, "--max-steps", "2", "--device", "cpu"]) == 0
    return folder


def scored(capsys, *arguments):
    capsys.readouterr()
    assert main(["api-calls", *map(str, arguments), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_stored_and_new_answers_get_the_same_scores(calls_run, capsys):
    stored_scores = scored(capsys, calls_run / "run")
    assert stored_scores == scored(capsys, calls_run / "run" / "responses.json")
    n = stored_scores["n"]
    assert sum(stored_scores["outcomes"].values()) == n
    assert sum(family["n"] for family in stored_scores["families"].values()) == n
    assert stored_scores["outcomes"]["correct"] == 0, "two steps teach nothing"
    new_scores = scored(
        capsys, calls_run / "run", "--data", calls_run / "few.json", "--device", "cpu"
    )
    assert new_scores == stored_scores


def test_right_answers_score_100_percent(calls_run, tmp_path, capsys):
    rows = json.loads((calls_run / "run" / "responses.json").read_text(encoding="utf-8"))
    rows = [row | {"model_response": copy_call(row), "family": "a\x1b[31m"} for row in rows]
    path = tmp_path / "copies.json"
    path.write_text(json.dumps(rows), encoding="utf-8")
    assert scored(capsys, path)["identity"] == 1
    assert main(["api-calls", str(path)]) == 0
    out = capsys.readouterr().out
    assert "right call" in out and "100.0 %" in out and "\x1b" not in out
    assert len({line.index(" %") for line in out.splitlines() if " to " in line}) == 1


def test_wrong_usage_and_bad_answers_give_one_line(calls_run, tmp_path, capsys):
    run, file, bad = str(calls_run / "run"), str(calls_run / "few.json"), tmp_path / "bad.json"
    for arguments, code, message in [
        ([], 2, "give a RUN to score"),
        ([run, "--write", "x.json"], 2, "give either a RUN"),
        (["--write", file], 2, "exists: choose another name"),
        (["--write", str(tmp_path / "no" / "x.json")], 2, "is not a folder"),
        (
            ["--write", str(tmp_path / "x.json"), "--json"],
            2,
            "--data, --skip-bad-rows and --json belong to a RUN",
        ),
        ([run, "--renamed"], 2, "belong to --write FILE"),
        ([str(tmp_path)], 1, "not a run folder"),
        ([str(tmp_path / "none")], 1, "no answers to score"),
        ([file], 1, "entry 1 has no text under 'model_response'"),
        ([str(bad)], 1, "'Red' is not a call of the toolbox"),
        ([run, "--data", str(bad)], 1, "'Red' is not a call of the toolbox"),
        ([run, "--data", str(tmp_path / "none.json")], 1, "No such file"),
    ]:
        row = {"instruction": "Name a colour.", "output": "Red", "model_response": "Red"}
        bad.write_text(json.dumps([row]), encoding="utf-8")
        capsys.readouterr()
        assert main(["api-calls", *arguments]) == code, arguments
        captured = capsys.readouterr()
        assert message in captured.err and captured.err.splitlines()[-1].startswith("error: ")
        assert captured.out == ""
    assert not (tmp_path / "x.json").exists()


def test_the_written_data_is_deterministic(tmp_path):
    for name in ("a.json", "b.json"):
        path = str(tmp_path / name)
        assert main(["api-calls", "--write", path, "--documents", "bm25", "--renamed"]) == 0
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()
    assert (tmp_path / "a.json").stat().st_size < 100_000
