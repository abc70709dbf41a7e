"""A SLURM of one's own: Debian's programs with two nodes on this machine, on 127.0.0.1 only."""

from __future__ import annotations

import getpass
import os
import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "scancel", "squeue", "sinfo")
#: Where Debian has programs that only servers need.
_PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
_SECONDS = 60.0

_CONF = """
ClusterName=tests
SlurmctldHost=localhost(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket
CredType=cred/munge
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdParameters=config_overrides
ReturnToService=2
MpiDefault=none
SwitchType=switch/none
KillWait=5
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldPidFile={folder}/slurmctld.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
MailProg=/bin/true
NodeName=n1 NodeHostname=localhost NodeAddr=127.0.0.1 Port={ports[1]} CPUs=2 RealMemory=4000
NodeName=n2 NodeHostname=localhost NodeAddr=127.0.0.1 Port={ports[2]} CPUs=2 RealMemory=4000
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


def missing_programs() -> list[str]:
    """Return the programs that this machine does not have."""
    return [name for name in PROGRAMS if shutil.which(name, path=_PATH) is None]


@contextmanager
def slurm_system(folder: Path) -> Iterator[dict[str, str]]:
    """Run a SLURM in a folder, and yield the environment in which its programs find it."""
    for name in ("munge", "state", "spool-n1", "spool-n2"):
        (folder / name).mkdir(mode=0o755)
    key = folder / "munge.key"
    key.write_bytes(secrets.token_bytes(128))
    key.chmod(0o400)
    conf = folder / "slurm.conf"
    conf.write_text(_CONF.format(folder=folder, user=getpass.getuser(), ports=_free_ports(3)))
    environment = {"SLURM_CONF": str(conf), "PATH": _PATH}
    daemons: list[subprocess.Popen[bytes]] = []

    def start(*command: str) -> None:
        with (folder / "daemons.log").open("ab") as log:
            daemons.append(
                subprocess.Popen(
                    command, env=os.environ | environment, stdout=log, stderr=log,
                    stdin=subprocess.DEVNULL,
                )
            )  # fmt: skip

    try:
        start(
            "munged", "--force", "--foreground", f"--socket={folder}/munge/socket",
            f"--key-file={key}", f"--pid-file={folder}/munge/pid",
            f"--log-file={folder}/munged.log", f"--seed-file={folder}/munge/seed",
        )  # fmt: skip
        _until((folder / "munge" / "socket").exists, daemons, folder)
        start("slurmctld", "-D", "-f", str(conf))
        for node in ("n1", "n2"):
            start("slurmd", "-D", "-N", node, "-f", str(conf))
        _until(
            lambda: _said(environment, "sinfo", "-h", "-o", "%D %t") == "2 idle", daemons, folder
        )
        yield environment
        _said(environment, "scancel", "--user", getpass.getuser())
        _until(lambda: not _said(environment, "squeue", "-h"), daemons, folder)
    finally:
        for daemon in reversed(daemons):
            daemon.terminate()
        for daemon in daemons:
            daemon.wait(_SECONDS)


def jobs_so_far(environment: dict[str, str]) -> int:
    """Return how many jobs were submitted, ended ones too."""
    return len(_said(environment, "squeue", "-h", "-t", "all", "-o", "%i").split())


def running_jobs(environment: dict[str, str]) -> list[str]:
    """Return the ids of the jobs that run."""
    return _said(environment, "squeue", "-h", "-t", "RUNNING", "-o", "%i").split()


def cancel(environment: dict[str, str], job_id: str) -> None:
    """Cancel a job."""
    subprocess.run(["scancel", job_id], env=os.environ | environment, check=True)


def _said(environment: dict[str, str], *command: str) -> str:
    return subprocess.run(
        command, env=os.environ | environment, capture_output=True, text=True, check=False
    ).stdout.strip()


def _until(holds, daemons, folder) -> None:
    deadline = time.monotonic() + _SECONDS
    while not holds():
        for daemon in daemons:
            assert daemon.poll() is None, (folder / "daemons.log").read_text()
        assert time.monotonic() < deadline, (folder / "daemons.log").read_text()
        time.sleep(0.05)


def _free_ports(n: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(n)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports
