"""The three styles of trained layers, each as its own project defines them.

============  =========  ====================  ==============  ====================  =====================
style         norm       gated feed-forward    heads           resampler's own       source
============  =========  ====================  ==============  ====================  =====================
paper         LayerNorm  squared ReLU, 4 H     those of the LM squared ReLU          paper, appendix A.1
openflamingo  LayerNorm  GELU, 4 H             8 x 64          GELU                  OpenFlamingo 2.0.1
idefics       RMSNorm    SwiGLU, the LM's own  those of the LM ReLU                  transformers' Idefics
============  =========  ====================  ==============  ====================  =====================
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Style:
    """What the trained layers are made of.

    Attributes:
        gated_feed_forward: of the gated blocks: an activation of transformers, or ``swiglu``.
        resampler_activation: of the resampler's feed-forwards; ``relu2`` is the squared ReLU.
        rms_norm: RMSNorm with the LM's epsilon in the gated blocks, else LayerNorm.
        heads, head_width: of the gated blocks' attention; None for the LM's.
    """

    gated_feed_forward: str
    resampler_activation: str
    rms_norm: bool = False
    heads: int | None = None
    head_width: int | None = None


STYLES = {
    "paper": Style("relu2", "relu2"),
    "openflamingo": Style("gelu", "gelu", heads=8, head_width=64),
    "idefics": Style("swiglu", "relu", rms_norm=True),
}
