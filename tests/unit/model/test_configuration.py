import pytest

from flamingo_ds.model import FlamingoConfig
from tests.tiny import VOCABULARY, tiny_config, tiny_siglip_config, tiny_text_config

TIMM = {"model_type": "timm_wrapper", "architecture": "test_nfnet"}


def test_round_trip(tmp_path):
    config = tiny_config(tiny_text_config("mpt"), vision_features="post_norm", cross_attention_every=2)
    config.save_pretrained(tmp_path)
    loaded = FlamingoConfig.from_pretrained(tmp_path)
    assert loaded.text_config.model_type == "mpt"
    assert loaded.to_diff_dict() == config.to_diff_dict()
    assert (loaded.vision_features, loaded.cross_attention_every) == ("post_norm", 2)


def test_heads_default_to_the_lm_s():
    config = tiny_config()
    assert (config.cross_attention_heads, config.cross_attention_head_width) == (4, 8)
    config = tiny_config(cross_attention_heads=2, cross_attention_head_width=5)
    assert (config.cross_attention_heads, config.cross_attention_head_width) == (2, 5)


@pytest.mark.parametrize(
    ("every", "offset", "indices"), [(1, 0, [0, 1, 2, 3, 4]), (2, 0, [0, 2, 4]), (2, 1, [1, 3]), (7, 4, [4])]
)
def test_gated_block_indices(every, offset, indices):
    text = tiny_text_config(num_hidden_layers=5)
    config = tiny_config(text, cross_attention_every=every, cross_attention_offset=offset)
    assert config.gated_block_indices == indices


@pytest.mark.parametrize(("first", "new", "wanted"), [(96, 2, 98), (95, 2, 97), (90, 2, 96), (0, 0, 96)])
def test_number_of_logits(first, new, wanted):
    ids = {"image_token_id": first, "eoc_token_id": first}
    assert tiny_config(first_new_token_id=first, num_new_tokens=new, **ids).vocab_size == wanted


@pytest.mark.parametrize("tied", [True, False])
def test_the_lm_decides_what_is_tied(tied):
    assert tiny_config(tiny_text_config(tie_word_embeddings=tied)).tie_word_embeddings is tied


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"vision_features": "last"},
            r"vision_features is 'last'; expected one of \('pre_norm', 'post_norm', 'grid'\)",
        ),
        ({"media_rule": "first"}, r"media_rule is 'first'; expected one of \('last', 'next', 'all_previous'\)"),
        ({"style": "otter"}, r"style is 'otter'; expected one of \('paper', 'openflamingo', 'idefics'\)"),
        ({"gate": "sigmoid"}, r"gate is 'sigmoid'; expected one of \('tanh', 'none'\)"),
        ({"resampler_kind": "max"}, r"resampler_kind is 'max'; expected one of \('perceiver', 'mean'\)"),
        ({"max_frames": -1}, r"max_frames is -1; expected 0 \(no temporal encodings\) or more"),
        ({"vision_features": "grid"}, "vision_features is 'grid'; expected 'pre_norm' or 'post_norm' of a ViT"),
        ({"vision_config": TIMM, "vision_width": 8}, "vision_features is 'pre_norm'; expected 'grid'"),
        ({"vision_config": TIMM, "vision_features": "grid"}, "vision_width is 0; expected at least 1"),
        ({"vision_config": tiny_siglip_config(), "vision_class_token": True}, "siglip_vision_model has no class token"),
        (
            {"vision_config": {"model_type": "vit"}},
            "vision_config has model_type 'vit'; expected one of clip_vision_model",
        ),
        ({"cross_attention_heads": 1000}, "cross_attention_head_width is 0; expected at least 1"),
        ({"resampler_latents": 0}, "resampler_latents is 0; expected at least 1"),
        ({"image_token_id": 98}, "image_token_id is 98; the vocabulary has room for ids 0 to 97"),
        ({"eoc_token_id": -1}, "eoc_token_id is -1; the vocabulary has room for ids 0 to 97"),
        ({"cross_attention_every": 0}, "cross_attention_every is 0; expected at least 1"),
        ({"cross_attention_offset": 3}, "cross_attention_offset is 3; expected 0 to 2"),
        ({"cross_attention_offset": -1}, "cross_attention_offset is -1; expected 0 to 2"),
        ({"first_new_token_id": VOCABULARY + 1}, "first_new_token_id is 97, past the language model's 96"),
    ],
)
def test_what_cannot_be_built_is_named(changes, message):
    with pytest.raises(ValueError, match=message):
        tiny_config(**changes)
