"""Data curation: quality flags, LIMA's filters, diverse selections, near duplicates."""

import json
import random
import time
from collections import Counter
from fractions import Fraction
from math import log

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.curation import WAYS, selections, spoiled
from ch07.commands.cli import main
from ch07.data.entries import load_entries
from ch07.data.entry_checks import MAX_FIELD_CHARACTERS, PLACEHOLDERS
from ch07.data.near_duplicates import find_near_duplicates, normalised
from ch07.data.toy_instructions.build import DATA_FILE
from ch07.systems.data_curation.arithmetic_checks import evaluate_expression, wrong_arithmetic
from ch07.systems.data_curation.lima_filters import (
    LIMA_LENGTHS,
    LIMA_PATTERNS,
    filter_reasons,
    strip_links,
)
from ch07.systems.data_curation.quality_flags import (
    FLAGS,
    NOT_BY_RULE,
    RULES,
    count_flags,
    quality_flags,
)
from ch07.systems.data_curation.row_selection import (
    drop_near_duplicates,
    farthest_first_by_group,
    select_diverse,
    select_longest,
    select_random,
)


def row(instruction="Name a fruit.", input="", output="An apple."):
    return {"instruction": instruction, "input": input, "output": output}


# --- flags: what is flagged, and what nearly is -------------------------------------------------

MERGED = (
    "It depends.\n##\n18. Instruction: Find the noun.\n18. Input:\nA dog ran.\n18. Output:\ndog"
)
ADDS = "Write a Python function that adds."
IMAGE = "Describe the following image."
CODE_BELOW = "Explain what the following code does."
LIST = "Read the instruction: it says how.\nInput: 3\nOutput: 4"
FLAGGED = [  # (flag, a row that has it, a row that nearly has)
    ("empty_answer", row(output=" \n"), row(output="0")),
    ("placeholder_answer", row(output="N/A"), row("Symbol of sodium?", output="Na")),
    ("placeholder_answer", row(output="<No Output>"), row("How many are left?", output="None")),
    ("placeholder_answer", row(output="<noinput>"), row(output="No input is needed for a fruit.")),
    ("placeholder_input", row(input="<no input>"), row("Its opposite?", "none", "all")),
    ("placeholder_input", row(input="No input"), row(input="No input lag was measured.")),
    ("placeholder_input", row(input="noinput"), row(input="N/A means not available.")),
    ("merged_tasks", row(output=MERGED), row(output=LIST)),
    (
        "merged_tasks",
        row(output="Yes.\n### Instruction: Go on."),
        row(output="Instruction is fun."),
    ),
    ("link_as_input", row(input="https://news.example.com/a"), row(input="Go to www.x.org now")),
    ("link_from_nowhere", row(output="See https://x.org/a."), row("Is it https://x.org?")),
    ("link_from_nowhere", row(output="www.x.org"), row("Is it www.x.org?", "", "www.x.org")),
    ("missing_picture", row(input="<Picture Attached>"), row(input="<b>, my pictures")),
    ("missing_picture", row(IMAGE), row(IMAGE, "A cat asleep.")),
    ("asks_for_picture", row("Create a graphic or logo."), row("Create an image classifier.")),
    ("asks_for_picture", row("Draw a red house."), row("Draw a conclusion from it.")),
    ("asks_for_picture", row("Paint a cat."), row("Paint a picture in words of a storm.")),
    ("asks_for_picture", row("Make a picture of a cat."), row("Make a title for a picture.")),
    ("missing_code", row(ADDS, output="It adds."), row(ADDS, output="def add(a, b): return a")),
    ("missing_code", row(CODE_BELOW), row(CODE_BELOW, "print(3)")),
    ("missing_code", row("Write a SQL query for names."), row("Write a story about a python.")),
    ("wrong_arithmetic", row("What is 12 * 5?", output="65"), row("12 * 5?", output="60")),
    ("control_characters", row(output="An\x00 apple."), row(output="An,\n\ta. \U0001f34e\u200d")),
    ("control_characters", row(output="One.\\nTwo."), row(output="Use print('a\\nB') for it.")),
]


