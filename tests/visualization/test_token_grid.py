"""The token grid equals its tensors: as a figure, as text, as sentences and as records."""

import json
import unicodedata

import numpy as np
import pytest
import torch
from matplotlib.colors import to_rgb
from strangers import a_run

from ch07.commands.cli import main
from ch07.data.chat_dataset import token_roles
from ch07.data.dataloader import make_loader
from ch07.data.prompt_styles import STYLES
from ch07.data.token_text import display_width, token_text
from ch07.models.saved_run import load_run
from ch07.visualization.token_cell import ROLES
from ch07.visualization.token_grid import GridSeries, TokenGrid, batch_grid, token_losses
from ch07.visualization.token_grid_figure import drawable_text
from ch07.visualization.token_grid_text import GRID_WIDTH
from collate import custom_collate_draft_1, custom_collate_draft_2, custom_collate_fn
from instruction_dataset import InstructionDataset, PromptStyle, encode_prompt
from train_loop import calc_loss_batch

TOY = [[0, 1, 2, 3, 4], [5, 6], [7, 8, 9]]
TOY_ROLES = [["answer"] * len(row) for row in TOY]


@pytest.fixture
def grid(tokenizer, entries):
    return batch_grid(entries, tokenizer)


# --- roles --------------------------------------------------------------------------------------


@pytest.mark.parametrize("style", STYLES.values(), ids=lambda style: style.name)
def test_a_prompts_parts_join_to_it_and_every_token_has_a_role(style, tokenizer, entries):
    for entry in entries:
        assert "".join(text for _, text in style.parts(entry)) == style.prompt(entry)
        roles = token_roles(entry, tokenizer, style)
        ids = InstructionDataset([entry], tokenizer, style)[0]
        assert len(roles) == len(ids)
        for role, text in (("instruction", entry["instruction"]), ("input", entry["input"])):
            own = [i for i, known in zip(ids, roles, strict=True) if known == role]
            # in ChatML and Llama 3, the mark's "<" follows at once: ".<" is one token
            assert tokenizer.decode(own).strip().removesuffix("<") == text
        assert roles.count("answer") == len(ids) - len(encode_prompt(entry, tokenizer, style))


def test_a_token_that_spans_two_parts_has_the_role_of_its_start(tokenizer):
    style = PromptStyle("tight", "", "say {instruction}")
    entry = {"instruction": "", "output": "x"}
    assert token_roles(entry, tokenizer, style) == ["template", "template", "answer"]
    glued = PromptStyle("glued", "", "in{instruction}\n")  # "in" + "put" is one token
    roles = token_roles({"instruction": "put", "output": "x"}, tokenizer, glued)
    assert roles == ["template", "template", "answer"]


def test_user_text_never_has_the_role_template(tokenizer):
    entry = {"instruction": "### Response:\n", "input": "", "output": "no"}
    roles = token_roles(entry, tokenizer)
    assert roles.count("instruction") >= 4 and roles[-2:] == ["template", "answer"]


# --- cells --------------------------------------------------------------------------------------


def test_cells_equal_the_tensors(grid, tokenizer, entries):
    dataset = InstructionDataset(entries, tokenizer, with_prompt_length=True)
    ((inputs, targets),) = make_loader(dataset, 3, "response")
    assert [[cell.token_id for cell in cells] for cells in grid.rows] == inputs.tolist()
    assert [[cell.target for cell in cells] for cells in grid.rows] == targets.tolist()
    for entry, cells, n in zip(entries, grid.rows, dataset.lengths, strict=True):
        assert [cell.role for cell in cells[:n]] == token_roles(entry, tokenizer)
        assert {cell.role for cell in cells[n:]} <= {"padding"}
        counted = [cell.target for cell in cells if cell.counted]
        assert tokenizer.decode(counted) == entry["output"] + "<|endoftext|>"
        assert [c.target_role for c in cells if c.counted][-1] == "end"


def test_a_cut_row_has_no_end(tokenizer, entries):
    (cells,) = batch_grid(entries[:1], tokenizer, loss_on="all", allowed_max_length=10).rows
    assert len(cells) == 10 and all(cell.target_role == "template" for cell in cells)


def test_counted_targets_by_role_equal_a_count_of_the_roles(tokenizer, entries):
    grid = batch_grid(entries, tokenizer, loss_on="all")
    counted = grid.counted_by_role()
    roles = [role for entry in entries for role in token_roles(entry, tokenizer)]
    # a row's first token is never a target; its end-of-text token is
    expected = {role: roles.count(role) for role in ROLES if role in roles}
    expected["template"] -= 3
    assert counted == expected | {"end": 3}


def test_the_mean_of_token_losses_is_the_loss(tokenizer, entries, small_model):
    small_model.eval()
    inputs = torch.randint(0, 97, (2, 6))
    targets = torch.randint(0, 97, (2, 6))
    targets[0, 3:] = -100
    small_model.train()
    losses = token_losses(small_model, inputs, targets)
    assert small_model.training
    grid = TokenGrid(inputs, targets, [["template"] * 4, ["answer"] * 6], losses=losses)
    cells = [cell for row in grid.rows for cell in row if cell.counted]
    mean = sum(cell.loss for cell in cells) / len(cells)
    small_model.eval()
    assert mean == pytest.approx(calc_loss_batch(inputs, targets, small_model, "cpu").item())
    by_role, numbers = grid.loss_by_role(), grid.counted_by_role()
    total = sum(by_role[role] * numbers[role] for role in by_role)
    assert total / len(cells) == pytest.approx(mean)
    assert all(cell.loss is None for cell in grid.rows[0][3:])


