"""Conversations, and transformers' own pipeline over a model from disk."""

import pytest
import torch
from transformers import AutoModelForImageTextToText, AutoProcessor, pipeline

from flamingo_ds.model import FlamingoProcessor
from tests.tiny import tiny_flamingo, tiny_image, tiny_processor, tiny_text_config

IMAGE, VIDEO = {"type": "image"}, {"type": "video"}


def said(text):
    return {"type": "text", "text": text}


def user(*parts):
    return {"role": "user", "content": list(parts)}


def assistant(text):
    return {"role": "assistant", "content": [said(text)]}


@pytest.fixture(scope="module")
def processor():
    return tiny_processor()


@pytest.mark.parametrize(
    ("messages", "prompt"),
    [
        ([user(IMAGE), assistant("a cat"), user(IMAGE)], "<image>a cat<EOC><image>"),
        (
            [user(IMAGE, said("Output:")), assistant("a cat"), user(IMAGE, said("Output:"))],
            "<image>Output: a cat<EOC><image>Output:",
        ),
        (
            [user(IMAGE, said("Question: what? Answer:")), assistant("a cat")],
            "<image>Question: what? Answer: a cat<EOC>",
        ),
        ([user(said("Output: ")), assistant("a")], "Output: a<EOC>"),
        ([user(said("Output:")), assistant(" a")], "Output: a<EOC>"),
        ([user(said("a "), IMAGE, said(" and "), VIDEO, said(" b"))], "a <image> and <video> b"),
        ([{"role": "system", "content": "Captions."}, user(IMAGE)], "Captions.\n<image>"),
        ([{"role": "user", "content": "red"}, {"role": "assistant", "content": "square"}], "red square<EOC>"),
    ],
)
@pytest.mark.parametrize("add_generation_prompt", [True, False])
def test_prompts_are_the_paper_s(processor, messages, prompt, add_generation_prompt):
    made = processor.apply_chat_template(messages, add_generation_prompt=add_generation_prompt, tokenize=False)
    assert made == prompt


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        ({"role": "tool", "content": "a"}, "role is 'tool'; expected system, user or assistant"),
        ({"role": "user", "content": [{"type": "audio"}]}, "type is 'audio'; expected text, image or video"),
    ],
)
def test_what_no_conversation_has(processor, message, reason):
    with pytest.raises(Exception, match=reason):
        processor.apply_chat_template([message], tokenize=False)


def test_the_template_is_saved_with_the_processor(processor, tmp_path):
    processor.save_pretrained(tmp_path)
    assert (tmp_path / "chat_template.jinja").is_file()
    assert FlamingoProcessor.from_pretrained(tmp_path).chat_template == processor.chat_template
    processor.chat_template, own = "{{ messages[0]['content'] }}", processor.chat_template
    processor.save_pretrained(tmp_path)
    assert FlamingoProcessor.from_pretrained(tmp_path).chat_template == processor.chat_template
    processor.chat_template = own


def test_images_and_frames_within_the_conversation(processor, tmp_path):
    tiny_image(1).save(tmp_path / "1.png")
    frames = [tiny_image(seed) for seed in (2, 3)]
    messages = [
        user({"type": "image", "image": tiny_image(0)}),
        assistant("a cat"),
        user({"type": "image", "path": str(tmp_path / "1.png")}, {"type": "video", "video": frames}),
    ]
    made = processor.apply_chat_template(messages, tokenize=True, return_dict=True, return_tensors="pt")
    wanted = processor(images=[tiny_image(0), tiny_image(1)], videos=frames, text="<image>a cat<EOC><image><video>")
    assert set(made) == set(wanted)
    for name, tensor in wanted.items():
        assert torch.equal(made[name], tensor), name


@pytest.fixture(scope="module")
def pipe(processor, tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    first = min(processor.image_token_id, processor.eoc_token_id)
    ids = {"image_token_id": processor.image_token_id, "eoc_token_id": processor.eoc_token_id}
    model = tiny_flamingo(tiny_text_config(vocab_size=280), first_new_token_id=first, **ids)
    model.merge_new_tokens()
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return pipeline(
        "image-text-to-text",
        model=AutoModelForImageTextToText.from_pretrained(folder),
        processor=AutoProcessor.from_pretrained(folder),
    )


ASKED = {"max_new_tokens": 5, "do_sample": False}


@torch.no_grad()
def test_the_pipeline_answers_a_conversation(pipe):
    messages = [
        user({"type": "image", "image": tiny_image(0)}, said("Output:")),
        assistant("a cat"),
        user({"type": "image", "image": tiny_image(1)}, said("Output:")),
    ]
    [answer] = pipe(text=messages, return_full_text=False, generate_kwargs=ASKED)
    inputs = pipe.processor(images=[tiny_image(0), tiny_image(1)], text="<image>Output: a cat<EOC><image>Output:")
    tokens = pipe.model.generate(**inputs, **ASKED)[:, inputs["input_ids"].shape[1] :]
    assert answer["generated_text"] == pipe.processor.batch_decode(tokens, skip_special_tokens=True)[0]
    assert answer["generated_text"]


def test_the_pipeline_takes_images_and_texts_in_batches(pipe):
    texts, images = ["<image>a red", "<image>a"], [[tiny_image(0)], [tiny_image(1)]]
    together = pipe(images=images, text=texts, generate_kwargs=ASKED, batch_size=2)
    alone = [pipe(images=row, text=text, generate_kwargs=ASKED)[0] for row, text in zip(images, texts, strict=True)]
    assert [answer["generated_text"] for answer in together] == [answer["generated_text"] for answer in alone]


def test_the_pipeline_answers_text_alone(pipe):
    [answer] = pipe(text="a picture of", generate_kwargs=ASKED)
    assert answer["generated_text"].startswith("a picture of")