@pytest.mark.parametrize(("flag", "bad", "near"), FLAGGED, ids=[flag for flag, *_ in FLAGGED])
def test_a_defect_is_flagged_and_a_near_miss_is_not(flag, bad, near):
    assert flag in quality_flags(bad)
    assert quality_flags(near) == []


def test_every_flag_has_a_rule_a_description_and_a_test_case():
    assert set(FLAGS) == set(RULES) == {flag for flag, *_ in FLAGGED}
    assert all(len(sentence.split()) > 5 for sentence in FLAGS.values())
    assert "unclear instructions" in NOT_BY_RULE


def test_no_row_of_the_bundled_data_is_flagged():
    assert count_flags(BUNDLED) == {}


def test_the_loaders_placeholders_are_flagged():
    for text in PLACEHOLDERS:
        assert quality_flags(row(input=text)) == ["placeholder_input"]


def test_flags_are_counted_in_order_with_their_rows():
    rows = [row(), row(input="N/A", output="N/A"), {"instruction": "Say a.", "output": ""}]
    assert quality_flags(rows[1]) == ["placeholder_answer", "placeholder_input"]
    assert count_flags(rows) == {
        "empty_answer": [2], "placeholder_answer": [1], "placeholder_input": [1],
    }  # fmt: skip
    with pytest.raises(ValueError, match="'output' must be text, but is 5"):
        quality_flags(row(output=5))


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=40), st.none() | st.text(max_size=40), st.text(max_size=40))
def test_random_texts_never_raise(instruction, input, output):
    assert set(quality_flags(row(instruction, input, output))) <= set(FLAGS)


PIECES = ["\n", " ", "a(", "1 ", "1+1=3 ", "sum of 1 ", "select ", "<a", "[", "<pre "]
NUMBERED = ["a", "I ", "IV ", "King ", "King A", "War I ", "Elizabeth I ", "type I ", "a I and "]


@pytest.mark.parametrize("piece", PIECES + NUMBERED)
def test_the_longest_field_is_checked_in_linear_time(piece):
    """Quadratic patterns would take minutes."""
    text, started = (piece * MAX_FIELD_CHARACTERS)[:MAX_FIELD_CHARACTERS], time.process_time()
    quality_flags(row(text, text, text))
    strip_links(text)
    filter_reasons(answer(text), banned_patterns=LIMA_PATTERNS)
    assert time.process_time() - started < 2


# --- arithmetic ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("instruction", "input", "output"),
    [
        ("Calculate the median of the following data set.", "1, 2, 4, 5, 8, 9", "5"),
        ("Find the mean of these numbers.", "2, 4 and 9", "The mean is 6."),
        ("What is 10 / 3?", "", "3"),
        ("What is 1,200 + 34 \u00d7 2?", "", "1,269"),
        ("Add the numbers.", "3 and 4", "8"),
        ("Explain.", "", "First, 3 + 4 = 8, so it is odd."),
        ("What is 10 / 4?", "", "2.4"),
        ("What is 6 divided by 3?", "", "The answer is 3"),
    ],
)
def test_wrong_arithmetic_is_flagged(instruction, input, output):
    assert wrong_arithmetic(row(instruction, input, output))


