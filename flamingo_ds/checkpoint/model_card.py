"""The README of an exported model: what a user must know to use it rightly."""

from importlib.metadata import version

from ..config import RunConfig
from ..model import FlamingoConfig
from .licences import licence_of, vision_source_of
from .store import Checkpoint

TEMPLATE = """---
library_name: transformers
pipeline_tag: image-text-to-text
license: other
license_name: licences-of-both-bases
tags: [flamingo]
---
# A Flamingo

Trained with flamingo_ds: a frozen language model and a frozen vision encoder, joined by a Perceiver Resampler and
tanh-gated cross-attention. The licences of both bases apply to it.

| | |
|---|---|
| language model | {language_model} |
| its licence | {language_licence} |
| vision encoder | {vision_encoder}, features {features}, class token {class_token} |
| its licence | {vision_licence} |
| frozen base | {tensors} tensors, sha256 {sha256} |
| trained layers | in {style} style; gated blocks before language model blocks {gated} |
| image mask | a token sees {sees} |
| tokens | `<image>` {image_id}, `<EOC>` {eoc_id} |
| trained | {step} optimizer steps |
| data, a step | {datasets} |
| prompt | `<image>` where an image stands, `<EOC>` after each text; `<image>text<EOC><image>` asks for the next text |
| written with | transformers {transformers} |

"""
USE = """```python
from transformers import AutoModelForImageTextToText, AutoProcessor

model = AutoModelForImageTextToText.from_pretrained(FOLDER, trust_remote_code=True)
processor = AutoProcessor.from_pretrained(FOLDER, trust_remote_code=True)
inputs = processor(images=[image], text="<image>").to(model.dtype)
print(processor.batch_decode(model.generate(**inputs, max_new_tokens=20), skip_special_tokens=True))
```
"""
USE_IDEFICS = """This folder is of transformers' own Idefics class and needs no other code.
{warning}
```python
import torch
from transformers import AutoProcessor, IdeficsForVisionText2Text

model = IdeficsForVisionText2Text.from_pretrained(FOLDER)
processor = AutoProcessor.from_pretrained(FOLDER)
text = processor.tokenizer("<image>", return_tensors="pt")
pixels = processor.image_processor([image], return_tensors="pt").unsqueeze(0)
seen = (text.input_ids == {image_id}).cumsum(-1).unsqueeze(-1) == torch.arange(1, pixels.shape[1] + 1)
out = model.generate(**text, pixel_values=pixels.to(model.dtype), image_attention_mask=seen.long(), max_new_tokens=20)
print(processor.tokenizer.batch_decode(out, skip_special_tokens=True))
```
"""
NO_FAKE_TOKEN = """
Its processor sets `<fake_token_around_image>` around every image, a token that this model was not trained with: prompt
it as below. Its image transform stretches an image to a square, where the training's cut out the middle: the same for
square images.
"""
USE_OPENFLAMINGO = """`checkpoint.pt` is for OpenFlamingo 2.0.1: build its model with the same language model and vision
encoder and `cross_attn_every_n_layers={every}`, then
`model.load_state_dict(torch.load(path)["model_state_dict"], strict=False)`.
`<EOC>` is its `<|endofchunk|>`. Vision tokens were taken {features} in training; which of both its own code gives
depends on the version of open_clip (after the final norm since 2.23).
"""

SEES = {
    "last": "the last image before it and no other",
    "next": "the first image after it and no other",
    "all_previous": "all images before it",
}


def model_card(checkpoint: Checkpoint, recipe: RunConfig, config: FlamingoConfig) -> str:
    """The text of the card, in the hub's Markdown."""
    return _facts(checkpoint, recipe, config) + USE


def idefics_card(checkpoint: Checkpoint, recipe: RunConfig, config: FlamingoConfig, knows_fake_token: bool) -> str:
    """Of an export to Idefics' class.

    Args:
        checkpoint, recipe, config: of the model.
        knows_fake_token: whether it was trained with Idefics' tokens around images.
    """
    warning = "" if knows_fake_token else NO_FAKE_TOKEN
    return _facts(checkpoint, recipe, config) + USE_IDEFICS.format(image_id=config.image_token_id, warning=warning)


def openflamingo_card(checkpoint: Checkpoint, recipe: RunConfig, config: FlamingoConfig) -> str:
    """Of an export to OpenFlamingo."""
    features = "after the final norm" if config.vision_features == "post_norm" else "before the final norm"
    use = USE_OPENFLAMINGO.format(every=config.cross_attention_every, features=features)
    return _facts(checkpoint, recipe, config) + use


def _facts(checkpoint: Checkpoint, recipe: RunConfig, config: FlamingoConfig) -> str:
    base = checkpoint.about["base"]
    datasets = [
        f"{dataset.batch_size} of {name} ({dataset.format.value.replace('_', '-')}, weight {dataset.weight})"
        for name, dataset in recipe.data.datasets.items()
    ]
    return TEMPLATE.format(
        language_model=base["language_model"],
        language_licence=licence_of(recipe.model.language_model.source),
        vision_encoder=base["vision_encoder"],
        vision_licence=licence_of(vision_source_of(recipe.model)),
        features=config.vision_features,
        class_token=config.vision_class_token,
        tensors=base["tensors"],
        sha256=base["sha256"],
        style=config.style,
        sees=SEES[config.media_rule],
        gated=", ".join(map(str, config.gated_block_indices)),
        image_id=config.image_token_id,
        eoc_id=config.eoc_token_id,
        step=checkpoint.step,
        datasets=", ".join(datasets),
        transformers=version("transformers"),
    )
