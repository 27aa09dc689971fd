"""How a run trains: all of a model's weights, or a small adapter beside them (`--method`).

The one idea: whatever the method, what comes of it is called as the model is called; only what is
trained differs, and what a run stores.
"""

import torch

from ch07.models.lora import add_lora, lora_layers, merged
from ch07.models.prefix_tuning import PrefixEncoder, PrefixTuned
from ch07.utils.errors import OptionError


def add_adapter(model, options):
    """The model as `options.method` trains it: as it is, with LoRA, or behind a prefix."""
    stream = torch.Generator().manual_seed(options.seed)
    if options.method == "lora":
        if options.lora_rank > model.config.emb_dim:
            raise OptionError(
                f"--lora-rank {options.lora_rank} is more than this model's width "
                f"({model.config.emb_dim}): such a correction is larger than what it corrects"
            )
        return add_lora(model, options.lora_rank, options.lora_alpha, generator=stream)
    if options.method == "prefix":
        length, hidden = options.prefix_length, options.prefix_hidden
        return PrefixTuned(model, PrefixEncoder(model.config, length, hidden, stream))
    return model


def base_model(model):
    """The `GPTModel` behind a prefix; any other model itself."""
    return model.base if isinstance(model, PrefixTuned) else model


def merged_or_base_model(model):
    """The `GPTModel` whose weights say what training made of it; of a prefix they say nothing."""
    return merged(model) if lora_layers(model) else base_model(model)