@pytest.mark.parametrize(
    ("instruction", "input", "output"),
    [
        ("Calculate the median of the following data set.", "1, 2, 4, 5, 8, 9", "4.5"),
        ("What is 10 / 3?", "", "3.33"),
        ("What is 2 / 3?", "", "0.66"),  # cut instead of rounded
        ("What is 10 / 3, to the nearest number?", "", "3"),
        ("What is 10 / 3?", "", "About 3"),
        ("What is 10 + 11 in binary?", "", "101"),
        ("What is 24/7?", "", "It means all day, every day of the week."),
        ("Solve the equation.", "2x + 3 = 8", "x = 2.5"),
        ("Solve it.", "", "2x + 3 = 7, so x = 2"),
        ("Solve it.", "", "y + 2 + 3 = 9, so y = 4, and sqrt 9 + 16 = 5"),
        ("What is 20% of 50 + 3?", "", "13"),
        ("What is the difference between 3 and 10?", "", "7"),
        ("Name a number between 3 and 7.", "", "5"),
        ("Find the sum.", "1,200 and 3", "1,203"),  # one number or two: not judged
        ("When was it?", "", "On 2020-03-01"),
        ("Why?", "", "9 / 2 = 4 remainder 1"),
        ("Why?", "", "1 + 2 = 3 * 1, 0.1 + 0.2 = 0.3"),
        ("What is 1 / 0?", "", "0"),
    ],
)
def test_right_or_ambiguous_arithmetic_is_not_flagged(instruction, input, output):
    assert not wrong_arithmetic(row(instruction, input, output))


EXPRESSIONS = st.recursive(
    st.integers(0, 99).map(str),
    lambda part: st.tuples(part, st.sampled_from("+-*"), part).map("({0[0]} {0[1]} {0[2]})".format),
    max_leaves=6,
)


@settings(max_examples=60, deadline=None)
@given(EXPRESSIONS.filter(lambda text: "(" in text), st.integers(1, 9))
def test_expressions_have_pythons_value(text, off):
    value = eval(text, {}, {})
    assert evaluate_expression(text) == value and evaluate_expression(f"{text} / 7") == Fraction(
        value, 7
    )
    assert not wrong_arithmetic(row(f"What is {text}?", output=str(value)))
    assert wrong_arithmetic(row(f"What is {text}?", output=str(value + off)))


def test_other_texts_have_no_value():
    for text in (
        "7",
        "",
        "2020",
        "a + b",
        "1 +",
        "(1 + 2",
        "2 ** 3",
        "7 // 2",
        "1/0",
        "1+" * 300 + "1",
    ):
        assert evaluate_expression(text) is None, text


# --- LIMA's filters -----------------------------------------------------------------------------


def answer(text):
    return row(output=text)


@pytest.mark.parametrize(
    ("length", "reasons"), [(1199, ["short"]), (1200, []), (4096, []), (4097, ["long"])]
)
def test_length_bounds_are_inclusive(length, reasons):
    assert filter_reasons(answer("x" * length), *LIMA_LENGTHS, LIMA_PATTERNS) == reasons


@pytest.mark.parametrize(
    ("text", "reasons"),
    [
        ("I think that it works.", ["first person"]),
        ("It works, I'm sure.", ["first person"]),
        ("In my view it works.", ["first person"]),
        ("World War I ended in 1918. Part I is short; myth is not my.", ["first person"]),
        ("World War I was long. Part I of it, too: i = 1, Mycroft.", []),
        ("Use `my_list` or:\n```\nI = my(me)\n```\nand stop.", []),
        ("As mentioned in the other answer, it works.", ["other answers"]),
        ("The accepted answer is wrong.", ["other answers"]),
        ("The answer is 5; it was mentioned twice.", []),
    ],
)
def test_lima_patterns_match_authors_and_other_answers(text, reasons):
    assert filter_reasons(answer(text), banned_patterns=LIMA_PATTERNS) == reasons


