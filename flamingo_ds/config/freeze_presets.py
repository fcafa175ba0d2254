"""What trains, as rows of the freeze table: the paper's choice, its fine-tuning, its ablations."""

from .schema import FreezePreset, FreezeRowConfig, ModelConfig

PAPER = {
    "vision_model.*": False,
    "language_model.*": False,
    "resampler.*": True,
    "gated_cross_attention.*": True,
    "new_token_*": True,
}
PRESETS: dict[FreezePreset, dict[str, bool]] = {
    FreezePreset.paper: PAPER,
    # Appendix B.2.2: the vision encoder trains too, at 480 x 480 pixels (model.vision_encoder.image_size).
    FreezePreset.fine_tuning: PAPER | {"vision_model.*": True},
    # Table 3 (viii): unfrozen 62.7 and from scratch (with language_model.from_scratch) 57.8, against 70.7.
    FreezePreset.language_model_unfrozen: PAPER | {"language_model.*": True},
    FreezePreset.everything: {"*": True},
}


def freeze_rows(config: ModelConfig) -> list[FreezeRowConfig]:
    """The whole table: the preset's rows, then the recipe's own."""
    preset = [FreezeRowConfig(pattern, trains) for pattern, trains in PRESETS[config.freeze_preset].items()]
    return [*preset, *config.freeze]
