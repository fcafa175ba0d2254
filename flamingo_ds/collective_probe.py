"""One rank's all-reduces for :mod:`flamingo_ds.launching.preflight`: a process of its own, since it may hang or crash.

It prints a JSON object a line, and reads one with ``address`` and ``port`` to meet at, ``rank``, ``ranks``,
``local_rank``, ``nodes`` (the ranks of each, such as ``[[0, 1], [2, 3]]``) and ``seconds`` to wait at most. It imports
torch and nothing else, and is started by name alone: the launching package itself does without torch.
"""

import json
import sys
import time
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist

MEGABYTES_OF_GPU, MEGABYTES_OF_CPU = 64, 8


def main() -> None:
    """Answer for torch; then, when told where the others are, join them and reduce."""
    tell(gpus=torch.cuda.device_count(), phase="waiting")
    line = sys.stdin.readline()
    if not line:  # another node is bad
        return
    place = json.loads(line)
    device = torch.device("cpu")
    if count := torch.cuda.device_count():
        device = torch.device("cuda", place["local_rank"] if count > 1 else 0)
        torch.cuda.set_device(device)
    tell(phase="joining")
    timeout = timedelta(seconds=place["seconds"])
    dist.init_process_group(
        "gloo" if device.type == "cpu" else "nccl",
        init_method=f"tcp://{place['address']}:{place['port']}",
        rank=place["rank"],
        world_size=place["ranks"],
        timeout=timeout,
    )
    own, _ = dist.new_subgroups_by_enumeration(place["nodes"], timeout=timeout)
    assert isinstance(own, dist.ProcessGroup)
    tell(phase="reducing on the node")
    on_node = reduce_seconds(own, device)
    tell(phase="reducing over all ranks")
    over_all = reduce_seconds(None, device)
    tell(phase="done", node_seconds=on_node, all_seconds=over_all, megabytes=megabytes(device))
    dist.destroy_process_group()


def reduce_seconds(group: dist.ProcessGroup | None, device: torch.device) -> float:
    """Of one all-reduce behind a first one, which builds connections.

    Raises:
        RuntimeError: it took too long, or the sum is wrong.
    """
    seconds, ranks = 0.0, dist.get_world_size(group)
    for _ in range(2):
        values = torch.ones(megabytes(device) * 250_000, device=device)
        dist.barrier(group)
        began = time.perf_counter()
        dist.all_reduce(values, group=group)
        total = values.mean().item()  # waits for a GPU
        seconds = time.perf_counter() - began
        if total != ranks:
            raise RuntimeError(f"ones of {ranks} ranks add up to {total}")
    return seconds


def megabytes(device: torch.device) -> int:
    """MB (1e6 bytes) of what is reduced."""
    return MEGABYTES_OF_CPU if device.type == "cpu" else MEGABYTES_OF_GPU


def tell(**message: Any) -> None:
    """Print a line for the parent."""
    print(json.dumps(message), flush=True)


if __name__ == "__main__":
    main()