FIRST_PERSON = """
    I was there.
    Then I was there.
    Yesterday I went home.
    When I try this, it fails.
    If I may say so, it works.
    Can I use it?
    Should I of course ask?
    Anna and I went home.
    You and I and the others went home.
    In Paris I saw the tower.
    In New York I was happy.
    On Monday I went home.
    Last March I was in Rome.
    With Python I can do this.
    The Paris I knew is gone.
    At Google I worked on search.
    Anna I know, Bob I don't.
    To King Arthur I say no.
    To Elizabeth I am a stranger.
    The class I took was hard.
    The type I like is red.
    This is the book I read.
    In this section I explain it.
    In the first part I saw it.
    Every step I take counts.
    Part I think is missing.
    As King I ruled well.
    The king and I went home.
    No. I think it works.
    (I tried it.)
    "I tried it."
    It is long, I guess.
    Well; I tried it.
    It works\u2014I tried it.
    What am I to do?
    World War I ended before I was born.
    Elizabeth I was queen, I think.
    I'm sure.
    I\u2019ve seen it.
    Type I'd avoid.
    Give it to me.
    It was My idea.
"""
NUMBERS = """
    Elizabeth I was queen.
    Queen Elizabeth I was crowned in 1559.
    Under Elizabeth I trade grew.
    The reign of Elizabeth I was long.
    Elizabeth I had no heir.
    Charles I lost his head.
    Henry I died of lampreys.
    Napoleon I became emperor, and Napoleon III did too.
    Pope John Paul I died soon.
    Pope Linus I never existed.
    King Bhumibol I is unknown.
    Haile Selassie I ruled Ethiopia.
    Franz Joseph I reigned for 68 years.
    Vitamin I is fine.
    Vitamin I was never found.
    World War I ended in 1918.
    World War I saw the first tanks.
    The First World War, or World War I as it is called, was long.
    Part I deals with cells; Part II with organs.
    See Chapter I for the proof.
    Chapter I was short.
    Volume I contains the letters.
    Vol. I contains the letters.
    Act I begins in a forest.
    Article I gives Congress its powers.
    Type I errors are false alarms.
    A type I error is a false alarm.
    In phase I trials few take part.
    A class I molecule binds it.
    Class I railroads are large.
    Title I schools get money.
    Division I athletes train daily.
    Photosystem I absorbs light.
    Angiotensin I becomes angiotensin II.
    Mark I was a computer.
    Types I and II differ.
    The phases I through III are costly.
    The current I is 2 amperes, where I has the unit A.
    Bhumibol I of Siam is unknown.
    Elizabeth I, the queen, and Elizabeth I's court.
    Elizabeth I (1533 to 1603) was queen.
    Use I/O, i = 1, AI models and Mycroft.
    The model of Model I does it.
"""


@pytest.mark.parametrize("text", [line.strip() for line in FIRST_PERSON.strip().split("\n")])
def test_the_first_person_is_recognized(text):
    assert filter_reasons(answer(text), banned_patterns=LIMA_PATTERNS) == ["first person"]


@pytest.mark.parametrize("text", [line.strip() for line in NUMBERS.strip().split("\n")])
def test_the_number_i_is_not_the_first_person(text):
    assert filter_reasons(answer(text), banned_patterns=LIMA_PATTERNS) == []


def test_patterns_may_be_a_list_and_must_be_patterns():
    assert filter_reasons(answer("Hm."), banned_patterns=["^H", "x"]) == ["^H"]
    with pytest.raises(ValueError, match="not a regular expression"):
        filter_reasons(answer("Hm."), banned_patterns=["("])


CODE = "```\nget('https://x.org/a') # <b>\n```\n<code><a href=\"https://x.org\">x</a></code> `<i>`"


def test_links_are_removed_and_code_and_lists_stay():
    text = (
        'See [the docs](https://x.org "Docs"), ![a cat](cat.png)<a href="https://x.org">here</a> '
        "and at https://x.org/a?b=1, or <https://y.org>.<ul><li><b>one</b></li></ul> a<b and c>d\n"
    )
    words = "See the docs, here and at, or.<ul><li>one</li></ul> a<b and c>d\n"
    assert strip_links(text + CODE) == words + CODE
    assert strip_links(CODE) == CODE


# --- rows that differ ---------------------------------------------------------------------------


