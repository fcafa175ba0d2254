"""Where rank, world size and master come from, and joining the others."""

import logging
import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta

import deepspeed
import torch.distributed as dist

from ..config import ConfigError

VARIABLES = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


@dataclass(frozen=True)
class Launch:
    """One process among ``world_size``."""

    rank: int
    local_rank: int
    world_size: int
    master_address: str
    master_port: int

    @property
    def is_main(self) -> bool:
        """Whether this process speaks for all."""
        return self.rank == 0


def read_launch(environ: Mapping[str, str]) -> Launch:
    """The process's place, as the deepspeed launcher and torchrun say it: all five variables, or a single process.

    Raises:
        ConfigError: some of the variables but not all, or a value that is no number.
    """
    present = [name for name in VARIABLES if environ.get(name)]
    ranked = [name for name in present if name in ("RANK", "LOCAL_RANK", "WORLD_SIZE")]
    if not ranked:
        return Launch(0, 0, 1, "127.0.0.1", _free_port())
    absent = [name for name in VARIABLES if name not in present]
    if absent:
        raise ConfigError(
            "environment", ", ".join(present), f"all of {', '.join(VARIABLES)} or none; missing: {', '.join(absent)}"
        )
    rank, local_rank, world_size, port = (_integer(environ, name) for name in (*VARIABLES[:3], "MASTER_PORT"))
    if not 0 <= rank < world_size or not 0 <= local_rank <= rank:
        raise ConfigError(
            "environment",
            f"RANK={rank} LOCAL_RANK={local_rank} WORLD_SIZE={world_size}",
            "0 <= LOCAL_RANK <= RANK < WORLD_SIZE",
        )
    return Launch(rank, local_rank, world_size, environ["MASTER_ADDR"], port)


def init_distributed(launch: Launch, timeout_minutes: float = 30.0) -> None:
    """Join the process group: NCCL where there is a GPU, else gloo.

    Args:
        launch: this process's place.
        timeout_minutes: a collective that waits longer fails on every rank.
    """
    values = (launch.rank, launch.local_rank, launch.world_size, launch.master_address, launch.master_port)
    os.environ.update(zip(VARIABLES, map(str, values), strict=True))
    logging.getLogger("DeepSpeed").setLevel(logging.WARNING)
    # DeepSpeed would compile a shared-memory operator for gloo, for minutes on a small machine and to no gain here.
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    accelerator = deepspeed.get_accelerator()
    if accelerator.device_name() != "cpu":
        accelerator.set_device(launch.local_rank)  # before the first tensor is made, which would go to device 0
    deepspeed.init_distributed(timeout=timedelta(minutes=timeout_minutes), verbose=False)


def shutdown() -> None:
    """Leave the process group, so that the last rank to finish does not find a closed connection."""
    if dist.is_initialized():
        dist.barrier()
        dist.destroy_process_group()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _integer(environ: Mapping[str, str], name: str) -> int:
    try:
        return int(environ[name])
    except ValueError as error:
        raise ConfigError(name, environ[name], "an integer (environment)") from error
