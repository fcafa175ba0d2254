import pytest
import torch

from flamingo_ds.model import FlamingoProcessor
from tests.tiny import IMAGE_SIZE, tiny_image, tiny_processor

ONE, TWO, NONE = "<image>a picture<EOC>", "<image>a<EOC><image>a red", "a picture of a red square"


@pytest.fixture
def processor():
    # A new one for each test: a tokenizer saves the padding that it was last called with.
    return tiny_processor()


@pytest.fixture(scope="module")
def images():
    return [tiny_image(seed) for seed in range(3)]


def test_new_tokens_are_single_tokens(processor):
    assert processor.tokenizer.convert_ids_to_tokens(processor(text="<EOC>")["input_ids"][0]) == ["<EOC>"]
    assert processor.image_token_id != processor.eoc_token_id
    assert processor.decode(processor(images=tiny_image(), text=ONE)["input_ids"][0]) == ONE


def test_nested_images_go_to_their_texts(processor, images):
    batch = processor(images=[[images[0]], [images[1], images[2]]], text=[ONE, TWO])
    assert batch["pixel_values"].shape == (2, 2, 1, 3, IMAGE_SIZE, IMAGE_SIZE)
    assert batch["num_images"].tolist() == [1, 2]
    for row, slot, image in [(0, 0, images[0]), (1, 0, images[1]), (1, 1, images[2])]:
        assert torch.equal(batch["pixel_values"][row, slot, 0], processor.transform(image))
    assert torch.equal(batch["pixel_values"][0, 1], torch.zeros(1, 3, IMAGE_SIZE, IMAGE_SIZE))


def test_flat_images_are_dealt_out_in_order(processor, images):
    flat = processor(images=images, text=[ONE, NONE, TWO])
    nested = processor(images=[images[:1], [], images[1:]], text=[ONE, NONE, TWO])
    assert flat["num_images"].tolist() == [1, 0, 2]
    assert torch.equal(flat["pixel_values"], nested["pixel_values"])


def test_one_image_and_one_text(processor, images):
    batch = processor(images=images[0], text=ONE)
    assert batch["pixel_values"].shape == (1, 1, 1, 3, IMAGE_SIZE, IMAGE_SIZE)
    assert batch["input_ids"].shape[0] == 1


@pytest.mark.parametrize("nothing", [None, [], [[], []]], ids=str)
def test_texts_without_images(processor, nothing):
    batch = processor(images=nothing, text=[NONE, "a"])
    assert set(batch) == {"input_ids", "attention_mask"}
    assert batch["attention_mask"].sum(-1).tolist() == [len(processor.tokenizer(NONE)["input_ids"]), 1]


def test_pixel_values_are_the_image_processor_s(processor, images):
    wanted = processor.image_processor(images[0], return_tensors="pt")["pixel_values"][0]
    assert torch.equal(processor(images=images[0], text=ONE)["pixel_values"][0, 0, 0], wanted)
    assert wanted.std() > 0.1


@pytest.mark.parametrize("mode", ["L", "RGBA", "P"])
def test_every_kind_of_picture_becomes_rgb(processor, mode):
    """A grey picture has three equal channels, before the mean and deviation of each."""
    image = tiny_image().convert(mode)
    assert torch.equal(processor.transform(image), processor.transform(image.convert("RGB")))


@pytest.mark.parametrize(
    ("given", "texts", "message"),
    [
        ([[0], [1]], [ONE, TWO], r"name \[1, 2\] images with <image> but \[1, 1\] were given"),
        ([[0, 1], [2]], [ONE, ONE], r"name \[1, 1\] images with <image> but \[2, 1\] were given"),
        ([0, 1], [ONE, TWO], r"name \[1, 2\] images with <image> but \[1, 1\] were given"),
        ([0, 1, 2], [ONE, ONE], r"3 images for texts that name \[1, 1\]"),
        ([[0]], [ONE, ONE], r"name \[1, 1\] images with <image> but \[1\] were given"),
        (0, [NONE], r"name \[0\] images with <image> but \[1\] were given"),
        (None, [TWO], r"name \[2\] images with <image> but \[0\] were given"),
    ],
)
def test_counts_that_do_not_match(processor, images, given, texts, message):
    def pictures(what):
        return [pictures(part) for part in what] if isinstance(what, list) else images[what]

    with pytest.raises(ValueError, match=message):
        processor(images=None if given is None else pictures(given), text=texts)


def test_what_it_does_not_do(processor):
    with pytest.raises(ValueError, match="text is None"):
        processor()
    with pytest.raises(ValueError, match="return_tensors is 'np'; expected 'pt'"):
        processor(text=NONE, return_tensors="np")


def test_padding_is_on_the_tokenizer_s_side(processor, images):
    right = processor(images=images[:1], text=[NONE, ONE])["attention_mask"]
    processor.tokenizer.padding_side = "left"
    left = processor(images=images[:1], text=[NONE, ONE])["attention_mask"]
    assert torch.equal(left, right.flip(-1))
    assert not torch.equal(left, right)


def test_save_and_load(processor, images, tmp_path):
    processor.save_pretrained(tmp_path)
    loaded = FlamingoProcessor.from_pretrained(tmp_path)
    before, after = (each(images=images, text=[ONE, TWO]) for each in (processor, loaded))
    assert set(before) == {"input_ids", "attention_mask", "pixel_values", "num_images"}
    for name, tensor in before.items():
        assert torch.equal(tensor, after[name]), name