def cosine(texts):
    """All pairs, by plain counting: TF-IDF of pieces of one to three letters."""
    texts = [normalised(text) for text in texts]
    bags = [Counter(t[i : i + n] for n in (1, 2, 3) for i in range(len(t) - n + 1)) for t in texts]
    having = Counter(piece for bag in bags for piece in bag)
    n = len(texts)
    for bag in bags:
        for piece in bag:
            bag[piece] *= log((1 + n) / (1 + having[piece])) + 1
    lengths = [sum(v * v for v in bag.values()) ** 0.5 for bag in bags]

    def one(i, j):
        product = sum(v * bags[j].get(piece, 0) for piece, v in bags[i].items())
        return product / (lengths[i] * lengths[j]) if product else 0.0

    return [[one(i, j) for j in range(n)] for i in range(n)]


TEXTS = st.lists(st.tuples(st.text("abc ", max_size=6), st.sampled_from("xyz")), max_size=14)


@settings(max_examples=80, deadline=None)
@given(TEXTS, st.integers(1, 14), st.sampled_from([None, 1, 2]), st.sampled_from([0.5, 0.9, 1.0]))
def test_farthest_first_equals_a_comparison_of_all_pairs(pairs, k, per_group, cap):
    texts, groups = [text for text, _ in pairs], [group for _, group in pairs]
    similar, chosen = cosine(texts), farthest_first_by_group(texts, groups, k, per_group, cap)
    assert len(set(chosen)) == len(chosen) <= k
    waiting, taken, done = list(dict.fromkeys(groups)), Counter(), []

    def nearest(i):
        return max((similar[i][j] for j in done), default=0.0)

    def can_give(group):
        left = [i for i, g in enumerate(groups) if g == group and i not in done]
        full = per_group is not None and taken[group] == per_group
        return None if full or not left else min(map(nearest, left))

    for i in chosen:
        while waiting[0] != groups[i]:  # a group may only be passed over if it can give nothing
            least = can_give(waiting.pop(0))
            assert least is None or least > cap - 1e-8
        least = can_give(groups[i])
        assert least is not None and nearest(i) <= min(least, cap) + 1e-8
        done.append(i)
        taken[groups[i]] += 1
        waiting.append(waiting.pop(0))
    if len(chosen) < k:
        gives = [can_give(group) for group in set(groups)]
        assert all(least is None or least > cap - 1e-8 for least in gives)


BUNDLED = load_entries(DATA_FILE)


def test_an_exhausted_group_does_not_skip_another_groups_turn():
    texts, groups = [""] * 6, list("xxxyzz")
    assert farthest_first_by_group(texts, groups, 5) == [0, 3, 4, 1, 5]


def toy(n=400, seed=0):
    return [dict(r) for r in random.Random(seed).sample(BUNDLED, n)]


def test_selections_are_balanced_dissimilar_and_independent_of_row_order():
    rows = [r for r in BUNDLED[:2000] if r["family"] < "d"]
    chosen = select_diverse(rows, 50, "family", seed=5, max_similarity=0.8)
    sizes = Counter(r["family"] for r in chosen).values()
    assert len(sizes) == len({r["family"] for r in rows}) and max(sizes) - min(sizes) <= 1
    # weighed as all rows are, not as the chosen alone would be
    texts = [f"{r['instruction']} {r['input']}" for r in rows]
    places = [rows.index(r) for r in chosen]
    alike = {(i, j) for i, j, _ in find_near_duplicates(texts, 0.8 + 1e-8)}
    assert alike and not any((i, j) in alike for i in places for j in places)
    again = random.Random(1).sample(rows, len(rows))
    assert select_diverse(again, 50, "family", seed=5, max_similarity=0.8) == chosen
    assert select_diverse(rows, 50, "family", seed=6, max_similarity=0.8) != chosen
    assert select_random(again, 9, 5) == select_random(rows, 9, 5) != select_random(rows, 9, 6)
    assert select_longest(again, 9) == select_longest(rows, 9)


