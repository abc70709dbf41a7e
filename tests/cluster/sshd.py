"""SSH servers of one's own: Debian's sshd on addresses of this machine only, and a key for them."""

from __future__ import annotations

import getpass
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

PROGRAMS = ("sshd", "ssh-keygen")
_PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
_SECONDS = 30.0

_CONF = """
ListenAddress {address}
Port {port}
HostKey {folder}/host-key
AuthorizedKeysFile {folder}/user-key.pub
AuthenticationMethods publickey
PidFile none
StrictModes no
UsePAM no
PermitRootLogin prohibit-password
PrintMotd no
SetEnv {environment}
"""


def missing_programs() -> list[str]:
    """Return the programs that this machine does not have."""
    return [name for name in PROGRAMS if shutil.which(name, path=_PATH) is None]


@dataclass(frozen=True)
class Server:
    """One that runs.

    Attributes
    ----------
    process, address, port
        Which, and where it listens.
    folder
        Of its keys: ``user-key`` logs in, ``known-hosts`` knows it.
    """

    process: subprocess.Popen[bytes]
    address: str
    port: int
    folder: Path

    @property
    def connect_options(self) -> dict[str, object]:
        """What ``connect`` is given to reach it."""
        return {
            "port": self.port,
            "username": getpass.getuser(),
            "client_keys": [str(self.folder / "user-key")],
            "known_hosts": str(self.folder / "known-hosts"),
            "config": None,
            "agent_path": None,
        }

    def sessions(self) -> list[psutil.Process]:
        """Return the processes of those that are logged in."""
        return psutil.Process(self.process.pid).children()


@contextmanager
def ssh_server(folder: Path, address: str, environment: Mapping[str, str]) -> Iterator[Server]:
    """Run an SSH server whose sessions have an environment, and stop it."""
    for name in ("host-key", "user-key"):
        subprocess.run(
            ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)], check=True
        )
    with socket.create_server((address, 0)) as probe:
        port = probe.getsockname()[1]
    public = (folder / "host-key.pub").read_text().split()[:2]
    (folder / "known-hosts").write_text(f"[{address}]:{port} {' '.join(public)}\n")
    given = " ".join(f'"{name}={value}"' for name, value in environment.items())
    conf = folder / "sshd_config"
    conf.write_text(_CONF.format(address=address, port=port, folder=folder, environment=given))
    if os.getuid() == 0:
        # Where a server of root's puts itself to bed, whatever its configuration says.
        Path("/run/sshd").mkdir(exist_ok=True)
    program = shutil.which("sshd", path=_PATH)
    with (folder / "sshd.log").open("wb") as log:
        process = subprocess.Popen([program, "-D", "-e", "-f", str(conf)], stderr=log)
    try:
        deadline = time.monotonic() + _SECONDS
        while True:
            assert process.poll() is None, (folder / "sshd.log").read_text()
            try:
                socket.create_connection((address, port), 1.0).close()
                break
            except ConnectionRefusedError:
                assert time.monotonic() < deadline
                time.sleep(0.02)
        yield Server(process, address, port, folder)
    finally:
        for session in psutil.Process(process.pid).children():
            session.terminate()
        process.terminate()
        process.wait(_SECONDS)
