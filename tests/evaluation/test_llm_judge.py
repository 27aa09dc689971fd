"""The judge: its prompt, the score in a reply, failures, and the command."""

import json

import pytest
from completion_server import ollama, openai, serving
from hypothesis import given, settings
from hypothesis import strategies as st

from ch07.commands.cli import main
from ch07.evaluation import llm_judge as judging
from ch07.evaluation.judge_scores import HUNDRED, RUBRIC, parse_score
from ch07.evaluation.llm_judge import (
    judge,
    judge_prompt,
    judgement_lines,
    summarise,
)
from ch07.evaluation.metrics import rouge_l, token_f1
from ch07.evaluation.rank_correlation import kendall, spearman
from ch07.generation.backends import open_backend
from ch07.generation.completion import (
    Completion,
    CompletionError,
    SchemaUnsupported,
    scripted,
)
from ch07.models.saved_run import save_model
from ch07.runs import run_folder

# --- the number in a reply ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reply", "score"),
    [
        ("85", 85),
        ("85/100", 85),
        ("Score: 85", 85),
        ("**85**", 85),
        ("85 out of 100", 85),
        ("I'd give it a 7/10", 70),
        ("**Score:** 85/100\n\nIt names 2 of the 3 colours.", 85),
        ("0", 0),
        ("On a scale from 0 to 100, I would score it 90.", 90),
        ("85.\n\nOne of 2 facts is wrong.", 85),
        ("得分85分", 85),
        ("It is right; only 1 comma is missing. Rating: 95%", 95),
        ("2/3 of it is right. Score: 60", 60),
        ("GPT-4 would say 85", 85),
        ("8.5/10", 85),
        ("85.5", 85.5),
        # ambiguous, or not a score of this scale
        ("", None),
        ("The answer is good.", None),
        ("It names 2 of the 3 colours, so 60", None),
        ("85/100 or 75/100", None),
        ("Score: 80-90", None),
        ("between 80 to 90", None),
        ("-5", None),
        ("Score: \u22125", None),
        ("Score: 850", None),
        ("101", None),
        ("1985", None),
        ("In 1985", None),
        ("1,000", None),
        ("100th", None),
        ("3/4", None),
        ("120/100", None),
        ("1e2", None),
        # what else stands in the reply
        ("Score: 85. It names 3/5 rivers.", 85),
        ("85\n2/5 of the facts are missing.", 85),
        ("Score A: 80, Score B: 70", None),
        ("Score A: 80, Score B: 80", 80),
        ("Score 1: 85", 85),
        ("Score 1: 85, Score 2: 70", None),
        ("Score (out of 100): 85", 85),
        ("Score [0-100]: 85", 85),
        ("Score (0 to 100) = 85/100", 85),
        ('{"score": 85, "reason": "It names 3/5 rivers."}', 85),
        ('```json\n{\n  "rating": 7.5,\n  "of": 10\n}\n```', 7.5),
        ('{"final_score": "85"}', 85),
        ("Accuracy score: 80\nStyle score: 60\nOverall score: 75", 75),
        ("Accuracy score: 80. Style score: 60.", None),
        ("Final rating - 85", 85),
        ("Score \u2013 85", 85),
        ("Score \u2192 85", 85),
        ("Score:-5", None),
        ("Score: 3/4", None),
        ("Score: 3 out of 4", None),
        ("Score: 17 out of 20", 85),
        ("Score: 85 of 100.", 85),
        ("It scores 2 of 3 points.", None),
        ("Score: 4 or 5", None),
        ("Score: 80 to 90", None),
        ("Score: 85. See lines 3-5.", 85),
        ("85. See lines 3-5.", 85),
        ("The score is between 60 and 70.", None),
        ("The grade for this answer is 85.", 85),
        ("I would rate this answer an 85, since 2 of 3 facts are right.", 85),
        ("I'd rate it 8/10.", 80),
        ("I give the answer a score of 85.", 85),
        ("Graded 85 of 100", 85),
        ("The answer should be scored as a 40.", 40),
        ("It demonstrates 3 points.", None),
        ("It demonstrates 3 points out of 4 and 2 examples.", None),
        ("It is accurate: 3 of 3 names. I would say 95.", None),
        ("1. The answer is right.\n2. It is short.\nScore: 90", 90),
        ("1. The answer is right.\n2. It is short.", None),
        ("2 of the 3 colours are named, so 60", None),
        ("85: the answer is right.", 85),
        ("85 - it names 2 of 3 rivers", 85),
        ("85 points", 85),
        ("(85)", 85),
        ('"85"', 85),
        ("85%", 85),
        ("The answer is right.\n\n85", 85),
        ("The answer is right.\n\n85/100", 85),
        ("85\n\n70", None),
        ("Out of 100, I would say 85.", 85),
        ("I'd say 85 out of 100 and 17 out of 20.", 85),
        ("I'd say 85 out of 100, or 16 out of 20.", None),
        ("得分\uff1a85。它说对了3条河中的2条", 85),
        ("评分为 85/100", 85),
        ("Score: **85**\n\n> 3/5", 85),
        ("Score: 1,000", None),
        ("Score: 85.5.", 85.5),
        ("Score: eighty-five", None),
        ("Score:\n85", 85),
        ("Score: N/A", None),
        ("The score for 2024 is 85", 85),
        ("underscore 7", None),
        ("scoreboard: 7 and 8", None),
        ("Rating: 5 stars", 5),
        # the judge answers the question itself
        ("The answer is 14", None),
        ("The answer is 14.", None),
        ("Answer: 14", None),
        ("The correct answer is **14**.", None),
        ("The result is 14 apples.", None),
        ("7 times 2 is 14", None),
        ("7 times 2 gives 14.", None),
        ("7 + 7 = 14", None),
        ("14 apples", None),
        ("14 is right.", None),
        ("So there are 14 of them.", None),
        ("I think the answer is 14.", None),
        ("I would say the answer is 14.", None),
        ("\\boxed{14}", None),
        ("It took 40 minutes.", None),
        ("答案是14", None),
        ("他用3分钟到了", None),
        # the only number is the whole reply, or is said as a judgement
        ("= 85", 85),
        ("-> 85 <-", 85),
        ("[[85]]", 85),
        ("⭐ 85 ⭐", 85),
        ("85 marks", 85),
        ("On a scale from 0 to 100: 85", 85),
        ("I'd say 85.", 85),
        ("I would say about 85, since it is short.", 85),
        ("I give it an 85.", 85),
        ("I'd give this answer a 40.", 40),
        ("I would only award 20.", 20),
        ("It is short, but deserves 85.", 85),
        ("Verdict: 85", 85),
        ("My assessment is 85.", 85),
        ("我给85分", 85),
    ],
)
def test_parse_score_finds_the_score(reply, score):
    assert parse_score(reply) == score