def test_select_longest_takes_the_longest_answers():
    rows = toy()
    least = min(len(r["output"]) for r in select_longest(rows, 30))
    assert sum(len(r["output"]) > least for r in rows) < 30
    assert select_longest(rows, 1)[0]["output"] == max((r["output"] for r in rows), key=len)


def test_rows_are_filtered_before_selection():
    rows = [
        row(f"Say {word}.", output=word * n) for n, word in enumerate(("ab", "cd", "ef", "my "), 1)
    ]
    chosen = select_diverse(rows, 2, min_len=4, max_len=6, banned_patterns=LIMA_PATTERNS)
    assert {r["output"] for r in chosen} == {"cdcd", "efefef"}


def test_duplicates_are_selected_once():
    rows = [row(), row(), row(output="A pear."), row("Name a colour.", output="Red.")]
    assert len(select_diverse(rows, 2)) == 2
    with pytest.raises(
        ValueError, match=r"3 rows requested, but only 2 .* 4 of 4 pass the filters"
    ):
        select_diverse(rows, 3)
    assert len(select_diverse(rows, 4, max_similarity=1.0)) == 4


def test_impossible_selections_are_value_errors():
    with pytest.raises(ValueError, match="limits: at most 1 per group, similarity of two rows"):
        select_diverse(toy(), 100, "family", per_group=1)
    with pytest.raises(ValueError, match="no row has the key 'famly'"):
        select_diverse(toy(), 5, "famly")
    for choose in (select_random, select_longest):
        with pytest.raises(ValueError, match="9 rows requested, but there are only 2"):
            choose([row(), row()], 9)
    for k in (0, -1, 2.0, True):
        with pytest.raises(ValueError, match="an int of at least 1"):
            select_diverse([row()], k)
    with pytest.raises(ValueError, match="only 0 can be chosen"):
        select_diverse([], 1)


def test_a_curated_selection_has_no_flagged_row():
    """A quarter spoiled: what rules can see is gone, what they can't is there, and is counted."""
    pool = spoiled(toy(1500), seed=3)
    bad = [r for r in pool if "spoiled" in r]
    assert len(bad) == 375 and {r["spoiled"] for r in bad} == {way.__name__ for way in WAYS}
    seen = {"not_available", "merged", "control_character"}
    assert all(quality_flags(r) for r in bad if r["spoiled"] in seen)
    assert not any(quality_flags(r) for r in pool if "spoiled" not in r)
    found = {}
    for name, rows in selections(pool, 200, 3).items():
        found[name] = {row.get("spoiled") for row in rows}
    assert not found["curated"] & seen and "cut_off" in found["curated"]
    assert all(found[name] & seen for name in ("all", "random", "longest"))


# --- near duplicates ----------------------------------------------------------------------------


def said(*texts):
    return [{"input": text, "row": i} for i, text in enumerate(texts)]


def test_the_first_of_near_duplicates_stays_despite_empty_values():
    """The book's script drops empty values first, and then drops the rows before the right ones."""
    rows = said("", "Name a colour.", "", "name a colour", "Sort them.", "Name a colour!")
    assert drop_near_duplicates(rows, "input") == [rows[0], rows[1], rows[2], rows[4]]


def test_rows_without_a_value_are_untouched():
    for rows in (said("", "", ""), [{"input": None}, {"input": ""}], []):
        assert drop_near_duplicates(rows, "input") == rows
    rows = [{"output": "x"}, *said("Say the same.", "Say the same.")]  # not in the first row
    assert drop_near_duplicates(rows, "input") == rows[:2]
    with pytest.raises(
        ValueError, match="no row has the key 'inptu'; the first row's keys: 'output'"
    ):
        drop_near_duplicates(rows, "inptu")
    with pytest.raises(ValueError, match="row 2: 'input' must be text, but is 5"):
        drop_near_duplicates([{"input": "x"}, {"input": 5}], "input")


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text("ab c", max_size=7), max_size=14), st.sampled_from([0.6, 0.75, 0.9]))
def test_removing_near_duplicates_is_idempotent(texts, threshold):
    rows = said(*texts)
    kept = drop_near_duplicates(rows, "input", threshold)
    assert drop_near_duplicates(kept, "input", threshold) == kept
    assert [r["row"] for r in kept] == sorted(r["row"] for r in kept)
    assert find_near_duplicates([r["input"] for r in kept], threshold) == []
    later = {j for _, j, _ in find_near_duplicates(texts, threshold)}
    first_round = [r for r in rows if r["row"] not in later]
    assert all(r in first_round for r in kept)
    assert bool(kept) == bool(rows)


