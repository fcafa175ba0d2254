"""A hostfile for ``deepspeed --hostfile`` from the nodes and GPUs that SLURM granted to this job.

    n1 slots=8
    n2 slots=8

``--gpus=4 --nodes=2`` may grant three GPUs on one node and one on the other, so what was asked for is no answer.
"""

import argparse
import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence

from ..errors import EXIT_BAD_INPUT, EXIT_DONE, ConfigError
from .hostlist import expand_hostlist

# Of ``scontrol --details show job``, once for nodes alike: Nodes=n[1-2] CPU_IDs=0-7 Mem=0 GRES=gpu:a100:8(IDX:0-7)
_GRANT = re.compile(r"\bNodes=(\S+) CPU_IDs=\S* Mem=\S* GRES=(\S*)")
_GPUS = re.compile(r"gpu(?::[^:,(]+)?:(\d+)")


def main(arguments: Sequence[str] | None = None) -> int:
    """Print it; see ``--help``.

    Returns:
        0, or 2 outside of a job, for uneven nodes, or for another number of GPUs than is wanted.
    """
    parser = argparse.ArgumentParser(prog="launchers/hostfile.py", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--slots", type=int, metavar="N", help="ranks a node; default: a rank a GPU")
    wanted = parser.parse_args(arguments).slots
    try:
        hosts = granted(os.environ)
        print(hostfile(hosts, wanted), end="")
    except ConfigError as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_BAD_INPUT
    return EXIT_DONE


def hostfile(hosts: Mapping[str, int], wanted: int | None) -> str:
    """A line a node.

    Args:
        hosts: GPUs of each node.
        wanted: ranks on each; None: as many as GPUs.

    Raises:
        ConfigError: nodes differ, or have GPUs but not as many as ranks.
    """
    counts = set(hosts.values())
    if len(counts) > 1:
        uneven = ", ".join(f"{host}: {count}" for host, count in hosts.items())
        raise ConfigError("GPUs", uneven, "the same on each node; ask for them with --gpus-per-node, not --gpus")
    gpus = counts.pop()
    if wanted is None and not gpus:
        raise ConfigError("--slots", None, "ranks a node, as no GPUs were granted")
    if wanted is not None and gpus and wanted != gpus:
        raise ConfigError("--slots", wanted, f"{gpus}, the GPUs that each node was granted")
    return "".join(f"{host} slots={wanted or gpus}\n" for host in hosts)


def granted(environ: Mapping[str, str]) -> dict[str, int]:
    """GPUs of this job by node, in the order of nodes.

    Raises:
        ConfigError: there is no job, or SLURM does not tell.
    """
    job = environ.get("SLURM_JOB_ID")
    if not job:
        raise ConfigError("SLURM_JOB_ID", job, "a job: run it in a batch script, or under salloc")
    command = ["scontrol", "--details", "--oneliner", "show", "job", job]
    try:
        said = subprocess.run(command, capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ConfigError("scontrol", str(error), "SLURM's answer on this job") from error
    hosts = parse_grants(said.stdout)
    if said.returncode or not hosts:
        raise ConfigError("scontrol", (said.stderr or said.stdout).strip()[:200], "the nodes of this job")
    return hosts


def parse_grants(details: str) -> dict[str, int]:
    """GPUs by node out of what ``scontrol --details`` says of a job."""
    return {
        host: sum(map(int, _GPUS.findall(grant)))
        for nodes, grant in _GRANT.findall(details)
        for host in expand_hostlist(nodes)
    }


if __name__ == "__main__":
    sys.exit(main())