@pytest.mark.parametrize(
    ("reply", "score"),
    [("4", 4), ("4/5", 4), ("Rating: 4 out of 5", 4), ("On a scale of 1-5: 3", 3), ("0", None),
     ("3: part of it is right", 3), ("3: part of it is right\n4: a small flaw", None),
     ("1: it is empty\n2: it is wrong\n3: part of it is right", None),
     ("The answer is 3: part of it is right.", None), ("Score 4: it is right", 4),
     ("6", None), ("8/10", None), ("4 or 5", None), ("either a 4 or a 5", None)],
)  # fmt: skip
def test_parse_score_on_another_scale(reply, score):
    assert parse_score(reply, RUBRIC) == score


@pytest.mark.parametrize(
    "reply",
    [
        '{"score": 85, "score": 10}',
        '{"score": 8',
        '{"feedback": "fine", "score": 8',
        '{"a": 1, "score": 10',
    ],
)
def test_an_object_that_contradicts_itself_or_is_cut_within_its_score_has_none(reply):
    assert parse_score(reply) is None


def test_an_object_that_repeats_its_score_has_one():
    assert parse_score('{"score": 85, "score": 85}') == 85
    assert parse_score('{"score": 85') == 85, "no digit can follow"


@pytest.mark.parametrize(
    ("reply", "score"),
    [
        ('{"score": 4}', 4),
        ('{"feedback": "I would score it 2, or 3/5.", "score": 4}', 4),
        ('{"feedback": "Score: 2", "score": "4"}', 4),
        ('{"feedback": "He says \\"Score: 2\\".", "score": "4/5"}', 4),
        ('```json\n{"feedback": "2 is wrong", "score": 4}\n```', 4),
        ('My evaluation:\n{"feedback": "2 of 5", "score": 4}\nScore: 5 would be too much.', 4),
        ('[{"feedback": "Score: 2", "score": 4}]', 4),
        ('{"feedback": "The answer is 3.", "score": 4.0}', 4),
        ('{"feedback": "Score: 3", "rating": 4}', 4),
        ('{"rating": 4, "style_score": 4}', 4),
        ('{"rating": 4, "style_score": 5}', None),
        ('Score: 4. The answer {"a": "Score: 3"} is JSON.', None),
        ('Score: 4. The answer {"a": "x"} is JSON.', 4),
        ('{"score": 4}\n{"score": 2}', None),
        ('{"feedback": "x", "score": 4}\n{"feedback": "{\\"score\\": 2}", "score": 4}', 4),
        ('{"feedback": "Score: 3", "score": 6}', None),
        ('{"feedback": "Score: 3", "score": -4}', None),
        ('{"feedback": "Score: 3", "score": "4 or 5"}', None),
        ('{"feedback": "Score: 3", "score": "good"}', None),
        ('{"feedback": "Score: 3", "score": true}', None),
        ('{"feedback": "Score: 3", "score": null}', None),
        ('{"feedback": "Score: 3", "score": [4]}', None),
        ('{"feedback": "Score: 3"}', None),
        ('{"feedback": "Score: 3 for', None),
        ('{"feedback": "I would say 3', None),
        ('{"feedback": "Score: 3", "score": 4', 4),
        ('{"score": 4, "feedback": "not 3', 4),
        ('{"score": NaN}', None),
        ('{"score": Infinity}', None),
        ('{"score": 1e0}', 1),
        ("{" * 3, None),
        ('{"a":' * 3000, None),
        ("{} Score: 4", 4),
        ('{"feedback": "Score: 3"} Score: 4', 4),
    ],
)
def test_the_score_of_a_json_object(reply, score):
    """Numbers in its feedback are none."""
    assert parse_score(reply, RUBRIC) == score


