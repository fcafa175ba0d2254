"""AdamW with the paper's groups (appendix B.1.2): weight decay 0.1, but none on the resampler."""

import torch
from torch import nn

from ..config.schema import OptimizerConfig

WITHOUT_DECAY = ("resampler.", "new_token_")


def build_optimizer(model: nn.Module, config: OptimizerConfig, fused: bool = False) -> torch.optim.AdamW:
    """AdamW over the trainable parameters in two groups.

    Matrices of the gated blocks (and of backbones that train) decay. The resampler does not, as in the paper; norms,
    gates and the new tokens' rows do not either, for pulling those to zero makes nothing simpler.

    Args:
        model: with ``requires_grad`` set.
        config: the recipe's ``train.optimizer``.
        fused: one vectorised loop instead of an operation at a time: for offloaded masters, which the CPU steps on.
    """
    decay: list[nn.Parameter] = []
    no_decay: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            shape = getattr(parameter, "ds_shape", parameter.shape)  # ZeRO-3 hides it behind an empty tensor
            spared = len(shape) < 2 or name.startswith(WITHOUT_DECAY)
            (no_decay if spared else decay).append(parameter)
    groups = [{"params": decay, "weight_decay": config.weight_decay}, {"params": no_decay, "weight_decay": 0.0}]
    groups = [group for group in groups if group["params"]]
    return torch.optim.AdamW(groups, lr=0.0, betas=config.betas, eps=config.eps, fused=fused or None)
