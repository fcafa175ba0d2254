"""A SLURM cluster on one machine: munge, slurmctld and a slurmd a node, each machine in namespaces of its own.

A machine has its own address, host name, process ids, ``/tmp`` and ``/dev/shm``. It is one child of this process, so it
can be killed with everything on it, and nothing outlives the tests: the kernel takes processes, mounts and interfaces
along with the namespaces.
"""

import contextlib
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from .configuration import address, write_configuration

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "ip", "unshare", "nsenter", "setpriv", "mknod")
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# For what takes seconds, on a machine with other work.
PATIENCE = 300.0


def why_not() -> str | None:
    """What keeps a cluster from starting here, or None."""
    missing = [name for name in PROGRAMS if shutil.which(name, path=SYSTEM_PATH) is None]
    if missing:
        return f"not installed: {', '.join(missing)} (Debian: slurm-wlm, munge, iproute2)"
    if os.geteuid():
        return "needs root, for network interfaces and device files"
    trial = subprocess.run(["unshare", "--net", "--uts", "--mount", "--pid", "--fork", "true"], capture_output=True)
    return None if trial.returncode == 0 else f"no namespaces: {trial.stderr.decode().strip()}"


def wait_until(condition: Callable[[], object], what: str, patience: float = PATIENCE) -> None:
    """Ask again and again, less and less often: what is asked may cost a process.

    Raises:
        AssertionError: it did not become true.
    """
    deadline, pause = time.monotonic() + patience, 0.05
    while not condition():
        assert time.monotonic() < deadline, f"not within {patience:.0f} s: {what}"
        time.sleep(pause)
        pause = min(1.2 * pause, 0.5)