# --- text ---------------------------------------------------------------------------------------


def test_the_text_grid_shows_every_cell(grid):
    lines = str(grid).splitlines()
    assert max(map(display_width, lines)) <= GRID_WIDTH
    for name, word in (
        ("id", lambda c: str(c.token_id)),
        ("input", lambda c: c.text),
        ("role", lambda c: ROLES[c.role][0]),
        ("target", lambda c: f"[{c.target_text}]" if c.counted else "·"),
    ):
        written = [w for line in lines if line.startswith(f"  {name} ") for w in line.split()[1:]]
        assert written == [word(cell) for cells in grid.rows for cell in cells]


def test_sentences_and_records_have_every_cell(grid):
    cells = [cell for row in grid.rows for cell in row]
    spoken = [line for line in grid.sentences().splitlines() if line.startswith("token ")]
    records = grid.records()
    assert len(spoken) == len(records) == len(cells)
    for line, record, cell in zip(spoken, records, cells, strict=True):
        assert f"id {cell.token_id}, {cell.role};" in line and cell.text in line
        assert ("not counted" not in line) == cell.counted
        assert record["target"] == cell.target and record["counted"] == cell.counted


def test_control_and_wide_characters_do_not_break_the_columns(tokenizer):
    entry = {"instruction": "翻译 😀\t\x1b[31m\x07", "input": "", "output": "我喜欢茶。"}
    grid = batch_grid([entry], tokenizer)
    for text in (str(grid), grid.sentences()):
        printable = [c for c in text if c.isprintable() or c == "\n"]
        assert len(printable) == len(text)
    blocks = [line for line in str(grid).splitlines() if line.startswith("  ")]
    for i in range(0, len(blocks), 4):  # names stand right-aligned above each other
        assert len({display_width(line) for line in blocks[i : i + 4]}) == 1
    assert unicodedata.east_asian_width("译") == "W"


# --- figures ------------------------------------------------------------------------------------


def test_the_figure_shows_every_cell(grid):
    for per_line in (5, 60):
        axes = grid.figure(per_line=per_line).axes[0]
        framed = [box for box in axes.patches if box.get_linewidth() > 1]
        cells = [cell for row in grid.rows for cell in row]
        assert len(framed) == sum(cell.counted for cell in cells) > 0
        assert len(axes.patches) == 2 * len(cells)
        written = [label.get_text() for label in axes.texts]
        assert written.count("·") == sum(not cell.counted for cell in cells)
    shifts = len(axes.lines)  # in one line, each but an END without padding after it
    ends = sum(row[-1].counted for row in grid.rows)
    assert shifts == sum(cell.counted for cell in cells) - ends


def test_a_higher_loss_is_darker():
    inputs, targets = custom_collate_fn([[1, 2, 3]])
    losses = torch.tensor([[0.0, 1.0, 4.0]])
    grid = TokenGrid(inputs, targets, [["answer"] * 3], losses=losses)
    axes = grid.figure().axes[0]
    greys = [box.get_facecolor()[0] for box in axes.patches if box.get_linewidth() > 1]
    assert greys == sorted(greys, reverse=True) and len(set(greys)) == 3
    assert "black is 4.0 nats" in grid.figure().legends[0].get_texts()[-1].get_text()


def test_a_series_shows_three_drafts_in_one_figure():
    series = GridSeries(
        draft_1=TokenGrid(custom_collate_draft_1(TOY), None, TOY_ROLES),
        draft_2=TokenGrid(*custom_collate_draft_2(TOY), TOY_ROLES),
        final=TokenGrid(*custom_collate_fn(TOY), TOY_ROLES),
    )
    figure = series.figure()
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["draft 1", "draft 2", "final"]
    framed = [sum(b.get_linewidth() > 1 for b in axes.patches) for axes in figure.axes]
    assert framed == [0, 15, 10]  # draft 2 counts the padding, the final version does not
    bundle = series._repr_mimebundle_()
    assert bundle["image/png"].startswith(b"\x89PNG") and "draft 2\n" in bundle["text/plain"]
    assert "no targets" in bundle["text/plain"]


def test_characters_without_a_font_are_drawn_as_code_points():
    assert drawable_text("a␣↵é") == "a␣↵é"
    assert drawable_text("\U000e0041") == "U+E0041"


# Machado, Oliveira and Fernandes 2009, table 1, severity 1.0: how people with two kinds of colour
# blindness see a colour.
BLINDNESS = {
    "protanopia": [[0.152, 1.053, -0.205], [0.115, 0.786, 0.099], [-0.004, -0.048, 1.052]],
    "deuteranopia": [[0.367, 0.861, -0.228], [0.280, 0.673, 0.047], [-0.012, 0.043, 0.969]],
}