@settings(max_examples=60)
@given(st.text(max_size=30), st.integers(1, 5), st.sampled_from([None, 2]))
def test_a_reply_that_follows_the_schema_has_its_score(feedback, score, indent):
    reply = json.dumps({"feedback": feedback, "score": score}, indent=indent)
    assert parse_score(reply, RUBRIC) == score
    assert parse_score(f"```json\n{reply}\n```", RUBRIC) == score
    assert list(RUBRIC.schema["properties"]) == RUBRIC.schema["required"] == ["feedback", "score"]
    assert HUNDRED.schema["required"] == ["score"]


@settings(deadline=None, max_examples=50)
@given(st.text(max_size=40))
def test_a_parsed_score_is_always_on_the_scale(reply):
    for scale in (HUNDRED, RUBRIC):
        score = parse_score(reply, scale)
        assert score is None or scale.low <= score <= scale.high


@settings(max_examples=30)
@given(st.integers(0, 100), st.sampled_from(["{}", " {}\n", "Score: {}", "**{}/100**", "({})"]))
def test_every_score_is_parsed_in_every_form(score, form):
    assert parse_score(form.format(score)) == score


# --- judging ------------------------------------------------------------------------------------


def test_the_prompt_has_task_input_reference_and_answer(entries):
    for scale in (HUNDRED, RUBRIC):
        prompt = judge_prompt(entries[1], " 6\n", scale)
        for part in ("Add the numbers.", "2 and 3", "answer, which is right:\n5\n", "\n6\n"):
            assert part in prompt
        assert str(scale.high) in scale.question and prompt.endswith(scale.question)
    prompt = judge_prompt(entries[0], " ")
    assert "works on" not in prompt and "[it is empty]" in prompt
    odd = {**entries[0], "instruction": "What is {this}?"}
    assert "What is {this}?" in judge_prompt(odd, "{} %s")


