"""The README of an exported model: what a user must know to use it rightly."""

from ..config import RunConfig
from ..model import FlamingoConfig
from .store import Checkpoint

TEMPLATE = """---
library_name: transformers
pipeline_tag: image-text-to-text
tags: [flamingo]
---
# A Flamingo

Trained with flamingo_ds: a frozen language model and a frozen vision encoder, joined by a Perceiver Resampler and
tanh-gated cross-attention. The licences of both bases apply.

| | |
|---|---|
| language model | {language_model} |
| vision encoder | {vision_encoder}, features {features}, class token {class_token} |
| frozen base | {tensors} tensors, sha256 {sha256} |
| trained layers | in {style} style; gated blocks before language model blocks {gated} |
| image mask | a token sees {sees} |
| trained | {step} optimizer steps on {datasets} |
| prompt | `<image>` where an image stands, `<EOC>` after each text; `<image>text<EOC><image>` asks for the next text |

```python
from transformers import AutoModelForImageTextToText, AutoProcessor

model = AutoModelForImageTextToText.from_pretrained(FOLDER, trust_remote_code=True)
processor = AutoProcessor.from_pretrained(FOLDER, trust_remote_code=True)
inputs = processor(images=[image], text="<image>").to(model.dtype)
print(processor.batch_decode(model.generate(**inputs, max_new_tokens=20), skip_special_tokens=True))
```
"""


SEES = {
    "last": "the last image before it and no other",
    "next": "the first image after it and no other",
    "all_previous": "all images before it",
}


def model_card(checkpoint: Checkpoint, recipe: RunConfig, config: FlamingoConfig) -> str:
    """The text of the card, in the hub's Markdown."""
    base = checkpoint.about["base"]
    datasets = ", ".join(f"{name} (weight {dataset.weight})" for name, dataset in recipe.data.datasets.items())
    return TEMPLATE.format(
        language_model=base["language_model"],
        vision_encoder=base["vision_encoder"],
        features=config.vision_features,
        class_token=config.vision_class_token,
        tensors=base["tensors"],
        sha256=base["sha256"],
        style=config.style,
        sees=SEES[config.media_rule],
        gated=", ".join(map(str, config.gated_block_indices)),
        step=checkpoint.step,
        datasets=datasets,
    )
