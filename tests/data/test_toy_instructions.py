"""The bundled data: made by program, honest about what is held out, right in every answer."""

import json
import re
from collections import Counter, defaultdict

import pytest

from ch07.data.splits import normalised_prompt, overlap, split_entries
from ch07.data.toy_instructions import words
from ch07.data.toy_instructions.build import DATA_FILE, as_json, build_entries
from ch07.data.toy_instructions.facts import FACT_FAMILIES
from ch07.data.toy_instructions.lists import LIST_FAMILIES
from ch07.data.toy_instructions.sentences import SENTENCE_FAMILIES

ALL = SENTENCE_FAMILIES | LIST_FAMILIES | FACT_FAMILIES


@pytest.fixture(scope="module")
def toy():
    return json.loads(DATA_FILE.read_text(encoding="utf-8"))


def test_the_file_is_what_the_program_writes(toy):
    assert DATA_FILE.read_bytes() == as_json(build_entries()).encode()


def test_its_size(toy):
    splits = split_entries(toy)
    assert len(toy) >= 14_000 and len(splits["test"]) >= 500
    families = Counter(entry["family"] for entry in splits["test"])
    assert len(families) >= 20 and min(families.values()) >= 20
    assert set(families) == set(ALL)


def test_no_prompt_comes_twice_or_leaks(toy):
    prompts = Counter(map(normalised_prompt, toy))
    assert max(prompts.values()) == 1, "one right answer per question"
    assert overlap(split_entries(toy)) == {"test": 0, "validation": 0}


def test_entries_are_clean(toy):
    for entry in toy:
        texts = [entry[key] for key in ("instruction", "input", "output")]
        assert all(text == text.strip() and "  " not in text for text in texts)
        assert entry["instruction"] and entry["output"]
        assert entry["instruction"][-1] in ".?!" or re.search("[:?] ", entry["instruction"])
    shares = Counter(bool(entry["input"]) for entry in toy)
    assert min(shares.values()) > 3000, "both with and without input"


def test_every_family_has_several_phrasings():
    for name, (_, phrasings) in ALL.items():
        assert len(phrasings) >= 4 and len(set(phrasings)) == len(phrasings), name


def content(entry):
    """What a composing entry is about, whatever its phrasing: its words, in their order."""
    _, phrasings = ALL[entry["family"]]
    for instruction, text in phrasings:
        pattern = re.sub(r"\\{(\w+)\\}", r"(?P<\1>.+)", re.escape(f"{instruction}\n{text}"))
        found = re.fullmatch(pattern, f"{entry['instruction']}\n{entry['input']}")
        if found:
            return entry["family"], *sorted(found.groupdict().items())
    raise AssertionError(entry)


def test_held_out_combinations_are_new(toy):
    """Read back from the text itself, not from the program's own keys."""
    composed = [entry for entry in toy if entry["family"] not in FACT_FAMILIES]
    trained = {content(entry) for entry in composed if "split" not in entry}
    held_out = [content(entry) for entry in composed if "split" in entry]
    assert len(held_out) > 300 and not trained.intersection(held_out)


def test_unordered_combinations_are_new_in_any_order(toy):
    for family in ("sort three words", "count", "larger number"):
        sets = defaultdict(set)
        for entry in toy:
            if entry["family"] == family:
                values = dict(content(entry)[1:])
                members = frozenset(re.findall(r"[\w]+", " ".join(values.values())))
                sets["split" in entry].add(members)
        assert sets[True] and not sets[True] & sets[False], family


def test_held_out_facts_were_seen_in_other_words(toy):
    """The fact (its slots) and the phrasing were each seen in training, but not together."""
    for family, (facts, phrasings) in FACT_FAMILIES.items():
        pairs = {}
        for fact, (slots, answer) in enumerate(facts):
            for phrasing, (instruction, text) in enumerate(phrasings):
                prompt = instruction.format(**slots), text.format(**slots)
                pairs[prompt] = fact, phrasing, answer
        seen = {"train": [], "held out": []}
        for entry in toy:
            if entry["family"] == family:
                fact, phrasing, answer = pairs[entry["instruction"], entry["input"]]
                assert entry["output"] == answer
                seen["held out" if "split" in entry else "train"].append((fact, phrasing))
        assert not set(seen["train"]) & set(seen["held out"])
        for part in (0, 1):
            trained = Counter(pair[part] for pair in seen["train"])
            assert all(trained[pair[part]] >= 4 for pair in seen["held out"]), family


def test_answers_recomputed_in_another_way(toy):
    """Not by the generators: straight from the words of the prompt."""
    past = {third: p for _, third, p, _ in words.VERBS}
    instead = r"Replace the word (\w+)|instead of (\w+)|Change the word (\w+)|the place of (\w+)"
    checked = Counter()
    for entry in toy:
        text = entry["input"] or re.split(r"[:?] ", entry["instruction"], maxsplit=1)[-1]
        items, out = text.split(", "), entry["output"]
        numbers = [int(n) for n in re.findall(r"\d+", f"{entry['instruction']} {entry['input']}")]
        match entry["family"]:
            case "sort three words":
                assert out.split(", ") == sorted(items)
            case "reverse three words":
                assert out.split(", ") == items[::-1]
            case "count":
                assert int(out) == len(items)
            case "larger number":
                assert int(out) == max(numbers)
            case "add":
                assert int(out) == sum(numbers)
            case "past tense":
                verb = text.split()[2]
                assert out == text.replace(verb, past[verb])
            case "find the adjective":
                assert [word for word in text[:-1].split() if word in words.ADJECTIVES] == [out]
            case "replace a word":
                old = next(filter(None, re.search(instead, entry["instruction"]).groups()))
                new = set(out[:-1].split()) - set(text[:-1].split())
                assert len(new) == 1 and f" {next(iter(new))}" in entry["instruction"]
                assert out == text.replace(f" {old}.", f" {next(iter(new))}.")
            case _:
                continue
        checked[entry["family"]] += 1
    assert len(checked) == 8 and min(checked.values()) > 300


def test_tables_have_one_right_answer():
    assert "light" not in words.ANTONYMS, "its opposite is dark, or heavy"
    for table in (words.PLURALS, words.ANTONYMS, words.CAPITALS):
        assert all(question != answer for question, answer in table.items())
    members = [word for group in words.CATEGORIES.values() for word in group]
    assert len(members) == len(set(members)), "no word in two categories"
