"""Joining the other ranks, and leaving them."""

import logging
import os
from datetime import timedelta

import deepspeed
import torch.distributed as dist
from torch.distributed import distributed_c10d

from ..config import ConfigError
from ..launching.addresses import gloo_interface
from ..launching.launch import Launch
from ..launching.rank_source import VARIABLES


def init_distributed(launch: Launch, timeout_s: float = 1800.0) -> None:
    """Join the process group: NCCL where there is a GPU, else gloo.

    Args:
        launch: this process's place.
        timeout_s: a collective that waits longer fails on every rank, in groups made later too.

    Raises:
        ConfigError: there is no GPU for this rank on its node.
    """
    logging.getLogger("DeepSpeed").setLevel(logging.WARNING)
    # DeepSpeed would compile a shared-memory operator for gloo, for minutes on a small machine and to no gain here.
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    accelerator, device = deepspeed.get_accelerator(), launch.local_rank
    if accelerator.device_name() != "cpu":
        device = device_index(launch.local_rank, accelerator.device_count())
        accelerator.set_device(device)  # before the first tensor is made, which would go to device 0
    # DeepSpeed reads them again, and takes LOCAL_RANK for the number of the device.
    values = (launch.rank, device, launch.world_size, launch.master_address, launch.master_port)
    os.environ.update(zip(VARIABLES, map(str, values), strict=True))
    if launch.nodes > 1 and (interface := gloo_interface(launch.master_address)) is not None:
        os.environ.setdefault("GLOO_SOCKET_IFNAME", interface)
    timeout = timedelta(seconds=timeout_s)
    # DeepSpeed makes groups of its own without a timeout, which then have torch's default.
    distributed_c10d.default_pg_timeout = distributed_c10d.default_pg_nccl_timeout = timeout
    deepspeed.init_distributed(timeout=timeout, verbose=False)


def device_index(local_rank: int, visible: int) -> int:
    """Which of the devices that it sees is this rank's; ``--gpus-per-task=1`` shows each task one, always number 0.

    Raises:
        ConfigError: there are fewer than ranks.
    """
    if visible == 1:
        return 0
    if local_rank >= visible:
        raise ConfigError("LOCAL_RANK", local_rank, f"below {visible}, the GPUs that this rank sees: one for each rank")
    return local_rank


def shutdown() -> None:
    """Leave the process group, so that the last rank to finish does not find a closed connection."""
    if dist.is_initialized():
        dist.barrier()
        dist.destroy_process_group()
