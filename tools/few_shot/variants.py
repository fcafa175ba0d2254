"""The model of the proof and its ablations, as keys of the recipe few-shot."""

MODEL = "model"
VARIANTS: dict[str, list[str]] = {
    MODEL: [],
    "all_previous_images": ["model.media_rule=all_previous"],
    "no_gate": ["model.gated_cross_attention.gate=none", "model.gated_cross_attention.initial_gate=0"],
    "mean_instead_of_resampler": ["model.resampler.kind=mean"],
    "datasets_in_turn": ["data.mixture=in_turn"],
    "random_vision_encoder": ["model.vision_encoder.source=local-dir:{seed}/clip-random"],
    "lm_without_induction": ["model.language_model.source={seed}/lm-without-induction"],
}
"""All train as many steps as the model; ``{seed}`` is the folder of a seed."""
PAPER = {
    MODEL: 70.7,
    "all_previous_images": 63.5,
    "no_gate": 66.5,
    "mean_instead_of_resampler": 66.6,
    "datasets_in_turn": 62.9,
}
"""Its table 3, overall score of 3B models; in place of the resampler it has an MLP."""
