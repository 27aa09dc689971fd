"""A model that is loaded only to answer, its weights in the number format asked for."""

from collections.abc import Callable

from ch07.models.quantization import has_packed_kernels, quantize_layers
from ch07.models.saved_run import TrainedModel, load_trained_model
from ch07.utils.device import choose_device


def load_model_to_answer(
    name: str, device: str, weights: str, report: Callable[[str], None]
) -> TrainedModel:
    """The model of a run, or another one, on a device ("auto" chooses), in the format `weights`.

    If the format isn't faster on this processor, `report` gets a line that says so. OptionError for
    a format that needs another device, RunFolderError if there is no finished run of that name.
    """
    if weights != "float32" and device == "auto":
        device = "cpu"  # the only one that has these formats
    trained = load_trained_model(name, choose_device(device))
    quantize_layers(trained.model, weights)
    if weights != "float32" and not has_packed_kernels():
        report(
            f"--weights {weights}: PyTorch has no fast products in this format for this processor; "
            "the answers are the same, but they take longer"
        )
    return trained
