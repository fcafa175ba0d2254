"""What every parameter of a new Flamingo starts with: backbones from their sources, the rest drawn.

Asked for one by one, in any order, by any rank: what is drawn depends on the seed and its own name alone, so every
layout starts with the same model.
"""

from collections.abc import Mapping

import torch
from torch import nn

from ..config import ConfigError, ModelConfig
from ..model import FlamingoForConditionalGeneration
from ..model.build_layers import build_gated_block, build_resampler
from ..parallel import ReadWeight
from . import language_source, vision_source
from .backbone_weights import load_persistent_buffers
from .random_states import drawing_on_cpu, seed_for
from .stored_tensor import StoredTensor

EMBEDDING, HEAD = "new_token_embedding", "new_token_head"


class InitialWeights:
    """Reads or draws the weights of one model.

    Args:
        skeleton: of the model, its parameters on the meta device. Its backbones' persistent buffers are read at once.
        recipe: where the backbones come from.
        seed: of what is drawn.

    Raises:
        ConfigError: a source that is not there or does not fit.
    """

    def __init__(self, skeleton: FlamingoForConditionalGeneration, recipe: ModelConfig, seed: int) -> None:
        self.skeleton, self.seed = skeleton, seed
        # The first stage's and the last's would be gone from a pruned model: names are looked up now.
        self.embedding, self.head = _embedding_names(skeleton)
        self.tied = skeleton.config.tie_word_embeddings
        self.init_weights = skeleton._init_weights
        self.config = skeleton.config
        self.language_model = language_source.weights(
            recipe.language_model, skeleton.language_model, seed_for(seed, "language_model")
        )
        self.vision_model = vision_source.weights(
            recipe.vision_encoder, skeleton.vision_model, seed_for(seed, "vision_model")
        )
        load_persistent_buffers(skeleton.vision_model, self.vision_model)
        load_persistent_buffers(skeleton.language_model, self.language_model)
        self.drawn: tuple[str, dict[str, torch.Tensor]] = ("", {})

    def read(self, name: str) -> torch.Tensor:
        """By canonical name; backbones in the dtype of their source, what is drawn in fp32."""
        return self.stored(name).value()

    def stored(self, name: str) -> StoredTensor:
        """The same, to be looked at in chunks."""
        top, _, rest = name.partition(".")
        if top == "language_model":
            return self.language_model.stored(rest)
        if top == "vision_model":
            return self.vision_model.stored(rest)
        unit = ".".join(name.split(".")[:2]) if top == "gated_cross_attention" else top
        if unit != self.drawn[0]:
            self.drawn = (unit, self._draw(unit))
        return StoredTensor.plain(self.drawn[1][name.removeprefix(f"{unit}.")])

    @torch.no_grad()
    def _draw(self, unit: str) -> dict[str, torch.Tensor]:
        with drawing_on_cpu(seed_for(self.seed, unit)):
            if unit in (EMBEDDING, HEAD):
                known = self.language_model.stored(
                    self.embedding if unit == EMBEDDING or self.tied else self.head
                ).value()
                return {"weight": _plausible_words(known, self.config.num_new_tokens)}
            with torch.device("meta"):
                built: nn.Module = (
                    build_resampler(self.config) if unit == "resampler" else build_gated_block(self.config)
                )
            return built.to_empty(device="cpu").apply(self.init_weights).state_dict()


def trained_over(initial: ReadWeight, trained: Mapping[str, torch.Tensor]) -> ReadWeight:
    """A checkpoint's weights where it has them, else the initial ones."""
    return lambda name: trained[name] if name in trained else initial(name)


def require_fit(skeleton: nn.Module, trained: Mapping[str, torch.Size], checkpoint: str) -> None:
    """Refuse a checkpoint whose weights are not the model's trainable ones.

    Args:
        skeleton: of the model, frozen by its table.
        trained: names and shapes of the checkpoint's weights.
        checkpoint: for the message.

    Raises:
        ConfigError: the first name or shape that differs.
    """
    wanted = {name: parameter.shape for name, parameter in skeleton.named_parameters() if parameter.requires_grad}
    if odd := sorted(trained.keys() ^ wanted.keys()):
        where = "checkpoint" if odd[0] in trained else "model"
        raise ConfigError("checkpoint", checkpoint, f"the model's trainable weights; {odd[0]} is only in the {where}")
    for name, shape in wanted.items():
        if trained[name] != shape:
            shapes = f"{name} {tuple(shape)}, not {tuple(trained[name])}"
            raise ConfigError("checkpoint", checkpoint, f"the model's shapes: {shapes}")


def _embedding_names(model: FlamingoForConditionalGeneration) -> tuple[str, str]:
    """Names of the LM's embedding and head within it."""
    modules = {id(module): name for name, module in model.language_model.named_modules()}
    embedding, head = (modules[id(module)] for module in (model.get_input_embeddings(), model.get_output_embeddings()))
    return f"{embedding}.weight", f"{head}.weight"


def _plausible_words(known: torch.Tensor, count: int) -> torch.Tensor:
    """New rows start as the average known token plus a little noise: a plausible word, told apart from the others."""
    mean, spread = known.float().mean(0), known.float().std()
    return mean + 0.1 * spread * torch.randn(count, known.shape[1])
