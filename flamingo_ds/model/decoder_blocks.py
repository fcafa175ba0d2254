"""Where a language model keeps its blocks, and running gated cross-attention before them."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from .media_mask import MediaView

# transformers model_type -> path of the list of decoder blocks inside the causal LM.
BLOCK_PATHS = {
    "gemma3_text": "model.layers",
    "gpt2": "transformer.h",
    "gpt_neox": "gpt_neox.layers",
    "gptj": "transformer.h",
    "llama": "model.layers",
    "mistral": "model.layers",
    "mpt": "transformer.blocks",
    "olmo2": "model.layers",
    "opt": "model.decoder.layers",
    "phi3": "model.layers",
    "qwen3": "model.layers",
}


def decoder_blocks(language_model: PreTrainedModel) -> nn.ModuleList:
    """The list of decoder blocks; an unknown family is searched for the one list of the right length.

    Raises:
        ValueError: no list, or several, could be the blocks.
    """
    family, depth = language_model.config.model_type, language_model.config.num_hidden_layers
    if family in BLOCK_PATHS:
        blocks = language_model.get_submodule(BLOCK_PATHS[family])
        assert isinstance(blocks, nn.ModuleList)
        return blocks
    found = {
        name: module
        for name, module in language_model.named_modules()
        if isinstance(module, nn.ModuleList) and len(module) == depth
    }
    if len(found) != 1:
        raise ValueError(
            f"language model family {family!r} is unknown: looked for one list of {depth} blocks, "
            f"found {sorted(found) or 'none'}; name its path in BLOCK_PATHS"
        )
    return next(iter(found.values()))


@contextmanager
def gated_blocks_before(
    blocks: nn.ModuleList,
    gated: nn.ModuleDict,
    media: torch.Tensor | None,
    view: MediaView | None,
    projected: bool,
) -> Iterator[None]:
    """While this is open, LM block i is preceded by ``gated[str(i)]``.

    The hooks carry this call's media and are gone after it: nothing is left on a layer between two calls.

    Args:
        blocks: the LM's decoder blocks.
        gated: gated blocks by the index of the LM block they stand before.
        media: (B, T, R, D) latents; or with ``projected`` (B, J, T, R, 2 I), the keys and values of all J gated blocks;
            or None for a text without images.
        view: what each token sees of them.
        projected: see ``media``.
    """
    with ExitStack() as hooks:
        for number, (index, block) in enumerate(gated.items()):
            own = media[:, number] if media is not None and projected else media
            handle = blocks[int(index)].register_forward_pre_hook(
                _before(block, own, view, projected), with_kwargs=True
            )
            hooks.callback(handle.remove)
        yield


def _before(gated_block: nn.Module, media: torch.Tensor | None, view: MediaView | None, projected: bool) -> Any:
    def hook(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        if args:
            return (gated_block(args[0], media, view, projected), *args[1:]), kwargs
        return args, {**kwargs, "hidden_states": gated_block(kwargs["hidden_states"], media, view, projected)}

    return hook
