"""Answer many episodes at once: the name with the highest log-likelihood behind the prompt, as the paper classifies.

Every episode has its own examples and its own names, so a prompt is used once; all episodes of a setting have the same
length, and thousands of them are a few batches. Pixels are made here, as the processor would make them one by one:
:func:`require_same_inputs` holds the two against each other.
"""

from dataclasses import dataclass
from typing import Any

import numpy
import torch
from PIL import Image

from few_shot.episodes import Episode

IMAGE, EOC = "<image>", "<EOC>"
ROWS = 250
"""Episodes of a batch."""


@dataclass(frozen=True)
class Answers:
    """Of N episodes.

    Attributes:
        right: (N,) bool, whether the answer is the likeliest of the episode's names.
        free: (N,) bool, whether each of its syllables is the likeliest of all tokens.
    """

    right: torch.Tensor
    free: torch.Tensor


def prompt_of(episode: Episode) -> str:
    """``<image>NAME<EOC>`` for each example, then the query's ``<image>``.

    Without examples two of the names stand before it without images, as in the paper's zero-shot prompts.
    """
    shown = [f"{IMAGE}{name}{EOC}" for _, name in episode.examples]
    if not shown:
        shown = [f"{name}{EOC}" for name in episode.names[:2]]
    return "".join(shown) + IMAGE


@torch.no_grad()
def answer(model: Any, tokenizer: Any, episodes: list[Episode], blank: bool = False) -> Answers:
    """Answer episodes of one setting.

    Args:
        model: an exported Flamingo.
        tokenizer: of its processor.
        episodes: with the same numbers of examples and names each.
        blank: black images in place of all.
    """
    batches = (episodes[start : start + ROWS] for start in range(0, len(episodes), ROWS))
    parts = [_answer(model, tokenizer, batch, blank) for batch in batches]
    return Answers(torch.cat([part.right for part in parts]), torch.cat([part.free for part in parts]))


def _answer(model: Any, tokenizer: Any, episodes: list[Episode], blank: bool) -> Answers:
    prompts = torch.tensor(tokenizer([prompt_of(episode) for episode in episodes])["input_ids"])
    pixels = pixels_of(episodes)
    if blank:
        pixels = torch.full_like(pixels, -1.0)
    media = model.project_media(model.encode_media(pixels))
    likelihoods, choices = [], []
    for number in range(len(episodes[0].names)):
        names = [episode.names[number] for episode in episodes]
        ids = torch.tensor(tokenizer(names, add_special_tokens=False)["input_ids"])
        length = ids.shape[1]
        logits = model(torch.cat([prompts, ids], 1), media_key_values=media, logits_to_keep=length + 1).logits
        logits = logits[:, -length - 1 : -1].float()
        likelihoods.append(logits.log_softmax(-1).gather(2, ids.unsqueeze(2)).sum((1, 2)))
        choices.append((logits.argmax(-1) == ids).all(1))
    answers = torch.tensor([episode.names.index(episode.answer) for episode in episodes])
    free = torch.stack(choices, 1).gather(1, answers.unsqueeze(1)).squeeze(1)
    return Answers(torch.stack(likelihoods, 1).argmax(1) == answers, free)


def pixels_of(episodes: list[Episode]) -> torch.Tensor:
    """(N, T, 1, 3, 8, 8) in -1 to 1, the query last."""
    shown = [[*(image for image, _ in episode.examples), episode.query] for episode in episodes]
    gray = torch.from_numpy(numpy.array(shown)).float() / 255
    return (2 * gray - 1)[:, :, None, None].expand(-1, -1, -1, 3, -1, -1)


def require_same_inputs(processor: Any, episode: Episode) -> None:
    """Hold this file's inputs against the processor's.

    Raises:
        ValueError: they differ, so scores would be of something else than the model is used with.
    """
    images = [Image.fromarray(image) for image in [*(image for image, _ in episode.examples), episode.query]]
    theirs = processor(images=[images], text=[prompt_of(episode)])
    ids = torch.tensor([processor.tokenizer(prompt_of(episode))["input_ids"]])
    # fp32 rounding of values of order 1.
    same_pixels = torch.allclose(theirs["pixel_values"].view(-1), pixels_of([episode]).reshape(-1), rtol=0, atol=1e-6)
    if not same_pixels or not torch.equal(theirs["input_ids"], ids):
        raise ValueError("the processor makes other inputs of an episode than tools/few_shot/scoring.py")
