import numpy as np
import pytest
import torch
from PIL import Image
from transformers import SiglipImageProcessor

from flamingo_ds.model import FlamingoProcessor
from tests.tiny import IMAGE_SIZE, tiny_image, tiny_processor, tiny_tokenizer

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
    with pytest.raises(ValueError, match=r"text is \[\]"):
        processor(text=[])
    with pytest.raises(ValueError, match="audio is given"):
        processor(text=NONE, audio=[0.0])
    with pytest.raises(ValueError, match="return_tensors is 'np'; expected 'pt'"):
        processor(text=NONE, return_tensors="np")


def test_padding_is_on_the_left_unless_asked_otherwise(processor, images):
    left = processor(images=images[:1], text=[NONE, ONE])["attention_mask"]
    right = processor(images=images[:1], text=[NONE, ONE], padding_side="right")["attention_mask"]
    assert left[:, 0].tolist().count(0) == 1
    assert torch.equal(left, right.flip(-1))


def test_save_and_load(processor, images, tmp_path):
    processor.save_pretrained(tmp_path)
    loaded = FlamingoProcessor.from_pretrained(tmp_path)
    before, after = (each(images=images, text=[ONE, TWO]) for each in (processor, loaded))
    assert set(before) == {"input_ids", "attention_mask", "pixel_values", "num_images"}
    assert loaded.tokenizer.padding_side == "left"
    for name, tensor in before.items():
        assert torch.equal(tensor, after[name]), name


def test_videos_and_images_in_any_order(processor, images):
    """A video is one place; shorter ones and images are padded with zeros behind."""
    frames = [tiny_image(seed) for seed in range(5)]
    text = ["<video>a<EOC><image>b<EOC><video>", "<image>"]
    batch = processor(images=[images[:1], images[1:2]], videos=[[frames[:3], frames[3:]], []], text=text)
    assert batch["pixel_values"].shape == (2, 3, 3, 3, IMAGE_SIZE, IMAGE_SIZE)
    assert batch["num_frames"].tolist() == [[3, 1, 2], [1, 0, 0]]
    assert batch["num_images"].tolist() == [3, 1]
    assert (batch["input_ids"] == processor.image_token_id).sum(-1).tolist() == [3, 1]
    assert torch.equal(batch["pixel_values"][0, 2, 1], processor.transform(frames[4]))
    assert torch.equal(batch["pixel_values"][0, 1, 0], processor.transform(images[0]))
    assert not batch["pixel_values"][0, 1, 1:].any()


@pytest.mark.parametrize("layout", ["frames", "list of one", "nested", "channels last", "channels first"])
def test_a_video_comes_in_many_shapes(processor, layout):
    frames = [tiny_image(seed) for seed in range(3)]
    array = torch.stack([torch.from_numpy(np.array(frame)) for frame in frames])
    given = {
        "frames": frames,
        "list of one": [frames],
        "nested": [[frames]],
        "channels last": array.numpy(),
        "channels first": array.movedim(-1, 1),
    }
    batch = processor(videos=given[layout], text="<video>Output:")
    wanted = torch.stack([processor.transform(frame) for frame in frames])
    assert torch.equal(batch["pixel_values"][0, 0], wanted)


def test_arrays_are_images(processor, images):
    array = np.array(images[0])
    wanted = processor(images=images[0], text=ONE)["pixel_values"]
    for given in (array, torch.from_numpy(array).movedim(-1, 0), [array], [[array]]):
        assert torch.equal(processor(images=given, text=ONE)["pixel_values"], wanted)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"images": "no-such-file.png"}, "Incorrect image source.*Got no-such-file.png"),
        ({"images": 3}, "images is a int; expected pictures, or lists of them"),
        ({"images": tiny_image(), "videos": "film.mp4"}, "videos is a str; expected pictures, or lists of them"),
        ({"images": [[None]]}, r"images holds \['NoneType'\]; expected pictures"),
        ({"images": np.zeros((8, 8, 3), np.float32)}, r"shape \(8, 8, 3\) and type torch.float32; expected .*uint8"),
        ({"images": np.zeros((8, 8, 7), np.uint8)}, r"shape \(8, 8, 7\).*; expected \(H, W, C\) or \(C, H, W\)"),
        ({"videos": [[tiny_image()]]}, r"name \[1\] images with <image> but \[0\] were given"),
        ({"images": [tiny_image()], "videos": [tiny_image()]}, r"name \[0\] videos with <video> but \[1\] were given"),
    ],
)
def test_what_is_no_picture(processor, given, message):
    with pytest.raises(ValueError, match=message):
        processor(text=ONE, **given)