def test_failures_are_counted_and_empty_answers_are_judged(entries):
    prompts = []
    replies = iter(["100", "no idea", "20"])

    def answer(prompt):
        prompts.append(prompt)
        return next(replies)

    answers = ["Red", "", "warm"]
    judgement = judge(scripted(answer), entries, answers)
    assert len(prompts) == 3 and "[it is empty]" in prompts[1]
    assert judgement.scores == [100, None, 20] and judgement.replies[1] == "no idea"
    summary = summarise(judgement, entries, answers)
    assert (summary["n"], summary["n_judged"], summary["n_parsed"]) == (3, 3, 2)
    assert summary["mean_parsed"] == 60 and summary["mean_all"] == 40 and summary["error"] is None
    assert summary["agreement"]["exact_match"] == {"spearman": 1.0, "kendall": 1.0}
    rubric = summarise(judge(scripted(["5", "?", "1"]), entries, answers, RUBRIC), entries, answers)
    assert rubric["mean_parsed"] == 3 and rubric["mean_all"] == pytest.approx(7 / 3)


def test_scores_are_kept_when_the_judge_fails(entries):
    complete = scripted(["90", CompletionError("it is gone")])
    judgement = judge(complete, entries, ["Red", "5", "cold"])
    summary = summarise(judgement, entries, ["Red", "5", "cold"])
    assert judgement.scores == [90] and summary["error"] == "it is gone"
    assert (summary["n"], summary["n_judged"], summary["mean_all"]) == (3, 1, 90)
    assert summary["agreement"]["rouge_l"] == {"spearman": None, "kendall": None}
    nothing = summarise(judge(scripted([]), entries, [""] * 3), entries, [""] * 3)
    assert nothing["mean_parsed"] is nothing["mean_all"] is None
    assert next(judging.judgement_lines(nothing)).endswith("0 of 3 answers judged, 0 scored")


def test_requests_have_temperature_0_and_a_seed(entries):
    with serving((200, ollama("9", "", "0"))) as stub:
        complete = open_backend(stub.url, "llama3", kind="ollama", raw=False)
        assert judge(complete, entries[:1], ["Red"]).scores == [90]
    ((path, _, body),) = stub.asked
    assert path == "/api/chat" and body["model"] == "llama3"
    assert body["options"] == {"num_predict": 1024, "temperature": 0.0, "seed": 123}
    prompt = judge_prompt(entries[0], "Red", as_json=True)
    assert body["messages"] == [{"role": "user", "content": prompt}]


# --- JSON ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["openai", "ollama"])
@pytest.mark.parametrize("scale", [HUNDRED, RUBRIC])
def test_a_server_is_asked_for_json(kind, scale, entries):
    """In words and by a schema, whose keys are in the order in which they should be written."""
    wrap = {"openai": openai, "ollama": ollama}[kind]
    reply = json.dumps({"feedback": "Not 3, since 2 of 2 words are right.", "score": 5})
    with serving(*[(200, wrap(reply))] * 2) as stub:
        judgement = judge(
            open_backend(stub.url, "m", kind=kind, raw=False), entries[:2], ["Red", "5"], scale
        )
    assert judgement.scores == [5, 5]
    for (_, _, body), entry, answer in zip(stub.asked, entries, ["Red", "5"], strict=False):
        (message,) = body["messages"]
        assert message["content"] == judge_prompt(entry, answer, scale, as_json=True)
        assert "JSON" in message["content"] and '"score"' in message["content"]
        asked = body["format"] if kind == "ollama" else body["response_format"]["json_schema"]
        schema = asked if kind == "ollama" else asked["schema"]
        assert schema == scale.schema and list(schema["properties"]) == schema["required"]


NOT_IN_OLLAMA_0_4 = "json: cannot unmarshal object into Go struct field .format of type string"
SCHEMA_REFUSED = "response_format: Extra inputs are not permitted"