def test_removal_is_repeated_since_weights_change():
    """Without the fourth text "b" is rarer, and so the second and the third are more alike."""
    texts = ["ab", "acbcb", "cbc", "cb"]
    assert {(i, j) for i, j, _ in find_near_duplicates(texts, 0.75)} == {(2, 3)}
    assert {(i, j) for i, j, _ in find_near_duplicates(texts[:3], 0.75)} == {(1, 2)}
    kept = drop_near_duplicates(said(*texts), "input", 0.75)
    assert [r["input"] for r in kept] == ["ab", "acbcb"]


# --- the commands -------------------------------------------------------------------------------


@pytest.fixture
def data(tmp_path):
    rows = toy(300)
    rows[3]["output"], rows[5]["input"] = "N/A", "<no input>"
    rows[7]["split"], rows[7]["output"] = "test", "n/a"
    path = tmp_path / "rows.json"
    path.write_text(json.dumps(rows), encoding="utf-8")
    return path


def curated(capsys, *arguments):
    code = main(["curate", *map(str, arguments)])
    return code, *capsys.readouterr()


def test_the_command_selects_rows_and_counts_the_others(data, tmp_path, capsys):
    n = sum(r.get("split", "train") == "train" for r in load_entries(data))
    for how in ("diverse", "longest", "random"):
        new = tmp_path / f"{how}.jsonl"
        code, out, _ = curated(capsys, data, new, "--keep", 40, "--how", how, "--json")
        page, rows = json.loads(out), load_entries(new)
        assert code == 0 and page["rows"] == n and page["chosen"] == 40
        assert page["left_out"] == {
            "placeholder_answer": 1, "placeholder_input": 1, "not chosen": n - 42,
        }  # fmt: skip
        assert len(rows) == 40 + page["held_out"] == 40 + 300 - n
        assert any(r["output"] == "n/a" for r in rows), "what is held out is nobody's to choose"
    code, out, _ = curated(
        capsys, data, tmp_path / "new.json", "--keep", 40, "--distinct", "output"
    )
    assert code == 0 and "near duplicates" in out and FLAGS["placeholder_answer"] in out
    assert "finetune --data" in out


def test_lima_filters_short_answers_and_strips_links(tmp_path, capsys):
    long = "It is so. " * 130
    rows = [row("Say it.", output=long + "[here](https://x.org)"), row("Tell me.", output="Short.")]
    path, new = tmp_path / "rows.json", tmp_path / "new.json"
    path.write_text(json.dumps(rows), encoding="utf-8")
    code, out, _ = curated(capsys, path, new, "--keep", 1, "--lima")
    assert code == 0 and "shorter than LIMA's" in out
    assert load_entries(new) == [row("Say it.", output=long + "here")]


def test_bad_input_gives_one_line(data, tmp_path, capsys):
    new = tmp_path / "new.json"
    code, _, err = curated(capsys, data, new, "--keep", 1000)
    assert code == 1 and "1,000 rows requested" in err and "placeholder_answer 1" in err
    code, _, err = curated(capsys, data, data, "--keep", 3)
    assert code == 2 and "exists: choose another name for NEW" in err
    code, _, err = curated(capsys, data, tmp_path / "no" / "new.json", "--keep", 3)
    assert code == 2 and "is not a folder" in err
    code, _, err = curated(capsys, tmp_path, new, "--keep", 3)
    assert code == 0  # a folder of data files, of which this is the only one
    new.unlink()
    code, _, err = curated(capsys, data, new, "--keep", 3, "--how", "longest", "--per-group", 1)
    assert code == 2 and "--per-group is for --how diverse" in err
    assert not new.exists()


