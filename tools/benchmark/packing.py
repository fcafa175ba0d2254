"""FLOPs of an image-text pair in training, by formula: packed with others, or padded to the full length alone."""

from flamingo_ds.checkpoint.language_source import text_config
from flamingo_ds.checkpoint.pretrained import TokenIds, describe_model, skeleton
from flamingo_ds.checkpoint.timm_vision import input_size
from flamingo_ds.config import load_recipe
from flamingo_ds.model.flops import count_flops, total_flops


def flops_per_pair(recipe: str, length: int, pairs: float) -> tuple[float, float]:
    """Forward and backward of a recipe's model, its one image included.

    Args:
        recipe: name or file.
        length: L, of both kinds of sequence.
        pairs: in a packed sequence.

    Returns:
        Packed, and padded.
    """
    model_recipe = load_recipe(recipe).model
    words = text_config(model_recipe.language_model).vocab_size
    config = describe_model(model_recipe, TokenIds(first_new=words, num_new=2, image=words, eoc=words + 1))
    model, _ = skeleton(config, model_recipe)
    size = model_recipe.vision_encoder.image_size
    if size is None and config.vision_features == "grid":
        size = input_size(config.vision_config)
    parts = count_flops(model, length, image_size=size)

    def training(images: float) -> float:
        whole, without = (total_flops(parts, length, images) for images in (1, 0))
        text = without.forward + without.backward
        return text + images * (whole.forward + whole.backward - text)

    return training(pairs) / pairs, training(1)