@pytest.mark.parametrize(
    ("kind", "refusals", "formats"),
    [
        ("openai", [SCHEMA_REFUSED, SCHEMA_REFUSED], ["json_schema", "json_object", None, None]),
        ("openai", [SCHEMA_REFUSED], ["json_schema", "json_object", "json_object"]),
        (
            "ollama",
            [NOT_IN_OLLAMA_0_4],
            ["object", None, None],
        ),
    ],
)
def test_a_server_that_takes_no_schema_is_asked_in_words_from_then_on(
    kind, refusals, formats, entries
):
    wrap = {"openai": openai, "ollama": ollama}[kind]
    told = []
    refused = [(400, json.dumps({"error": message})) for message in refusals]
    with serving(*refused, (200, wrap("80"))) as stub:
        complete = open_backend(stub.url, "m", kind=kind, raw=False, report=told.append)
        judgement = judge(complete, entries[:2], ["Red", "5"])
    assert judgement.scores == [80, 80] and judgement.error is None
    bodies = [body for _, _, body in stub.asked]
    field = "format" if kind == "ollama" else "response_format"
    assert [body.get(field, {}).get("type") for body in bodies] == formats
    for body, as_json in zip(bodies, formats, strict=True):
        prompt = body["messages"][0]["content"]
        assert prompt.endswith(HUNDRED.json_question if as_json else HUNDRED.question)
    assert len(told) == len(refusals) and all(f"refused {field};" in line for line in told)


def test_a_server_that_does_not_say_what_it_refused_is_asked_in_words(entries):
    """For each answer again, since it may have been the prompt."""
    refused = (400, "Bad Request")
    with serving(refused, (200, openai("80")), refused, (200, openai("70"))) as stub:
        judgement = judge(open_backend(stub.url, "m", raw=False), entries[:2], ["Red", "5"])
    assert judgement.scores == [80, 70]
    assert ["response_format" in body for _, _, body in stub.asked] == [True, False] * 2


def test_a_refusal_without_a_schema_ends_the_judging(entries):
    refusals = [(400, json.dumps({"error": SCHEMA_REFUSED}))] * 2
    with serving(*refusals, (400, json.dumps({"error": "too long"}))) as stub:
        judgement = judge(open_backend(stub.url, "m", raw=False), entries, ["a", "b", "c"])
    assert judgement.scores == [] and "too long" in judgement.error and len(stub.asked) == 3


def test_a_local_model_is_asked_in_words(small_run, entries):
    """So is a script. Each could write JSON, but nothing binds it to."""
    prompts = []

    def answer(prompt):
        prompts.append(prompt)
        return "60"

    assert judge(scripted(answer), entries, ["a", "b", "c"]).scores == [60] * 3
    assert all(prompt.endswith(HUNDRED.question) for prompt in prompts) and len(prompts) == 3
    with pytest.raises(SchemaUnsupported, match="ask without one"):
        open_backend(str(small_run), raw=False)("Hello", schema=HUNDRED.schema)


words = st.lists(st.sampled_from(["red", "blue", "12"]), max_size=6).map(" ".join)


@settings(max_examples=30)
@given(words, words)
def test_the_metrics_are_symmetric_and_bounded(a, b):
    for scorer in (token_f1, rouge_l):
        assert scorer(a, b) == pytest.approx(scorer(b, a)) and 0 <= scorer(a, b) <= 1
        assert scorer(a, a) == 1


def test_rank_correlations_need_two_lists_of_finite_numbers():
    for measure in (spearman, kendall):
        assert measure([1, 2, 3], [5, 6, 9]) == 1 and measure([1, 2, 3], [9, 6, 5]) == -1
        assert measure([1, 1], [1, 2]) is measure([], []) is measure([3], [4]) is None
        with pytest.raises(ValueError, match="of the same length"):
            measure([1, 2], [1])
        with pytest.raises(ValueError, match="NaN or infinite"):
            measure([1, float("nan")], [1, 2])


# --- the command --------------------------------------------------------------------------------