def test_the_doctor_counts_quality_flags(data, monkeypatch, tmp_path, capsys):
    from ch07.commands.doctor_checks import check_data
    from ch07.config import FinetuneOptions
    from ch07.training.run_plan import build_plan

    def said_of(path):
        options = FinetuneOptions(data=str(path))
        checks = check_data(build_plan(options, lambda text: None), options, "")
        return [check for check in checks if "may teach something wrong" in check.text]

    (check,) = said_of(data)
    assert (
        check.text.startswith("3 rows may") and f"{FLAGS['placeholder_answer']} (2)" in check.text
    )
    assert check.level == "look" and sorted(check.rows) == ["row 4", "row 6", "row 8"]
    clean = tmp_path / "clean.json"
    clean.write_text(json.dumps(toy(60, seed=1)), encoding="utf-8")
    assert said_of(clean) == []


# --- conversations ------------------------------------------------------------------------------
SEE_PAGE = {"instruction": "Which page is it?", "output": "See https://example.org/a"}
FLAGGED_TURNS = [
    (["placeholder_answer"], {"instruction": "Name a fruit.", "output": "N/A"}),
    (["wrong_arithmetic"], {"instruction": "What is 12 * 5?", "output": "65"}),
    (["link_from_nowhere"], SEE_PAGE),
]
FINE_TURN = {"instruction": "Name a fruit.", "input": "", "output": "A kumquat."}


@pytest.mark.parametrize(("flags", "turn"), FLAGGED_TURNS)
def test_every_turn_of_a_conversation_is_looked_at(flags, turn):
    assert quality_flags(turn) == flags
    assert quality_flags({**FINE_TURN, "history": [turn]}) == flags
    assert quality_flags({**turn, "history": [FINE_TURN]}) == flags
    assert quality_flags({**FINE_TURN, "history": [FINE_TURN]}) == []


def test_what_stands_in_an_earlier_turn_is_known_in_a_later_one():
    link = {"instruction": "Keep this: https://example.org/a", "output": "I will."}
    assert quality_flags({**SEE_PAGE, "history": [link]}) == []
    assert quality_flags({**link, "history": [SEE_PAGE]}) == ["link_from_nowhere"]
    assert quality_flags({**SEE_PAGE, "system": "The page is https://example.org/a"}) == []
    code = {"instruction": "Read: `print(1)`", "output": "I have read it."}
    question = {"instruction": "What does the above code print? Explain this code.", "output": "1"}
    assert quality_flags({**question, "history": []}) == ["missing_code"]
    assert quality_flags({**question, "history": [code]}) == []


def test_columns_that_json_has_no_type_for_are_written_as_text(tmp_path):
    """A table's dates and decimals are not trained on, but belong to their rows."""
    import pyarrow
    import pyarrow.parquet

    columns = {
        "instruction": [f"Name fruit {i}." for i in range(9)],
        "output": [f"Kumquat {i}" for i in range(9)],
        "at": pyarrow.array([1] * 9, pyarrow.timestamp("ms")),
        "price": pyarrow.array([1] * 9).cast(pyarrow.decimal128(21, 2)),
        "raw": pyarrow.array([b"x"] * 9),
    }
    path = tmp_path / "rows.parquet"
    pyarrow.parquet.write_table(pyarrow.table(columns), path)
    new = tmp_path / "few.json"
    assert main(["curate", str(path), str(new), "--keep", "3"]) == 0
    rows = load_entries(new)
    assert len(rows) == 3 and {row["price"] for row in rows} == {"1.00"}
