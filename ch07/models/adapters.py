"""The training methods behind `--method`: all weights, or a small adapter on frozen ones.

Whatever the method, the result is called as the model itself is; only what is trained differs, and
what a run stores.
"""

import torch

from ch07.config import FinetuneOptions
from ch07.models.architectures import BaseModel
from ch07.models.lora import add_lora, lora_layers, merge_lora
from ch07.models.prefix_tuning import PrefixEncoder, PrefixTuned
from ch07.utils.errors import OptionError

LanguageModel = BaseModel | PrefixTuned  # whatever computes logits from token ids


def add_adapter(model: BaseModel, options: FinetuneOptions) -> LanguageModel:
    """Prepare a model for `options.method`: return it as it is, with LoRA, or behind a prefix.

    OptionError if the LoRA rank exceeds the model's width.
    """
    generator = torch.Generator().manual_seed(options.seed)
    if options.method == "lora":
        if options.lora_rank > model.config.emb_dim:
            raise OptionError(
                f"--lora-rank {options.lora_rank} is larger than this model's width "
                f"({model.config.emb_dim}): the adapter would be larger than the weights it adapts"
            )
        return add_lora(model, options.lora_rank, options.lora_alpha, generator=generator)
    if options.method == "prefix":
        encoder = PrefixEncoder(
            model.config, options.prefix_length, options.prefix_hidden, generator
        )
        return PrefixTuned(model, encoder, options.prefix_dropout)
    return model


def base_model(model: LanguageModel) -> BaseModel:
    """The model behind a prefix; any other model is returned as it is."""
    return model.base if isinstance(model, PrefixTuned) else model


def merged_or_base_model(model: LanguageModel) -> BaseModel:
    """A model whose own weights include what was trained, except for a prefix.

    LoRA is merged into a copy of the weights; a prefix can't be, so its base model is returned.
    """
    if isinstance(model, PrefixTuned):
        return model.base
    return merge_lora(model) if lora_layers(model) else model
