"""timm networks whose last feature map is a grid, in transformers' wrapper (paper: NFNet-F6)."""

from typing import Any

import timm
import torch
from transformers import TimmWrapperConfig

PROBE = 256  # pixels a side; enough for a map of several cells


def timm_config(name: str) -> TimmWrapperConfig:
    """Configuration of a network by timm's name, without its classifier.

    Raises:
        ValueError: see :func:`grid_width`.
    """
    config = TimmWrapperConfig(architecture=name, do_pooling=False)
    grid_width(config)
    return config


def grid_width(config: TimmWrapperConfig) -> int:
    """Channels of the last feature map, found on the meta device.

    Raises:
        ValueError: an unknown name, or a network that gives tokens, or a map with its channels last.
    """
    try:
        with torch.device("meta"):
            network = _network(config)
            size = network.pretrained_cfg.get("input_size", (3, PROBE, PROBE))
            shape = tuple(network.forward_features(torch.empty(1, *size)).shape)
    except RuntimeError as error:
        raise ValueError(f"a timm network: {error}") from error
    if len(shape) != 4 or shape[1] != network.num_features:
        hint = "; SigLIP: library transformers, source google/siglip-..." if "siglip" in config.architecture else ""
        raise ValueError(f"a timm network whose features are (N, C, H, W); {config.architecture} gives {shape}{hint}")
    return int(network.num_features)


def input_size(config: TimmWrapperConfig) -> int:
    """Pixels a side that a network was made for."""
    with torch.device("meta"):
        network = _network(config)
    return int(network.pretrained_cfg.get("input_size", (3, PROBE, PROBE))[-1])


def _network(config: TimmWrapperConfig) -> Any:
    return timm.create_model(config.architecture, num_classes=0, **(config.model_args or {}))
