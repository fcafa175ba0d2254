"""The files below /etc of the test cluster's machines."""

import os
import subprocess
from pathlib import Path
from string import Template

GPUS, CPUS = 8, 16
# sbatch takes this address for the controller's, and nodes n1, n2, ... follow from .11 on.
NETWORK = "10.77.0"

SLURM = Template("""\
ClusterName=lab
SlurmctldHost=head($network.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
# A requeued job waits until its old credential has expired: 2 minutes, or as here 6 seconds.
AuthInfo=socket=$lab/run/munge.sock,cred_expire=5
CredType=cred/munge
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,sched_interval=1,bf_interval=1
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
SlurmctldParameters=preempt_send_user_signal
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
GresTypes=gpu
JobRequeue=1
ReturnToService=2
KillWait=$kill_wait
SlurmdTimeout=300
SlurmctldTimeout=10
InactiveLimit=0
MinJobAge=3600
StateSaveLocation=$lab/state
SlurmdSpoolDir=$lab/local/%n/spool
SlurmctldPidFile=$lab/run/slurmctld.pid
SlurmdPidFile=$lab/run/slurmd-%n.pid
SlurmctldLogFile=$lab/log/slurmctld.log
SlurmdLogFile=$lab/log/slurmd-%n.log
SlurmdParameters=config_overrides
MailProg=/bin/true
NodeName=n[1-$nodes] CPUs=$cpus RealMemory=4000 Gres=gpu:$gpus State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES DefaultTime=60 MaxTime=INFINITE PriorityTier=10 PreemptMode=OFF
PartitionName=low Nodes=ALL MaxTime=INFINITE PriorityTier=1 PreemptMode=REQUEUE GraceTime=5
PartitionName=high Nodes=ALL MaxTime=INFINITE PriorityTier=99 PreemptMode=OFF
""")
SSH_CLIENT = """\
Host *
  IdentityFile {lab}/etc/ssh/identity
  StrictHostKeyChecking no
  UserKnownHostsFile /dev/null
  LogLevel ERROR
"""
SSH_SERVER = """\
HostKey {lab}/etc/ssh/identity
AuthorizedKeysFile {lab}/etc/ssh/identity.pub
PermitRootLogin yes
StrictModes no
UsePAM no
PidFile none
MaxStartups 100
"""


def address(machine: str) -> str:
    """Of ``head`` or of a node ``n1``, ``n2``, ..."""
    return f"{NETWORK}.{1 if machine == 'head' else 10 + int(machine[1:])}"


def write_configuration(lab: Path, nodes: list[str], kill_wait: int, ssh: bool) -> None:
    """Everything that the machines need, below ``lab``.

    Args:
        lab: the cluster's folder.
        nodes: their names.
        kill_wait: seconds between TERM and KILL.
        ssh: whether the nodes let each other in, as pdsh needs it.
    """
    for folder in ("etc/slurm", "run", "log", "state", "dev", "local"):
        (lab / folder).mkdir(parents=True)
    lines = ["127.0.0.1 localhost", *(f"{address(machine)} {machine}" for machine in ("head", *nodes))]
    (lab / "etc/hosts").write_text("\n".join(lines) + "\n")
    (lab / "etc/munge.key").write_bytes(os.urandom(128))
    (lab / "etc/munge.key").chmod(0o600)
    values = {"lab": lab, "network": NETWORK, "nodes": len(nodes), "cpus": CPUS, "gpus": GPUS, "kill_wait": kill_wait}
    (lab / "etc/slurm/slurm.conf").write_text(SLURM.substitute(values))
    (lab / "etc/slurm/gres.conf").write_text(f"Name=gpu File={lab}/dev/gpu[0-{GPUS - 1}]\n")
    # slurmd looks for cgroups even where nothing uses them; told the version it does not mind that there are none.
    (lab / "etc/slurm/cgroup.conf").write_text("CgroupPlugin=cgroup/v1\n")
    for gpu in range(GPUS):  # only a device file makes SLURM set CUDA_VISIBLE_DEVICES; this one is like /dev/null
        subprocess.run(["mknod", str(lab / f"dev/gpu{gpu}"), "c", "1", "3"], check=True)
    if ssh:
        (lab / "etc/ssh").mkdir()
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(lab / "etc/ssh/identity")], check=True)
        (lab / "etc/ssh/ssh_config").write_text(SSH_CLIENT.format(lab=lab))
        (lab / "etc/ssh/sshd_config").write_text(SSH_SERVER.format(lab=lab))
