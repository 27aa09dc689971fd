"""Weights in 16 and 8 bits: whole-number products that are exact, tokens that don't mix."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from ch07.commands.argument_types import WEIGHT_FORMATS
from ch07.commands.cli import main
from ch07.generation.decoding import generate
from ch07.models import quantization
from ch07.models.prefix_tuning import PrefixEncoder, PrefixTuned
from ch07.models.quantization import (
    QUANTIZED_LAYERS,
    Float16Linear,
    Int8Linear,
    bytes_per_token,
    largest_magnitude,
    linear_layers,
    quantize_layers,
    quantize_rows,
    rounding_error,
)
from gpt_model import GPTModel

SIZE = {"emb_dim": 32, "n_heads": 2, "n_layers": 2, "context_length": 64, "vocab_size": 99}
SMALL_FORMATS = list(QUANTIZED_LAYERS)


def new_model(**changes):
    model = GPTModel({**SIZE, **changes}, torch.Generator().manual_seed(0)).eval()
    with torch.no_grad():
        model.pos_emb.weight.mul_(40)  # so that it doesn't repeat one token
    return model


def linear(n_in, n_out, seed=0, bias=True):
    layer = nn.Linear(n_in, n_out, bias=bias)
    torch.nn.init.normal_(layer.weight, generator=torch.Generator().manual_seed(seed))
    return layer


@pytest.fixture(params=[True, False], ids=["packed", "plain"])
def kernels(request, monkeypatch):
    """With PyTorch's packed kernels, and as on a processor that has none."""
    if request.param and not quantization.has_packed_kernels():
        pytest.skip("this processor has no packed kernels")
    monkeypatch.setattr(quantization, "has_packed_kernels", lambda: request.param)


# --- the rounding -------------------------------------------------------------------------------


@settings(deadline=None)
@given(st.integers(1, 9), st.integers(1, 70), st.floats(1e-6, 1e6), st.integers(0, 10**6))
def test_a_row_is_rounded_by_at_most_half_a_step(n_rows, n_columns, size, seed):
    weight = size * torch.randn(n_rows, n_columns, generator=torch.Generator().manual_seed(seed))
    values, scales = quantize_rows(weight)
    step = weight.abs().amax(1, keepdim=True) / 127
    assert ((values * scales[:, None] - weight).abs() <= 0.5001 * step).all()
    assert (values.abs().amax(1) == 127).all()  # the largest weight of a row uses the whole range


@pytest.mark.parametrize("shape", [(1, 1, 768), (3, 5, 7), (0, 8), (4, 1)])
def test_the_largest_magnitude_is_the_infinity_norm(shape):
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    norm = torch.linalg.vector_norm(x, torch.inf, dim=-1, keepdim=True)
    assert torch.equal(largest_magnitude(x), norm)
    x[..., 0] = torch.nan
    assert torch.isnan(largest_magnitude(x)).all()


def test_a_row_of_zeros_stays_zero():
    values, scales = quantize_rows(torch.zeros(2, 3))
    assert not values.any() and torch.isfinite(scales).all()
    layer = nn.Linear(3, 2)
    nn.init.zeros_(layer.weight)
    for quantized in (Int8Linear(layer), Float16Linear(layer)):
        assert torch.equal(quantized(torch.ones(1, 3)), layer.bias[None])


def test_the_error_of_int8_is_that_of_its_step_and_float16_has_less():
    weight = linear(512, 64).weight.detach()
    steps = weight.abs().amax(1) / 127  # rounding errors are uniform: their variance is step^2 / 12
    expected = (512 * (steps**2).sum() / 12).sqrt() / weight.norm()
    assert rounding_error(weight, "int8") == pytest.approx(float(expected), rel=0.05)
    assert 0 < rounding_error(weight, "float16") < 2**-11
    assert rounding_error(weight, "float32") == 0


# --- one layer ----------------------------------------------------------------------------------


def exact_int8(layer, x):
    """The definition, with whole numbers of 64 bits and the rest in float64."""
    values, scales = quantize_rows(layer.weight.detach())
    largest = x.abs().amax(-1, keepdim=True).clamp(min=1e-30)
    rounded = (x / largest * 63).round().long()
    y = (rounded @ values.long().T).double() * (scales.double() / 63) * largest.double()
    return y if layer.bias is None else y + layer.bias.double()


@pytest.mark.parametrize("shape", [(1, 1, 64), (2, 7, 64), (33, 64), (1, 3072)])
@pytest.mark.parametrize("bias", [True, False])
@torch.inference_mode()
def test_the_product_of_whole_numbers_is_exact(kernels, shape, bias):
    layer = linear(shape[-1], 50, bias=bias)
    x = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    expected = exact_int8(layer, x)
    difference = (Int8Linear(layer)(x) - expected).abs().max()
    assert difference <= 1e-6 * expected.abs().max()


@torch.inference_mode()
def test_the_largest_possible_sums_do_not_overflow(kernels):
    layer = nn.Linear(3072, 4, bias=False)
    layer.weight.copy_(torch.tensor([[1.0], [-1.0], [1.0], [-1.0]]).expand(4, 3072))
    x = torch.ones(2, 3072) * torch.tensor([[5.0], [-5.0]])
    expected = 5 * 3072 * torch.tensor([[1.0, -1, 1, -1], [-1, 1, -1, 1]])
    torch.testing.assert_close(Int8Linear(layer)(x), expected, rtol=1e-6, atol=0)


