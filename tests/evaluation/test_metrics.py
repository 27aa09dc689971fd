"""Metrics: bounds, symmetry, hand-counted cases, coverage of the intervals."""

import random
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ch07.evaluation.metrics import (
    exact_match,
    mean_interval,
    rouge_l,
    score_answers,
    token_f1,
    wilson_interval,
    words,
)

texts = st.lists(st.sampled_from(["the", "cat", "sat", "on", "a", "mat"]), max_size=8).map(" ".join)


@given(texts, texts)
def test_metrics_are_bounded_symmetric_and_1_for_equal_texts(a, b):
    for score in (token_f1, rouge_l):
        assert 0 <= score(a, b) <= 1
        assert score(a, b) == pytest.approx(score(b, a))
        assert score(a, a) == 1
    assert rouge_l(a, b) <= token_f1(a, b) + 1e-12, "ordered matches are matches"


def test_exact_match_ignores_outer_white_space_only():
    assert exact_match(" Paris\n", "Paris") == 1
    assert exact_match("paris", "Paris") == 0


def test_answers_without_words_are_compared_exactly():
    assert token_f1("+", "-") == rouge_l("*", "/") == token_f1("", "x") == 0
    assert token_f1("+", "+") == rouge_l("*", " *") == rouge_l("", "") == 1


def test_the_interval_of_a_single_value_is_0_to_1():
    assert mean_interval([1.0]) == [0.0, 1.0]


def test_chinese_and_accented_text_is_scored():
    assert rouge_l("我喜欢猫", "我喜欢狗") == pytest.approx(0.75)
    assert token_f1("été", "été") == 1


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("\u0926\u093f\u0932", "\u0926\u093e\u0932"),  # Hindi: heart and lentils
        ("\u0e01\u0e34\u0e19", "\u0e01\u0e31\u0e19"),  # Thai: to eat, and "each other"
        ("\u05e9\u05c1", "\u05e9\u05c2"),  # Hebrew: shin and sin
        ("\u0995\u09bf", "\u0995\u09be"),  # Bengali: two vowels of one consonant
        ("re\u0301sume\u0301", "resume"),
    ],
)
def test_marks_belong_to_their_letters(one, other):
    assert token_f1(one, other) == rouge_l(one, other) == exact_match(one, other) == 0
    assert token_f1(one, one) == rouge_l(one, one) == exact_match(one, one) == 1
    assert words(f"{one} {other}") == [*words(one), *words(other)]


@given(st.text(max_size=40))
def test_the_encoding_of_a_letter_does_not_matter(text):
    decomposed = unicodedata.normalize("NFD", text)
    composed = unicodedata.normalize("NFC", text)
    assert exact_match(decomposed, composed) == 1
    assert token_f1(decomposed, composed) == rouge_l(decomposed, composed) == 1
    assert words(decomposed) == words(composed)


def test_letter_case_does_not_matter_in_any_script():
    assert words("\u0130STANBUL") == words("\u0130stanbul") == words("istanbul") == ["istanbul"]
    assert words("STRASSE") == words("Stra\u00dfe")
    assert words("ΟΔΟΣ") == words("οδος") == words("οδοσ")


def test_joiners_do_not_take_a_word_apart():
    persian = "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645"
    assert words(persian) == [persian]


@given(st.integers(1, 200).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_the_wilson_interval_contains_the_share(pair):
    k, n = pair
    low, high = wilson_interval(k, n)
    assert 0 <= low <= k / n + 1e-12 and k / n - 1e-12 <= high <= 1


def test_the_intervals_cover_the_true_mean_95_percent_of_the_time():
    draw = random.Random(0)
    for interval in (lambda v: wilson_interval(sum(v), len(v)), mean_interval):
        hits = 0
        for _ in range(1000):
            values = [float(draw.random() < 0.8) for _ in range(100)]
            low, high = interval(values)
            hits += low <= 0.8 <= high
        assert 0.92 <= hits / 1000 <= 0.98


def test_empty_answers_are_counted_overall_and_by_family():
    entries = [{"output": "a", "family": family} for family in "xyx"]
    scores = score_answers(entries, ["", "a", " \n"], [True] * 3)
    assert (scores["empty"], scores["n"]) == (2, 3)
    assert {name: part["empty"] for name, part in scores["families"].items()} == {"x": 2, "y": 0}


def test_scores_are_reported_by_family():
    entries = [
        {"output": "a", "family": "x"},
        {"output": "b", "family": "y"},
        {"output": "c", "family": "x"},
    ]
    scores = score_answers(entries, ["a", "z", "c d"], [True, True, False])
    assert (scores["n"], scores["exact_match"], scores["stopped"]) == (3, 1 / 3, 2 / 3)
    assert scores["families"]["x"]["n"] == 2 and scores["families"]["x"]["exact_match"] == 0.5
    assert scores["families"]["x"]["token_f1"] == pytest.approx((1 + 2 / 3) / 2)
    for name in ("exact_match", "token_f1", "rouge_l", "stopped"):
        low, high = scores[f"{name}_interval"]
        assert 0 <= low <= scores[name] <= high <= 1
    assert score_answers([{"output": "a"}], ["a"], [True])["families"] == {}
    with pytest.raises(ValueError, match="there are no held-out entries"):
        score_answers([], [], [])


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("C++", "C#"), ("C", "C++"), ("C", "C#"),
        ("-3", "3"), ("\u22123", "3"), ("Is it -5?", "Is it 5?"),
    ],
)  # fmt: skip
def test_a_sign_that_makes_another_word_counts(one, other):
    for metric in (exact_match, token_f1, rouge_l):
        assert metric(one, other) < 1
        assert metric(one, one) == metric(other, other) == 1


def test_other_signs_are_no_words():
    for text in ("5-3", "5 - 3", "(5) 3", "5 #3", "5 + 3", "5, 3"):
        assert words(text) == ["5", "3"]
    assert words("a well-known ++ sign - 1980-1990") == [
        "a", "well", "known", "sign", "1980", "1990"
    ]  # fmt: skip
    assert token_f1("\u22123", "-3") == 1
