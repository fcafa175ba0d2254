"""The same model's DeepSpeed checkpoint: ``python -m tools.benchmark.zero_checkpoint CHECKPOINT OUT``."""

import os
import sys
from pathlib import Path

import deepspeed
import torch.distributed as dist

from flamingo_ds.checkpoint.conversion.source_checkpoint import SourceCheckpoint
from flamingo_ds.parallel import Filler


def main() -> None:
    """One rank, ZeRO stage 3."""
    os.environ |= {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1"}
    source = SourceCheckpoint.open(Path(sys.argv[1]))
    Filler(lambda name: source.stored(name).value(), dtype=source.training_dtype).fill(source.model)
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    deepspeed.init_distributed("gloo", verbose=False)
    settings = {
        "train_micro_batch_size_per_gpu": 1,
        "bf16": {"enabled": True},
        "zero_optimization": {"stage": 3},
        "optimizer": {"type": "AdamW", "params": {"torch_adam": True}},
        "zero_allow_untested_optimizer": True,
    }
    trained = [parameter for parameter in source.model.parameters() if parameter.requires_grad]
    engine, *_ = deepspeed.initialize(model=source.model, model_parameters=trained, config=settings)
    engine.save_checkpoint(sys.argv[2])


if __name__ == "__main__":
    main()