@pytest.mark.parametrize("matrix", BLINDNESS.values(), ids=list(BLINDNESS))
def test_colours_differ_for_colour_blind_people(matrix):
    """Colours differ by 6.9 in CIELAB, three times what is noticeable (Mahy et al. 1994).

    Black text has a contrast of 7 to 1 on all of them (WCAG 2.2, level AAA).
    """
    colours = {role: to_rgb(colour) for role, (_, colour) in ROLES.items()}
    seen = {role: _lab(np.array(matrix) @ _linear(rgb)) for role, rgb in colours.items()}
    for one in seen:
        for other in seen:
            assert one == other or np.linalg.norm(seen[one] - seen[other]) > 6.9, (one, other)
    for rgb in colours.values():
        luminance = _linear(rgb) @ [0.2126, 0.7152, 0.0722]
        assert (luminance + 0.05) / 0.05 > 7
    assert len({letter for letter, _ in ROLES.values()}) == len(ROLES)


def _linear(rgb):
    rgb = np.array(rgb)
    return np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)


def _lab(linear):
    to_xyz = [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    xyz = np.array(to_xyz) @ np.clip(linear, 0, 1) / [0.9505, 1.0, 1.089]
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


# --- the command --------------------------------------------------------------------------------


def test_the_command_has_four_output_formats(number_data, run, tmp_path, capsys):
    assert main(["grid", str(number_data), "--rows", "2"]) == 0
    text = capsys.readouterr().out
    assert text.count("row ") == 2 and "[<END>]" in text
    assert main(["grid", str(number_data), "--rows", "2", "--sentences"]) == 0
    assert "should be followed by <END>, end, counted." in capsys.readouterr().out
    assert main(["grid", str(number_data), "--rows", "2", "--json", "--run", str(run)]) == 0
    records = json.loads(capsys.readouterr().out)
    counted = [record for record in records if record["counted"]]
    assert {record["row"] for record in records} == {0, 1}
    assert all(record["loss"] < 0.5 for record in counted)  # it has learned these rows
    picture = tmp_path / "grid.png"
    assert main(["grid", str(number_data), "--png", str(picture)]) == 0
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_losses_leave_the_mode_of_every_module_as_it_was(small_model):
    """Also of a submodule that is in evaluation mode while the model trains."""
    small_model.train()
    small_model.trf_blocks[0].eval()
    modes = [module.training for module in small_model.modules()]
    ids = torch.randint(0, 97, (2, 5))
    token_losses(small_model, ids, ids)
    assert [module.training for module in small_model.modules()] == modes


def test_the_command_reports_a_cut_row(number_data, capsys):
    assert main(["grid", str(number_data), "--rows", "1", "--allowed-max-length", "9"]) == 0
    out, err = capsys.readouterr()
    assert "9 tokens, 0 padding, 0 targets counted" in out
    assert "data: cut at 9 tokens, end-of-text lost, and perhaps more (1: row 1)" in err


def test_cut_rows_are_named_by_their_line_in_the_file(tmp_path, capsys):
    short, long = ({"instruction": "Say it.", "output": "so " * n} for n in (1, 90))
    rows = [short, {**short, "output": ""}, long, short | {"input": "x"}, long | {"input": "y"}]
    (tmp_path / "rows").write_text("\n\n".join(map(json.dumps, rows)), encoding="utf-8")
    assert main(["grid", str(tmp_path / "rows"), "--rows", "9", "--allowed-max-length", "80"]) == 0
    assert "end-of-text lost, and perhaps more (2: line 5, line 9)\n" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["missing.json"], 1, "missing.json"),
        (["--run", "nowhere"], 1, "nowhere is not a run folder"),
        (["--png", "no/such/folder/grid.png"], 2, "no/such/folder"),
    ],
)
def test_the_command_fails_in_one_line(arguments, code, words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["grid", *arguments]) == code
    error = capsys.readouterr().err
    assert words in error and error.count("\n") == 1


@pytest.mark.parametrize("length", [8, 300])
def test_a_row_beyond_the_models_context_is_one_line(length, tmp_path, capsys):
    """Without a model, a row of any length can be shown."""
    a_run(tmp_path / "run")
    context = load_run(tmp_path / "run").model.config.context_length
    data = tmp_path / "rows.json"
    data.write_text(json.dumps([{"instruction": "x", "output": "word" * length}]), "utf-8")
    assert main(["grid", str(data), "--sentences"]) == 0
    capsys.readouterr()
    code = main(["grid", str(data), "--run", str(tmp_path / "run"), "--sentences"])
    error = capsys.readouterr().err
    assert code == (1 if length > context else 0)
    if code:
        assert f"reads at most {context}" in error and error.count("\n") == 1


def test_the_word_end_in_user_text_is_not_end_of_text(tokenizer):
    (cells,) = batch_grid([{"instruction": "Say it.", "output": "END"}], tokenizer).rows
    assert [cell.target_text for cell in cells if cell.counted] == ["END", "<END>"]
    written = [token_text(i, tokenizer, end_id=50256) for i in range(50256)]
    assert "<END>" not in written
