"""The decoder that a recipe gives a dataset, or a plain one."""

from typing import Any

from transformers import AutoTokenizer, CLIPImageProcessor

from flamingo_ds.checkpoint.pretrained import build_processor
from flamingo_ds.config import ConfigError, DatasetConfig, load_recipe
from flamingo_ds.config.schema import MediaRule, SampleFormat
from flamingo_ds.data import Tokens
from flamingo_ds.data.build import build_decoder
from flamingo_ds.data.decoder import Decoder
from flamingo_ds.data.image_transform import ImageTransform
from flamingo_ds.data.packing import Packing
from flamingo_ds.data.tokenizer_check import check_tokenizer
from flamingo_ds.model.processing import EOC_TOKEN
from flamingo_ds.model.prompt_media import IMAGE_TOKEN


def decoder_of(
    recipe: str | None, dataset: str | None, kind: SampleFormat | None, tokenizer: str | None
) -> tuple[Decoder, Packing | None]:
    """What turns samples into sequences, and how they are packed.

    Raises:
        ConfigError: what is missing or does not fit.
    """
    if recipe is None:
        if kind is None or tokenizer is None:
            raise ConfigError("--recipe", None, "a recipe, or --format and --tokenizer")
        config = DatasetConfig(format=kind, shards="", batch_size=1)
        decoder = build_decoder(config, _tokens(tokenizer), ImageTransform.of(CLIPImageProcessor()), MediaRule.last)
        return decoder, None
    loaded = load_recipe(recipe)
    names = [name for name, found in loaded.data.datasets.items() if kind in (None, found.format)]
    if dataset is not None and dataset not in names:
        raise ConfigError("--dataset", dataset, f"one of the recipe's: {', '.join(names)}")
    if not names:
        raise ConfigError("--format", kind.value if kind else None, f"that of a dataset of {recipe}")
    config = loaded.data.datasets[dataset or names[0]]
    processor = build_processor(loaded.model)
    check_tokenizer(processor.tokenizer, IMAGE_TOKEN, EOC_TOKEN)
    tokens = Tokens(processor.tokenizer, processor.image_token_id, processor.eoc_token_id)
    transform = ImageTransform.of(processor.image_processor, loaded.model.vision_encoder.fit)
    packing = Packing(config.max_tokens, config.max_images) if config.pack else None
    return build_decoder(config, tokens, transform, loaded.model.media_rule), packing


def _tokens(name: str) -> Tokens:
    try:
        tokenizer: Any = AutoTokenizer.from_pretrained(name)
    except (OSError, ValueError) as error:
        raise ConfigError("--tokenizer", name, f"a tokenizer: {str(error).splitlines()[0]}") from error
    tokenizer.add_special_tokens({"additional_special_tokens": [IMAGE_TOKEN, EOC_TOKEN]})
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token or EOC_TOKEN
    check_tokenizer(tokenizer, IMAGE_TOKEN, EOC_TOKEN)
    return Tokens(tokenizer, *tokenizer.convert_tokens_to_ids([IMAGE_TOKEN, EOC_TOKEN]))
