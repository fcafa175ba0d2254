"""Tiny random models of other projects, their own code around the same backbones that the other tests use."""

from typing import Any

import open_clip
import torch
from transformers import AutoModelForCausalLM

from flamingo_ds.checkpoint.open_clip_vision import to_transformers_names
from flamingo_ds.checkpoint.openflamingo_names import openflamingo_table
from flamingo_ds.model import FlamingoForConditionalGeneration
from flamingo_ds.model.decoder_blocks import BLOCK_PATHS
from tests.tiny import tiny_config, tiny_open_clip, tiny_text_config, tiny_vision_config

VOCABULARY, IMAGE, EOC = 98, 96, 97


def draw(model: torch.nn.Module, seed: int = 0) -> None:
    """Every weight at random, gates, norms and biases too: what starts as 0 or 1 proves nothing."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.15 * torch.randn(parameter.shape, generator=generator))


def openflamingo(family: str, every: int, **text: Any) -> Any:
    """OpenFlamingo's own class, with 8 x 64 heads and six resampler layers as it always has."""
    from open_flamingo.src.flamingo import Flamingo
    from open_flamingo.src.flamingo_lm import FlamingoLMMixin
    from open_flamingo.src.utils import extend_instance

    torch.manual_seed(0)
    language_model = AutoModelForCausalLM.from_config(tiny_text_config(family, vocab_size=VOCABULARY, **text))
    extend_instance(language_model, FlamingoLMMixin)
    language_model.set_decoder_layers_attr_name(BLOCK_PATHS[family])
    clip = open_clip.CLIP(**tiny_open_clip())
    clip.visual.output_tokens = True
    model = Flamingo(clip, language_model, EOC, IMAGE, vis_dim=32, cross_attn_every_n_layers=every)
    draw(model)
    return model.eval()


def as_ours(theirs: Any, family: str, every: int, **text: Any) -> FlamingoForConditionalGeneration:
    """The same model as ours, every tensor by its name in the table."""
    config = tiny_config(
        tiny_text_config(family, vocab_size=VOCABULARY, **text),
        vision_config=tiny_vision_config(intermediate_size=128, hidden_act="gelu", layer_norm_eps=1e-5),
        style="openflamingo",
        vision_features="post_norm",  # what open_clip gives since its version 2.23
        cross_attention_every=every,
        cross_attention_offset=every - 1,
        resampler_depth=6,
        resampler_latents=64,
        resampler_heads=8,
        resampler_head_width=64,
        max_frames=0,
        num_new_tokens=0,
        image_token_id=IMAGE,
        eoc_token_id=EOC,
    )
    model = FlamingoForConditionalGeneration(config).eval()
    state = theirs.state_dict()
    vision = {
        name.removeprefix("vision_encoder."): state.pop(name) for name in list(state) if name.startswith("vision_")
    }
    renamed = openflamingo_table(BLOCK_PATHS[family]).to_ours(state)
    renamed |= {f"vision_model.{name}": tensor for name, tensor in to_transformers_names(vision).items()}
    model.load_state_dict(renamed)  # strict: nothing missing, nothing left over
    return model