@torch.inference_mode()
def test_float16_rounds_the_weights_alone(kernels):
    layer = linear(64, 50)
    x = torch.randn(2, 7, 64)
    expected = nn.functional.linear(x, layer.weight.half().float(), layer.bias)
    torch.testing.assert_close(Float16Linear(layer)(x), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("number_format", SMALL_FORMATS)
@torch.inference_mode()
def test_a_token_does_not_depend_on_its_batch(kernels, number_format):
    layer = QUANTIZED_LAYERS[number_format](linear(64, 50, bias=False))
    x = torch.randn(9, 64) * torch.logspace(-3, 3, 9)[:, None]  # small and large ones together
    alone = torch.cat([layer(row) for row in x.split(1)])
    difference = (layer(x) - alone).abs().amax(1)
    assert (difference <= 1e-6 * alone.abs().amax(1)).all()


@pytest.mark.parametrize("number_format", SMALL_FORMATS)
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@torch.inference_mode()
def test_what_is_not_finite_stays_visible(kernels, number_format, value):
    x = torch.randn(3, 64)
    x[1, 5] = value
    finite = QUANTIZED_LAYERS[number_format](linear(64, 50))(x).isfinite().all(-1)
    assert finite.tolist() == [True, False, True]


# --- a whole model ------------------------------------------------------------------------------


@pytest.mark.parametrize("number_format", SMALL_FORMATS)
@pytest.mark.parametrize("tied", [True, False])
@torch.inference_mode()
def test_every_linear_layer_is_replaced_and_little_else_changes(kernels, number_format, tied):
    model = new_model(tied_head=tied)
    ids = torch.randint(0, 99, (3, 20), generator=torch.Generator().manual_seed(2))
    before = model(ids)
    embedding = model.tok_emb.weight.clone()
    assert len(linear_layers(model)) == 2 * 6 + 1
    assert quantize_layers(model, number_format) is model
    assert not linear_layers(model) and torch.equal(model.tok_emb.weight, embedding)
    error = (model(ids) - before).norm() / before.norm()
    assert 0 < error < {"float16": 1e-3, "int8": 0.05}[number_format]


@pytest.mark.parametrize("number_format", SMALL_FORMATS)
def test_answers_in_a_batch_are_those_alone(kernels, number_format):
    model = quantize_layers(new_model(), number_format)
    prompts = [[5, 6, 7], [5, 6, 8, 9], [1]]
    together = generate(model, prompts, 12, end_id=-1)
    assert together == [generate(model, [prompt], 12, end_id=-1)[0] for prompt in prompts]
    assert together == generate(model, prompts, 12, end_id=-1, use_cache=False)
    assert len(set(map(tuple, together))) == 3


def test_a_model_behind_a_prefix_keeps_it():
    model = PrefixTuned(new_model(), PrefixEncoder(new_model().config, 4)).eval()
    plain = generate(model, [[5, 6, 7]], 8, end_id=-1)
    quantize_layers(model, "float16")
    assert not linear_layers(model.base) and generate(model, [[5, 6, 7]], 8, end_id=-1) == plain


def test_bytes_per_token():
    n_weights = 2 * 12 * 32 * 32 + 99 * 32
    n_rows = 2 * 32 * (4 + 4 + 1) + 99  # each with a scale of 4 bytes
    assert bytes_per_token(new_model()) == 4 * n_weights
    assert bytes_per_token(quantize_layers(new_model(), "float16")) == 2 * n_weights
    assert bytes_per_token(quantize_layers(new_model(), "int8")) == n_weights + 4 * n_rows


def test_float32_changes_nothing():
    model = new_model()
    assert len(linear_layers(quantize_layers(model, "float32"))) == 13


# --- bad input ----------------------------------------------------------------------------------


@pytest.mark.parametrize("number_format", SMALL_FORMATS)
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_weights_that_are_not_finite_are_named_and_nothing_is_replaced(number_format, value):
    model = new_model()
    with torch.no_grad():
        model.trf_blocks[1].ff.layers[0].weight[3, 4] = value
    with pytest.raises(ValueError, match=r"trf_blocks\.1\.ff\.layers\.0 "):
        quantize_layers(model, number_format)
    assert len(linear_layers(model)) == 13


def test_what_a_format_can_not_hold_is_refused():
    model = new_model()
    with torch.no_grad():
        model.out_head.weight[3, 4] = 70_000
    with pytest.raises(ValueError, match=r"7e\+04"):
        quantize_layers(model, "float16")
    quantize_layers(model, "int8")
    with pytest.raises(ValueError, match=r"must be torch\.float32"):
        quantize_layers(new_model().bfloat16(), "int8")
    with pytest.raises(ValueError, match="needs --device cpu"):
        quantize_layers(new_model().to("meta"), "int8")


def test_the_formats_are_those_of_the_commands():
    assert ("float32", *QUANTIZED_LAYERS) == WEIGHT_FORMATS


# --- the commands -------------------------------------------------------------------------------


@pytest.mark.parametrize("number_format", SMALL_FORMATS)
def test_the_commands_answer_in_every_format(run, capsys, monkeypatch, number_format):
    question = ["Add one to the number.", "--input", "7"]
    assert main(["respond", str(run), *question]) == 0
    plain = capsys.readouterr()
    assert main(["respond", str(run), *question, "--weights", number_format]) == 0
    assert capsys.readouterr() == plain
    assert main(["evaluate", str(run), "--json", "--weights", number_format]) == 0
    assert "exact_match" in capsys.readouterr().out
    monkeypatch.setattr(quantization, "has_packed_kernels", lambda: False)
    monkeypatch.setattr("ch07.models.model_to_answer.has_packed_kernels", lambda: False)
    assert main(["respond", str(run), *question, "--weights", number_format]) == 0
    without_kernels = capsys.readouterr()
    assert without_kernels.out == plain.out and "take longer" in without_kernels.err


def test_losses_are_computed_as_in_training_only(run, capsys):
    assert main(["evaluate", str(run), "--losses", "--weights", "int8"]) == 2
    assert "leave out --weights int8" in capsys.readouterr().err