@pytest.fixture
def small_run(tmp_path):
    import torch

    from ch07.data.prompt_styles import BOOK_STYLE
    from gpt_model import GPTModel

    shape = {"context_length": 128, "emb_dim": 16, "n_heads": 2, "n_layers": 1}
    folder = tmp_path / "run"
    folder.mkdir()
    model = GPTModel(shape, torch.Generator().manual_seed(0))
    config = {"options": {}, "settings": {}, "facts": {}, "model": vars(model.config)}
    run_folder.save_config(folder, {**config, "prompt_style": vars(BOOK_STYLE)})
    save_model(folder, model)
    return folder


@pytest.fixture
def command(small_run, tmp_path, entries):
    data = tmp_path / "data.json"
    data.write_text(json.dumps(entries), encoding="utf-8")
    return ["evaluate", str(small_run), "--data", str(data), "--max-new-tokens", "2"]


def test_the_command_prints_judge_and_metrics(command, tmp_path, capsys):
    script = tmp_path / "replies.json"
    script.write_text('["10", "Score: 20", "?"]', encoding="utf-8")
    assert main([*command, "--judge", f"scripted:{script}"]) == 0
    output = capsys.readouterr().out
    assert "exact match" in output and "3 of 3 answers judged, 2 scored" in output
    assert "mean score 15.00; 10.00 if every failure counts as the lowest score" in output
    assert main([*command, "--judge", f"scripted:{script}", "--json"]) == 0
    scores = json.loads(capsys.readouterr().out)
    assert scores["n"] == 3 and scores["judge"]["scores"] == [10, 20, None]
    assert set(scores["judge"]["agreement"]) == {"exact_match", "token_f1", "rouge_l"}
    assert main([*command, "--json"]) == 0 and "judge" not in json.loads(capsys.readouterr().out)


def test_a_server_failure_midway_keeps_the_scores(command, capsys):
    with serving((200, openai("70")), (401, "")) as stub:
        assert main([*command, "--judge", stub.url, "--judge-model", "m"]) == 1
    captured = capsys.readouterr()
    assert "1 of 3 answers judged, 1 scored" in captured.out and "mean score 70.00" in captured.out
    assert "the judge stopped after 1 answer: 127.0.0.1" in captured.err
    with serving((200, openai("70")), (401, "")) as stub:
        assert main([*command, "--judge", stub.url, "--judge-model", "m", "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["judge"]["scores"] == [70]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--judge", "http://127.0.0.1:9/"], 2, "needs --judge-model"),
        (["--judge", "http://x.org/", "--judge-model", "m"], 2, "use https"),
        (["--judge-model", "m"], 2, "it needs --judge ADDRESS"),
        (["--judge", "nowhere"], 1, "nowhere is not a run folder"),
        (["--judge", "scripted:none.json"], 1, "none.json: No such file"),
        (["--judge", "x", "--losses"], 2, "not allowed with argument"),
    ],
)
def test_an_unusable_judge_is_one_line(arguments, code, message, command, capsys):
    try:
        assert main([*command, *arguments]) == code
    except SystemExit as caught:
        assert caught.code == code
    captured = capsys.readouterr()
    assert message.replace("it needs --judge", "needs --judge") in captured.err and not captured.out


def test_a_fault_of_the_program_does_not_end_as_a_remark():
    def broken(prompt, **options):
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="shapes"):
        judge(broken, [{"instruction": "Say it.", "output": "x"}], ["x"])


def test_replies_that_reached_the_limit_are_counted_and_told():
    """A model that reasons may use all its tokens before it writes a number."""
    replies = [Completion("<think>maybe 20", "length"), Completion("85", "length")]
    entries = [{"instruction": "a", "output": "b"}] * 2
    judgement = judge(lambda prompt, **options: replies.pop(0), entries, ["x", "y"])
    summary = summarise(judgement, entries, ["x", "y"])
    assert (summary["n_parsed"], summary["n_cut"]) == (1, 1)
    lines = list(judgement_lines(summary))
    assert "replies that reached the limit of tokens without a score: 1" in lines
