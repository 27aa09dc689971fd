"""The commands `magpie` and `reflect`: what is kept, what is told, and how they go on."""

import json
import traceback

import pytest
from command_lines import with_options
from completion_server import ollama, openai, serving

from ch07.commands.cli import main
from ch07.data.entries import load_entries
from ch07.data.prompt_styles import STYLES
from ch07.generation.completion import Completion, CompletionError, PromptTooLong, scripted
from ch07.models.saved_run import load_run
from ch07.systems.synthetic_data.magpie import LLAMA_3, input_query, magpie_queries
from ch07.systems.synthetic_data.reflection import CRITIC


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(monkeypatch):
    """A power cut isn't tested here, and a hundred flushes take seconds."""
    monkeypatch.setattr("os.fsync", lambda handle: None)


def script(tmp_path, *answers):
    path = tmp_path / "script.json"
    path.write_text(json.dumps(answers), encoding="utf-8")
    return f"scripted:{path}"


def lines(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


# --- magpie -------------------------------------------------------------------------------------

TOLD = ["Why is the sea salty?\nMore", "Rivers carry salt.", "", "Why is the sea so salty?", "?!",
        {"text": "Half of a", "finish_reason": "length"}, "Name four rivers of Asia.", "",
        "Count to three.", "1 2 3"]  # fmt: skip


def magpie(tmp_path, *more, answers=TOLD):
    backend = script(tmp_path, *answers)
    return ["magpie", "--backend", backend, "--out", str(tmp_path / "new.jsonl"), *more]


def test_what_users_would_ask_is_kept_and_the_rest_is_told(tmp_path, capsys):
    assert main(magpie(tmp_path, "--number", "2")) == 0
    one, two = lines(tmp_path / "new.jsonl")
    name = magpie(tmp_path)[2]
    assert one == {
        "instruction": "Why is the sea salty?",
        "input": "",
        "output": "Rivers carry salt.",
        "backend": name,
        "request": 0,
    }
    assert (two["instruction"], two["output"], two["request"]) == ("Count to three.", "1 2 3", 6)
    assert two["nearest"] == one["instruction"] and two["score"] == 0
    shown = capsys.readouterr()
    assert "7 requests: 2 rows kept, 5 rejected" in shown.out
    for reason in ("empty", "cut off", "too near to another", "no words", "no answer"):
        assert f"1  {reason}" in shown.out
    assert "too near (0.91): Why is the sea so salty?" in shown.out
    assert "too near (0.00)" not in shown.out, "what has no words is near nothing"
    assert len(load_entries(tmp_path / "new.jsonl")) == 2, "can be trained on"


def test_stopped_after_any_request_magpie_ends_with_the_same_file(tmp_path, capsys):
    names = ("new.jsonl", "new.requests.jsonl")
    whole = tmp_path / "whole"
    for k in range(len(TOLD) + 1):
        folder = whole if k == len(TOLD) else tmp_path / str(k)
        folder.mkdir()
        # the same name for the script, since the file says who wrote it
        command = magpie(tmp_path, "--number", "2", answers=TOLD[:k])
        command = with_options(command, "--out", str(folder / "new.jsonl"))
        assert main(command) == (0 if k == len(TOLD) else 1)
        if k < len(TOLD):
            assert "the script has no more answers" in capsys.readouterr().err
    magpie(tmp_path)  # all answers
    for k in range(len(TOLD)):
        folder = tmp_path / str(k)
        command = magpie(tmp_path, "--number", "2")
        command = with_options(command, "--out", str(folder / "new.jsonl"))
        assert main(command) == 0, k
        for name in names:
            assert (folder / name).read_bytes() == (whole / name).read_bytes(), k


@pytest.mark.parametrize("template", [None, "llama-3", *STYLES])
def test_the_template_is_what_is_sent(tmp_path, template):
    """Raw: Ollama is told not to wrap it once more."""
    before, after = LLAMA_3 if template in (None, "llama-3") else magpie_queries(STYLES[template])
    between = None if template in (None, "llama-3") else input_query(STYLES[template])
    asked_for = "Why?\n" if between is None else f"Why?{between}a, b{after}So."
    answers = [(200, ollama(text, raw=True)) for text in (asked_for, "So.")]
    with serving(*answers) as stub:
        more = [] if template is None else ["--template", template]
        command = ["magpie", "--backend", stub.url, "--model", "m", "--kind", "ollama", *more]
        assert main([*command, "--number", "1", "--out", str(tmp_path / "new.jsonl")]) == 0
    first, second = (body for _, _, body in stub.asked)
    assert first["raw"] is True and first["prompt"] == before
    given = "" if between is None else f"{between}a, b"
    assert second["prompt"] == before + "Why?" + given + after
    stop = "\n" if between is None else after.rstrip()
    assert first["options"]["temperature"] == 1.0 and first["options"]["stop"] == [stop]
    (row,) = lines(tmp_path / "new.jsonl")
    assert (row["input"], row["output"]) == ("" if between is None else "a, b", "So.")
    assert first["options"]["seed"] == second["options"]["seed"] == 123


def test_a_run_is_asked_with_its_own_template(run, tmp_path, capsys, monkeypatch):
    folder = run
    asked = []
    backend = "ch07.commands.generate_data.open_backend"
    monkeypatch.setattr(backend, lambda *given, **how: _noting(asked, how))
    command = ["magpie", "--backend", str(folder), "--out", str(tmp_path / "new.jsonl")]
    assert main([*command, "--number", "1"]) == 0
    before, after = magpie_queries(load_run(folder).style)
    assert asked[0] == before and asked[1] == f"{before}Why?{after}"


def _noting(asked, how):
    assert how["raw"] is True
    return scripted(lambda prompt: asked.append(prompt) or "Why?")


@pytest.mark.parametrize("command", ["magpie", "self-instruct", "reflect"])
def test_each_request_is_drawn_as_it_was_told_with_a_seed_of_its_own(
    tmp_path, monkeypatch, command
):
    """With one seed for all, a model would say the same again and again."""
    asked = []

    def complete(prompt, **how):
        asked.append(how)
        return Completion("")

    monkeypatch.setattr("ch07.commands.generate_data.open_backend", lambda *given, **how: complete)
    data = tmp_path / "old.json"
    data.write_text(json.dumps(ROWS[::2]), encoding="utf-8")
    out = str(tmp_path / "new.jsonl")
    how = [str(data), out] if command == "reflect" else ["--out", out, "--patience", "2"]
    how += ["--backend", "scripted:x", "--seed", "7"]
    code = 0 if command == "reflect" else 1
    assert main([command, *how]) == code
    assert [one["seed"] for one in asked] == [7, 8]
    assert {one["temperature"] for one in asked} == {0.0 if command == "reflect" else 1.0}
    for name in ("new.jsonl", "new.requests.jsonl"):
        (tmp_path / name).unlink()
    more = ["--temperature", "0.3", "--top-p", "0.9", "--max-new-tokens", "17"]
    assert main([command, *how, *more]) == code
    told = {"temperature": 0.3, "top_p": 0.9, "max_new_tokens": 17, "seed": 8}
    assert told.items() <= asked[-1].items()


def test_a_run_on_disk_is_really_asked(run, tmp_path, capsys):
    command = ["magpie", "--backend", str(run), "--out", str(tmp_path / "new.jsonl")]
    code = main([*command, "--number", "1", "--patience", "2", "--max-new-tokens", "4"])
    assert code in (0, 1)
    shown = capsys.readouterr()
    assert ("1 row kept" in shown.out) == (code == 0) != ("Given up" in shown.out)


def test_a_question_that_leaves_no_room_for_its_answer_is_told(tmp_path, monkeypatch, capsys):
    """It would come again with the same seed, and the file could never go on."""
    answers = iter(["Why?\n", PromptTooLong("a prompt of 300 tokens"), "How?\n", "So."])

    def complete(prompt, **how):
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return Completion(answer)

    monkeypatch.setattr("ch07.commands.generate_data.open_backend", lambda *given, **how: complete)
    assert main(magpie(tmp_path, "--number", "1")) == 0
    assert "1  too long for the model" in capsys.readouterr().out
    assert [row["instruction"] for row in lines(tmp_path / "new.jsonl")] == ["How?"]


def test_a_run_that_never_learned_to_ask_is_told(run, tmp_path, capsys):
    command = ["magpie", "--backend", str(run), "--out", str(tmp_path / "new.jsonl")]
    main([*command, "--number", "1", "--patience", "1", "--max-new-tokens", "2"])
    assert "was trained on responses only" in capsys.readouterr().err


def test_an_empty_backend_is_wrong_use(tmp_path, capsys):
    for command in (magpie(tmp_path), reflect(tmp_path)):
        command[command.index("--backend") + 1] = ""
        assert main(command) == 2
        assert "the backend is empty" in capsys.readouterr().err


# --- reflect ------------------------------------------------------------------------------------

ROWS = [
    {"instruction": "Name a colour.", "input": "", "output": "Red", "family": "colours"},
    {"output": "three", "instruction": "Count.", "input": "a b c", "request": 7, "before": "x"},
    {"instruction": "Say hello.", "input": "", "output": "Hello"},
]


def reflect(tmp_path, *more, rows=ROWS, answers=()):
    data = tmp_path / "old.json"
    data.write_text(json.dumps(rows), encoding="utf-8")
    backend = script(tmp_path, *answers)
    return ["reflect", str(data), str(tmp_path / "new.jsonl"), "--backend", backend, *more]


BETTER = "Too short. [Better Answer] Red, as a rose is. [End]"


def test_a_better_answer_and_rows_that_stay(tmp_path, capsys):
    answers = [BETTER, "I can't.", {"text": BETTER, "finish_reason": "length"}]
    assert main(reflect(tmp_path, answers=answers)) == 0
    one, two, three = lines(tmp_path / "new.jsonl")
    assert one["output"] == "Red, as a rose is." and one["reflected"] is True
    assert one["before"] == {"output": "Red"} and one["family"] == "colours"
    assert two == {**ROWS[1], "reflected": False, "backend": one["backend"], "request": 1,
                   "before": {"request": 7, "before": "x"}}  # fmt: skip
    assert {name: three[name] for name in ROWS[2]} == ROWS[2] and "before" not in three
    shown = capsys.readouterr()
    assert "1 of 3 rows rewritten" in shown.out
    assert "1  the reply can't be read" in shown.out and "1  cut off" in shown.out
    assert "row 1: rewritten" in shown.err and "row 2: unchanged" in shown.err


def test_rows_that_are_left_out_are_told_and_others_by_their_place(tmp_path, capsys):
    rows = [{"instruction": "Say it.", "output": " "}, {"output": "x"}, ROWS[0]]
    assert main(reflect(tmp_path, rows=rows, answers=[BETTER])) == 1
    assert "row 2" in capsys.readouterr().err and not (tmp_path / "new.jsonl").exists()
    assert main(reflect(tmp_path, "--skip-bad-rows", rows=rows, answers=[BETTER])) == 0
    shown = capsys.readouterr().err
    assert "row 3: rewritten" in shown and "row 1" in shown and "row 2" in shown


def test_a_better_instruction_where_there_is_no_input(tmp_path, capsys):
    reply = "[New Instruction] Name two colours. [End] [New Answer] Red and blue [End]"
    assert main(reflect(tmp_path, "--what", "instruction", answers=[reply, "no"])) == 0
    one, two, three = lines(tmp_path / "new.jsonl")
    assert (one["instruction"], one["output"]) == ("Name two colours.", "Red and blue")
    assert one["before"] == {"instruction": "Name a colour.", "output": "Red"}
    assert not two["reflected"] and not three["reflected"]
    shown = capsys.readouterr().out
    assert "1  it has an input" in shown and "1  the reply can't be read" in shown


def test_reflecting_goes_on_where_the_server_was_lost(tmp_path, capsys):
    assert main(reflect(tmp_path, "--what", "instruction", answers=[BETTER])) == 1
    shown = capsys.readouterr().err
    assert "has 2 rows: the same command resumes it" in shown and "no more answers" in shown
    assert main(reflect(tmp_path, "--what", "instruction", answers=[BETTER, "no"])) == 0
    assert len(lines(tmp_path / "new.jsonl")) == 3
    again = reflect(tmp_path, "--what", "instruction", "--json")
    assert main(again) == 0, "nothing is left to ask"
    shown = capsys.readouterr().out
    assert "so there is nothing new to train on" in shown and "finetune --data" not in shown
    found = json.loads(shown[shown.index("{") :])
    assert found == {"rows": 3, "reflected": 0,
                     "as before": {"the reply can't be read": 2, "it has an input": 1}}  # fmt: skip


def test_other_rows_than_before_are_refused(tmp_path, capsys):
    assert main(reflect(tmp_path, answers=["no"] * 3)) == 0
    before = (tmp_path / "new.jsonl").read_bytes()
    assert main(reflect(tmp_path, rows=ROWS[:2], answers=["no"] * 3)) == 1
    assert "was started with data_sha256" in capsys.readouterr().err
    assert main(magpie(tmp_path)) == 1
    assert "was started by another command" in capsys.readouterr().err
    assert (tmp_path / "new.jsonl").read_bytes() == before


def test_a_server_hears_the_critic_in_its_system_message(tmp_path):
    with serving((200, ollama(BETTER))) as stub:
        command = reflect(tmp_path, rows=ROWS[:1])
        command[command.index("--backend") + 1] = stub.url
        assert main([*command, "--model", "m", "--kind", "ollama"]) == 0
    system, user = stub.asked[0][2]["messages"]
    assert system == {"role": "system", "content": CRITIC}
    assert "Name a colour." in user["content"] and "Red" in user["content"]


@pytest.mark.parametrize(
    "refusal",
    [(400, '{"error": "maximum context length"}'), (200, openai(None, "content_filter"))],
)
def test_a_row_that_the_server_refuses_stays_and_the_next_is_asked(tmp_path, capsys, refusal):
    answers = [(200, openai(BETTER)), refusal, (200, openai(BETTER))]
    with serving(*answers) as stub:
        command = reflect(tmp_path)
        command[command.index("--backend") + 1] = stub.url
        assert main([*command, "--model", "m"]) == 0
    assert [row["reflected"] for row in lines(tmp_path / "new.jsonl")] == [True, False, True]
    assert "1  refused by the server" in capsys.readouterr().out


def test_a_server_that_refuses_everything_is_no_matter_of_rows(tmp_path, capsys):
    rows = [{**ROWS[0], "instruction": f"Name colour {i}."} for i in range(9)]
    answers = [(200, openai(BETTER))] + [(400, '{"error": "no such option"}')] * 9
    for n_answered, n_rows in ((0, 0), (1, 4)):
        with serving(*answers[1 - n_answered :]) as stub:
            command = reflect(tmp_path, rows=rows)
            command[command.index("--backend") + 1] = stub.url
            assert main([*command, "--model", "m"]) == 1
            assert "no such option" in capsys.readouterr().err
        path = tmp_path / "new.jsonl"
        assert (len(lines(path)) if path.exists() else 0) == n_rows
        for kept in tmp_path.glob("new.*"):
            kept.unlink()


@pytest.mark.parametrize("form", ["{}", "\\u{:04x}", "%{:02x}", "&#{};"])
def test_no_key_that_a_server_echoes_is_kept(tmp_path, capsys, monkeypatch, form):
    """Neither in a log, nor in a row, nor on the terminal, not even with --verbose."""
    key = "sk-very-secret-0123456789"
    monkeypatch.setenv("OPENAI_API_KEY", key)
    echo = key if form == "{}" else "".join(form.format(ord(letter)) for letter in key)
    refused = (400, f'{{"error": {{"message": "Bearer {echo} is refused"}}}}')
    better = (200, openai(BETTER).replace("Red", echo))
    denied = (401, f"<p>Authorization: Bearer {echo}</p>")
    with serving(better, refused, denied) as stub:
        command = reflect(tmp_path)
        command[command.index("--backend") + 1] = stub.url
        with pytest.raises(CompletionError) as caught:
            main([*command, "--model", "m", "--verbose"])
        assert len(stub.asked) == 3
    kept = "".join(path.read_text(encoding="utf-8") for path in tmp_path.rglob("new.*"))
    printed = "".join(capsys.readouterr()) + "".join(traceback.format_exception(caught.value))
    assert "Bearer [key] is refused" in kept and "Bearer [key]" in printed
    for secret in (key, echo):
        assert secret not in kept + printed


def test_an_answer_that_is_all_thought_is_cut_off(tmp_path, capsys):
    with serving((200, openai(None, "length"))) as stub:
        command = reflect(tmp_path, rows=ROWS[:1])
        command[command.index("--backend") + 1] = stub.url
        assert main([*command, "--model", "m"]) == 0
    assert "1  cut off" in capsys.readouterr().out


def test_a_run_is_asked_as_it_was_trained_and_without_a_system_message(run, tmp_path, monkeypatch):
    asked = []

    def continue_prompt(model, prompt, *given, **how):
        asked.append(prompt)
        raise CompletionError("enough")

    monkeypatch.setattr("ch07.generation.backends.continue_prompt", continue_prompt)
    command = reflect(tmp_path, rows=ROWS[:1])
    command[command.index("--backend") + 1] = str(run)
    assert main(command) == 1
    text = load_run(run).tokenizer.decode(asked[0])
    before, after = magpie_queries(load_run(run).style)
    assert text.startswith(before) and text.endswith(after) and "Name a colour." in text


def test_rows_name_the_format_of_the_weights_which_stays_when_resumed(run, tmp_path, capsys):
    command = reflect(tmp_path, rows=ROWS[:1])
    command[command.index("--backend") + 1] = str(run)
    command += ["--max-new-tokens", "4"]
    assert main([*command, "--weights", "int8"]) == 0
    (row,) = lines(tmp_path / "new.jsonl")
    assert row["backend"] == f"{run} int8"
    capsys.readouterr()
    assert main(command) == 1
    assert "was started with backend" in capsys.readouterr().err
    assert main([*command, "--weights", "int8", "--device", "nowhere"]) == 1
    assert "device 'nowhere' can't be used here" in capsys.readouterr().err


def test_a_run_is_asked_and_a_row_too_long_for_it_stays(run, tmp_path, capsys):
    rows = [{"instruction": "Say it. " * 900, "input": "", "output": "It"}]
    command = reflect(tmp_path, rows=rows)
    command[command.index("--backend") + 1] = str(run)
    assert main(command) == 0
    (row,) = lines(tmp_path / "new.jsonl")
    assert row["output"] == "It" and row["reflected"] is False
    shown = capsys.readouterr().out
    assert "0 of 1 row rewritten" in shown and "1  too long for the model" in shown
