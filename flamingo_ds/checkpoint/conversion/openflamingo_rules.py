"""What OpenFlamingo 2.0.1 fixes in its code, and how its tokens are numbered."""

from ...config import ConfigError
from ...model import FlamingoConfig
from ...model.processing import EOC_TOKEN
from ...model.prompt_media import IMAGE_TOKEN

# Its class has no switch for these.
FIXED = {
    "style": "openflamingo",
    "media_rule": "last",
    "vision_class_token": False,
    "resampler_kind": "perceiver",
    "gate": "tanh",
    "resampler_depth": 6,
    "resampler_latents": 64,
    "resampler_heads": 8,
    "resampler_head_width": 64,
    "resampler_query_key_norm": False,
    "max_frames": 0,
    "cross_attention_heads": 8,
    "cross_attention_head_width": 64,
    "feed_forward_multiplier": 4,
}
# In the order in which it adds them behind the language model's own; the third is Otter's.
TOKENS = [EOC_TOKEN, IMAGE_TOKEN, "<answer>"]


def require_openflamingo(config: FlamingoConfig) -> None:
    """Refuse a model that its class cannot be.

    Raises:
        ConfigError: the first setting that differs.
    """
    wanted = {
        **FIXED,
        "cross_attention_offset": config.cross_attention_every - 1,
        "resampler_width": config.vision_width,
    }
    for key, value in wanted.items():
        if getattr(config, key) != value:
            raise ConfigError(f"model ({key})", getattr(config, key), f"{value!r}, as OpenFlamingo has it")


def their_row(token: str, first: int) -> int:
    """Row of a new token in its embedding.

    Args:
        token: ours.
        first: number of the language model's own tokens.

    Raises:
        ConfigError: it has no such token.
    """
    if token not in TOKENS:
        raise ConfigError("model.extra_tokens", token, f"one of {', '.join(TOKENS[2:])}, which Otter has")
    return first + TOKENS.index(token)