def test_a_text_without_a_token(processor):
    with pytest.raises(ValueError, match="text 1 is '', no token; expected at least one"):
        processor(text=[NONE, ""])


def test_a_text_past_the_context(processor):
    processor.tokenizer.model_max_length = 4
    length = len(processor.tokenizer(NONE)["input_ids"])
    with pytest.raises(ValueError, match=f"text 1 has {length} tokens; expected at most 4"):
        processor(text=["a", NONE])
    assert processor(text=["a", NONE], truncation=True)["input_ids"].shape == (2, 4)


def test_truncation_that_cuts_an_image(processor, images):
    with pytest.raises(ValueError, match=r"truncation left \[1\] of \[2\] images; expected all"):
        processor(images=images[:2], text=TWO, truncation=True, max_length=2)


def test_texts_of_different_lengths_without_padding(processor):
    with pytest.raises(ValueError, match="tokens with padding=False; expected padding, or one length"):
        processor(text=["a", NONE], padding=False)


def test_images_that_come_out_in_different_sizes(images):
    processor = tiny_processor()
    processor.image_processor.do_center_crop = False
    with pytest.raises(ValueError, match=r"images come out in sizes \[\(3, 16, 16\), \(3, 19, 16\)\]; expected one"):
        processor(images=[tiny_image(), tiny_image(width=20, height=20)], text=TWO)


def test_a_tokenizer_without_the_new_tokens():
    with pytest.raises(ValueError, match="280 tokens lack <image>, <EOC>"):
        FlamingoProcessor(tiny_processor().image_processor, tiny_tokenizer())


def test_image_size_is_what_comes_out():
    assert tiny_processor().image_size == (IMAGE_SIZE, IMAGE_SIZE)
    siglip = SiglipImageProcessor(size={"height": 24, "width": 24})
    assert FlamingoProcessor(siglip, tiny_processor().tokenizer).image_size == (24, 24)


def test_call_patterns_of_evaluation_harnesses(processor, images):
    """lm-eval nests its images; lmms-eval gives them flat, with empty lists for what there is not."""
    nested = processor(images=[images[:1], images[1:]], text=[ONE, TWO], return_tensors="pt", padding="longest")
    flat = processor(images=images, videos=[], audio=None, text=[ONE, TWO], padding=True, padding_side="left")
    assert torch.equal(nested["pixel_values"], flat["pixel_values"])
    assert torch.equal(flat["input_ids"], nested["input_ids"])
    by_kwargs = processor(images, [ONE, TWO], text_kwargs={"padding_side": "right"})
    assert torch.equal(by_kwargs["attention_mask"], flat["attention_mask"].flip(-1))


@pytest.mark.parametrize("fit", ["pad", "squash", "crop"])
def test_another_fit_is_kept_in_an_export(tmp_path, fit):
    tiny = tiny_processor()
    processor = FlamingoProcessor(tiny.image_processor, tiny.tokenizer, fit=fit)
    processor.save_pretrained(tmp_path)
    loaded = FlamingoProcessor.from_pretrained(tmp_path)
    assert loaded.fit == fit
    wide = Image.new("RGB", (80, 20), (255, 0, 0))
    assert torch.equal(loaded.transform(wide), processor.transform(wide))
    inputs = loaded(images=[wide], text="<image>")
    assert torch.equal(inputs["pixel_values"][0, 0, 0], processor.transform(wide))
    # Of a wide red picture padding leaves mean colour above and below; the others are red throughout.
    assert (abs(float(processor.transform(wide)[0, 0].mean())) < 0.1) == (fit == "pad")
