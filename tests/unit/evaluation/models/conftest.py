"""Tiny models with pictures to ask about."""

import pytest
import torch
from transformers import CLIPImageProcessor, LlavaConfig, LlavaForConditionalGeneration, LlavaProcessor

from flamingo_ds.evaluation.task import Turn
from tests.tiny import (
    IMAGE_SIZE,
    tiny_image,
    tiny_text_config,
    tiny_tokenizer,
    tiny_vision_config,
)

LLAVA_TEMPLATE = (
    "{% for message in messages %}{{ message['role'] + ':' }}{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<image>{% else %}{{ ' ' + part['text'] }}{% endif %}{% endfor %}"
    "{% if message['role'] == 'assistant' %}</s>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}assistant:{% endif %}"
)


@pytest.fixture(scope="session")
def pictures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    for number in range(4):
        tiny_image(number).save(folder / f"{number}.png")
    return [folder / f"{number}.png" for number in range(4)]


@pytest.fixture(scope="session")
def prompts(pictures):
    """Of two examples, of one, and of none: three lengths."""
    first, second = Turn((pictures[0],), "Output:", "a red square"), Turn((pictures[1],), "Output:", "a")
    query = Turn((pictures[2],), "Output:", None)
    return [(first, second, query), (second, query), (query,)]


@pytest.fixture(scope="session")
def llava(tmp_path_factory):
    """A model of another project, saved with a processor that takes conversations."""
    folder = tmp_path_factory.mktemp("llava")
    tokenizer = tiny_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": ["<image>"]})
    processor = LlavaProcessor(
        CLIPImageProcessor(size={"shortest_edge": IMAGE_SIZE}, crop_size=IMAGE_SIZE),
        tokenizer,
        patch_size=8,
        vision_feature_select_strategy="default",
        chat_template=LLAVA_TEMPLATE,
        num_additional_image_tokens=1,
    )
    torch.manual_seed(0)
    text = tiny_text_config("llama", vocab_size=len(tokenizer))
    config = LlavaConfig(
        vision_config=tiny_vision_config(),
        text_config=text,
        image_token_index=processor.image_token_id,
        vision_feature_layer=-1,
    )
    LlavaForConditionalGeneration(config).save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder
