"""Prompts as the paper writes them (appendix A.2, figure 8).

Few shots of captions and of questions, and zero shots of an open-ended task::

    <image>Output: A cat wearing sunglasses.<EOC><image>Output:
    <image>Question: How many animals? Answer: 3<EOC><image>Question: What is on the water? Answer:
    Output: A cat wearing sunglasses.<EOC>Output: Three elephants.<EOC><image>Output:      zero shots, open-ended

What the tokenizer puts before every text (often ``<bos>``) comes first and is its own matter.
"""

import re
from collections.abc import Iterator, Sequence
from enum import Enum
from typing import Any

from .task import Prompt, Sample, Task, Turn, is_video

IMAGE_TOKEN = "<image>"
EOC_TOKEN = "<EOC>"


class Mark(Enum):
    """What stands between the texts of a prompt."""

    media = "media"
    end_of_chunk = "end_of_chunk"


def build_prompt(task: Task, query: Sample, examples: Sequence[Sample], text_only: bool = False) -> Prompt:
    """Examples in the given order, the query last.

    Args:
        task: whose instruction stands between media and answer.
        query: what is asked.
        examples: answered with the first of their answers.
        text_only: show the examples without their media: for zero shots, whose two examples ``choose`` names.
    """
    turns = [
        Turn(() if text_only else example.media, instruction(task, example), example.answers[0].strip())
        for example in examples
    ]
    return (*turns, Turn(query.media, instruction(task, query), None))


def instruction(task: Task, sample: Sample) -> str:
    """What stands between a sample's media and its answer."""
    return task.instruction.replace("{question}", sample.question.strip())


def parts(prompt: Prompt) -> Iterator[str | Mark]:
    """Texts and what stands between them, in reading order."""
    for turn in prompt:
        yield from (Mark.media for _ in turn.media)
        if turn.answer is None:
            yield turn.instruction
            continue
        yield f"{turn.instruction} {turn.answer}" if turn.instruction else turn.answer
        yield Mark.end_of_chunk


def render(prompt: Prompt, image_token: str = IMAGE_TOKEN, end_of_chunk: str = EOC_TOKEN) -> str:
    """The prompt as one string, to read and for processors.

    A text that itself holds ``<image>`` or ``<EOC>`` is written ``< image>``: in a string there is no other way to keep
    it a text. :func:`encode` needs no such change.
    """
    marks = {Mark.media: image_token, Mark.end_of_chunk: end_of_chunk}
    special = (image_token, end_of_chunk, "<video>")
    return "".join(marks[part] if isinstance(part, Mark) else plain(part, special) for part in parts(prompt))


def encode(prompt: Prompt, tokenizer: Any, image_token_id: int, eoc_token_id: int) -> list[int]:
    """Token ids without padding, as in training: each text alone, so that nothing in it becomes a special token.

    Args:
        prompt: of any task.
        tokenizer: a transformers tokenizer that knows ``<image>`` and ``<EOC>``.
        image_token_id, eoc_token_id: of these.
    """
    marks = {Mark.media: image_token_id, Mark.end_of_chunk: eoc_token_id}
    ids = [token for token in tokenizer("")["input_ids"] if token != tokenizer.eos_token_id]
    for part in parts(prompt):
        if isinstance(part, Mark):
            ids.append(marks[part])
        elif part:
            ids += tokenizer(part, add_special_tokens=False, split_special_tokens=True)["input_ids"]
    return ids


def chat(prompt: Prompt, special_tokens: Sequence[str] = ()) -> list[dict[str, Any]]:
    """The prompt as a conversation for ``apply_chat_template``: each example a user's turn and the assistant's.

    Args:
        prompt: of any task.
        special_tokens: of the model; a text that holds one is written as in :func:`render`.

    Returns:
        Messages whose ``content`` is a list of ``{"type": "image" | "video", "path": ...}`` and
        ``{"type": "text", "text": ...}``.
    """
    messages: list[dict[str, Any]] = []
    for turn in prompt:
        content = [{"type": "video" if is_video(path) else "image", "path": str(path)} for path in turn.media]
        if turn.instruction:
            content.append({"type": "text", "text": plain(turn.instruction, special_tokens)})
        messages.append({"role": "user", "content": content})
        if turn.answer is not None:
            answer = {"type": "text", "text": plain(turn.answer, special_tokens)}
            messages.append({"role": "assistant", "content": [answer]})
    return messages


def plain(text: str, special: Sequence[str]) -> str:
    """The text with a space after the first character of every special token in it."""
    for token in special:
        if len(token) > 1:
            text = re.sub(f"(?={re.escape(token)})(.)", r"\1 ", text, flags=re.DOTALL)
    return text
