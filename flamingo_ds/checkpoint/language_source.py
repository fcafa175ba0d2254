"""The language model and its tokenizer, from where the recipe says."""

from typing import Any

from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedConfig, PreTrainedModel

from ..config import ConfigError
from ..config.schema import LanguageModelConfig
from .backbone_weights import BackboneWeights, WholeWeights, stream
from .sources import COMPLAIN, require_whole, source_errors

KEY = "model.language_model"
WEIGHTS = "causal language model weights"


def tokenizer(config: LanguageModelConfig) -> Any:
    """The tokenizer of ``source``; it refuses texts past the LM's context where that is known.

    Raises:
        ConfigError: a source that is not there or holds none.
    """
    with source_errors(f"{KEY}.source", config.source, "a transformers tokenizer"):
        return AutoTokenizer.from_pretrained(config.source, **_where(config))


def text_config(config: LanguageModelConfig) -> PreTrainedConfig:
    """Of ``source``, or the one that the recipe spells out.

    Raises:
        ConfigError: a source that is not there, or an architecture that transformers does not know.
    """
    if config.architecture is None:
        with source_errors(f"{KEY}.source", config.source, "a transformers causal language model"):
            return AutoConfig.from_pretrained(config.source, **_where(config))
    return spelled_out(f"{KEY}.architecture", config.architecture)


def spelled_out(key: str, architecture: dict[str, Any]) -> PreTrainedConfig:
    """A transformers configuration from a recipe's own words.

    Raises:
        ConfigError: without ``model_type``, or with values that its class refuses.
    """
    settings = dict(architecture)
    try:
        return AutoConfig.for_model(settings.pop("model_type"), **settings)
    except KeyError as error:
        raise ConfigError(key, architecture, "a model_type, and settings of it") from error
    except Exception as error:  # transformers' strict configurations raise types of their own
        reason = " ".join(str(error).split())
        raise ConfigError(key, architecture, f"settings that transformers takes: {reason}") from error


def weights(config: LanguageModelConfig, skeleton: PreTrainedModel, seed: int) -> BackboneWeights:
    """The LM's weights in the dtype of their source; drawn at random where the recipe says so.

    Args:
        config: of the recipe.
        skeleton: the LM without memory.
        seed: of what is drawn.

    Raises:
        ConfigError: weights that are not there or do not fit; some formats only when they are first read.
    """
    if config.from_scratch or config.architecture is not None:
        text, trusted = skeleton.config, config.trust_remote_code
        return WholeWeights(lambda: AutoModelForCausalLM.from_config(text, trust_remote_code=trusted), seed)
    with source_errors(f"{KEY}.source", config.source, WEIGHTS):
        return stream(config.source, config.revision, skeleton) or WholeWeights(lambda: _load(config), seed)


def _load(config: LanguageModelConfig) -> PreTrainedModel:
    with source_errors(f"{KEY}.source", config.source, WEIGHTS):
        loaded: Any = AutoModelForCausalLM.from_pretrained(config.source, dtype="auto", **_where(config), **COMPLAIN)
        require_whole(loaded[1])
        return loaded[0]


def _where(config: LanguageModelConfig) -> dict[str, Any]:
    return {"revision": config.revision, "trust_remote_code": config.trust_remote_code}
