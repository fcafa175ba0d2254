"""The language model and its tokenizer, from where the recipe says."""

from typing import Any

from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedConfig, PreTrainedModel

from ..config import ConfigError
from ..config.schema import LanguageModelConfig
from .sources import COMPLAIN, require_whole, source_errors

KEY = "model.language_model"


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


def load(config: LanguageModelConfig, text: PreTrainedConfig) -> PreTrainedModel:
    """The LM with its weights in the dtype of its source; drawn at random where the recipe says so.

    Raises:
        ConfigError: weights that are not there or do not fit.
    """
    if config.from_scratch or config.architecture is not None:
        return AutoModelForCausalLM.from_config(text, trust_remote_code=config.trust_remote_code)
    with source_errors(f"{KEY}.source", config.source, "causal language model weights"):
        loaded: Any = AutoModelForCausalLM.from_pretrained(config.source, dtype="auto", **_where(config), **COMPLAIN)
        require_whole(loaded[1])
        return loaded[0]


def _where(config: LanguageModelConfig) -> dict[str, Any]:
    return {"revision": config.revision, "trust_remote_code": config.trust_remote_code}