class Cluster:
    """Nodes ``n1``, ``n2``, ... and a ``head`` that one submits from.

    Args:
        folder: for its files; all machines see it, what jobs share goes below ``shared``.
        nodes: how many.
        kill_wait: seconds between TERM and KILL.
    """

    def __init__(self, folder: Path, nodes: int, kill_wait: int = 10) -> None:
        self.lab = folder
        self.shared = folder / "shared"
        self.nodes = [f"n{number}" for number in range(1, nodes + 1)]
        self.kill_wait = kill_wait
        self.has_ssh = all(shutil.which(name, path=SYSTEM_PATH) for name in ("sshd", "ssh-keygen", "ssh"))
        self.machines: dict[str, subprocess.Popen[bytes]] = {}
        self.inits: dict[str, int] = {}

    def __enter__(self) -> "Cluster":
        write_configuration(self.lab, self.nodes, self.kill_wait, self.has_ssh)
        self.shared.mkdir()
        try:
            for machine in ("head", *self.nodes):
                self._start(machine)
            self.wait_idle(*self.nodes)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End all machines, with whatever runs there."""
        for machine in list(self.machines):
            self._kill(machine)

    def run(
        self, *command: str, on: str = "head", check: bool = True, **environment: str
    ) -> "subprocess.CompletedProcess[str]":
        """A command on a machine, in the project's folder, with the environment's programs on the path."""
        done = subprocess.run(
            self.entering(on, *command), env=self.environment(**environment), capture_output=True, text=True
        )
        assert not check or done.returncode == 0, f"{command}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    def entering(self, machine: str, *command: str) -> list[str]:
        """The command line that runs a command there."""
        inside = ["nsenter", "-t", str(self.inits[machine]), "--net", "--uts", "--mount", "--pid"]
        return [*inside, "env", "-C", str(ROOT), *command]

    def environment(self, **more: str) -> dict[str, str]:
        """Of commands and jobs: nothing of the tests' own, so that it is as after a login."""
        base = {"PATH": f"{Path(sys.executable).parent}:{SYSTEM_PATH}", "HOME": os.environ.get("HOME", "/root")}
        return base | {"LANG": "C.UTF-8", "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"} | more

    def crash(self, node: str) -> None:
        """Cut a node's power. SLURM is told at once; by itself it would notice after five minutes."""
        self._kill(node)
        self.run("scontrol", "update", f"nodename={node}", "state=down", "reason=crashed")

    def boot(self, node: str) -> None:
        """Start a crashed node again; returns when it takes jobs."""
        self._start(node)
        self.run("scontrol", "update", f"nodename={node}", "state=resume", check=False)
        self.wait_idle(node)

    def cable(self, node: str, plugged: bool) -> None:
        """Pull a node's network cable, or plug it in."""
        self._switch(f"link set port-{node} {'up' if plugged else 'down'}")

    def wait_idle(self, *nodes: str) -> None:
        """Until these nodes are up and have nothing to do."""

        def all_idle() -> bool:
            said = self.run("sinfo", "-h", "-N", "-p", "main", "-o", "%N %t", check=False).stdout
            return set(nodes) <= {line.split()[0] for line in said.splitlines() if line.endswith(" idle")}

        wait_until(all_idle, f"{', '.join(nodes)} idle; see {self.lab / 'log'}")

    def job(self, number: str) -> dict[str, str]:
        """What ``scontrol show job`` says: JobState, ExitCode, Restarts, NodeList, ExcNodeList, ..."""
        said = self.run("scontrol", "-o", "show", "job", number).stdout
        return dict(re.findall(r"(\S+?)=(\S*)", said))

    def wait_job(self, number: str, *states: str, restarts: int = 0, patience: float = PATIENCE) -> dict[str, str]:
        """Until a job is in one of these states, after at least so many restarts."""
        found: dict[str, str] = {}

        def there() -> bool:
            found.clear()
            found.update(self.job(number))
            return found["JobState"] in states and int(found["Restarts"]) >= restarts

        with contextlib.suppress(AssertionError):
            wait_until(there, "", patience)
        assert there(), f"job {number} is not {' or '.join(states)} after {restarts} restarts: {found}"
        return found

    def _start(self, machine: str) -> None:
        # setpriv: where these tests are killed, the kernel ends the machines.
        namespaces = "setpriv --pdeathsig KILL unshare --net --uts --mount --pid --fork --kill-child --mount-proc"
        shared = map(str, (self.lab, ROOT, Path(sys.prefix).resolve()))
        process = subprocess.Popen(
            [*namespaces.split(), "bash", str(HERE / "node.sh"), machine, address(machine), *shared],
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
        self.machines[machine] = process
        wait_until(lambda: self._find_init(machine), f"{machine} has a first process")
        if machine == "head":
            into = ["nsenter", "-t", str(self.inits["head"]), "--net", "ip", "link", "show", "eth0"]
            wait_until(lambda: subprocess.run(into, capture_output=True).returncode == 0, "the head has a network")
        else:
            # The kernel takes the plug of a crashed node away when it finds the time.
            self._switch(f"link delete port-{machine}", check=False)
            self._switch(f"link add port-{machine} type veth peer name eth0 netns {self.inits[machine]}")
            self._switch(f"link set port-{machine} master eth0 up")

    def _switch(self, change: str, check: bool = True) -> None:
        """Change the head's network, to which all nodes are plugged; processes keep their numbers of outside."""
        into = ["nsenter", "-t", str(self.inits["head"]), "--net"]
        subprocess.run([*into, "ip", *change.split()], check=check, capture_output=True)

    def _find_init(self, machine: str) -> bool:
        """unshare starts a helper first; the machine's first process is its child that runs the script."""
        parent = self.machines[machine].pid
        assert self.machines[machine].poll() is None, f"{machine} does not start"
        for child in Path(f"/proc/{parent}/task/{parent}/children").read_text().split():
            with contextlib.suppress(OSError):
                if b"node.sh" in Path(f"/proc/{child}/cmdline").read_bytes():
                    self.inits[machine] = int(child)
                    return True
        return False

    def _kill(self, machine: str) -> None:
        process = self.machines.pop(machine)
        self.inits.pop(machine, None)
        process.kill()  # --kill-child: its namespaces' first process dies with it, and with that one all others
        process.wait()
