"""One machine that is reached by SSH: connect, look at its Python, hold a process there.

Every error has the machine's name, the words of SSH or of its Python, and what to do.
"""

from __future__ import annotations

import asyncio
import base64
import json
import shlex
import sys
from collections import deque
from collections.abc import Callable
from typing import Any

from oectflow.cluster.processes import HostProcess
from oectflow.cluster.versions import (
    CHECKED_PACKAGES,
    installed_versions,
    probe_expression,
    what_differs,
)
from oectflow.errors import ClusterError

#: Seconds in which a machine that is up answers.
_ANSWER = 20.0
#: A shell may print a greeting first.
_MARK = "oectflow:"
#: Lines of what a process said that are shown when it has ended.
_LINES = 12
_FAR = "oectflow.cluster.far_host"


class SSHHost(HostProcess):
    """A process on another machine that runs a scheduler or workers, and the connection to it.

    Parameters
    ----------
    name
        Of the machine, as SSH knows it; ``user@machine`` logs in as somebody else.
    python
        Its Python.
    connect_options
        Of ``asyncssh.connect``.
    """

    def __init__(self, name: str, python: str, connect_options: dict[str, Any]) -> None:
        super().__init__()
        self.name, self.python = name, python
        #: Called with the words that say why the process has ended, unless it was told to.
        self.when_lost: Callable[[str], None] = lambda _: None
        #: At which address SSH has reached it, and all addresses by interface.
        self.reached_at: str | None = None
        self.addresses: dict[str, list[str]] = {}
        #: Its own name, and what is the same where compiled kernels are in the same folder.
        self.machine = ""
        self.kernels: str | None = None
        self._options = connect_options
        self._connection: Any = None
        self._far: Any = None
        self._told_to_end = False
        self._said: deque[str] = deque(maxlen=_LINES)
        self._readers: list[asyncio.Task[None]] = []

    @property
    def alive(self) -> bool:
        """Whether the process is running, as far as known."""
        return self._far is not None and not self._readers[0].done()

    async def connect(self) -> None:
        """Log in.

        Raises
        ------
        ClusterError
            Nothing answers, or one of the two does not trust the other.
        """
        import asyncssh  # an extra

        user, _, address = self.name.rpartition("@")
        options = {"connect_timeout": _ANSWER, "login_timeout": _ANSWER} | self._options
        if user:
            options["username"] = user
        try:
            self._connection = await asyncssh.connect(address, **options)
        except asyncssh.HostKeyNotVerifiable as error:
            raise ClusterError(
                f"{self.name}: {error}; connect once by hand, 'ssh {self.name}', and compare the "
                "key, or give connect_options={'known_hosts': …}"
            ) from error
        except asyncssh.PermissionDenied as error:
            raise ClusterError(
                f"{self.name}: {error}; 'ssh {self.name}' must work without a password "
                "(ssh-copy-id, ssh-agent), or give "
                "connect_options={'username': …, 'client_keys': […]}"
            ) from error
        except TimeoutError as error:
            raise ClusterError(
                f"{self.name}: does not answer within {options['connect_timeout']} s; is it up, "
                "and is the port of SSH open?"
            ) from error
        except (OSError, asyncssh.Error, ValueError) as error:
            raise ClusterError(
                f"{self.name}: {error}; is that its name, is it up, and does an SSH server listen "
                "there? connect_options={'port': …, 'username': …}"
            ) from error

    async def look(self) -> None:
        """Compare its Python and packages with ours.

        Raises
        ------
        ClusterError
            There is no such Python, or packages are missing or have other versions.
        """
        code = "\n".join(
            [
                "import json, sys",
                # Not from the folder in which SSH begins.
                "sys.path[:] = [one for one in sys.path if one]",
                f"print({_MARK!r} + json.dumps(eval({probe_expression(CHECKED_PACKAGES)!r})))",
            ]
        )
        # One line that means nothing to any shell.
        sealed = base64.b64encode(code.encode()).decode()
        command = f"exec(__import__('base64').b64decode('{sealed}').decode())"
        done = await self._connection.run(shlex.join([self.python, "-c", command]), check=False)
        answers = [line for line in str(done.stdout).splitlines() if line.startswith(_MARK)]
        if not answers:
            words = _end_of(str(done.stderr).splitlines()) or f"status {done.exit_status}"
            raise ClusterError(
                f"{self.name}: {self.python} does not run there: {words}; name the Python of an "
                "environment with oectflow, remote_python="
            )
        found = json.loads(answers[-1].removeprefix(_MARK))
        ours = installed_versions(CHECKED_PACKAGES)
        other = what_differs(ours, found)
        if other:
            raise ClusterError(
                f"{self.name}: {self.python} {other}, or name another Python of it, remote_python="
            )

    async def begin(self, config: dict[str, Any]) -> None:
        """Start the process, and learn the addresses of the machine.

        Parameters
        ----------
        config
            Dask's.

        Raises
        ------
        ClusterError
            The process has ended.
        """
        self._far = await self._connection.create_process(
            shlex.join([self.python, "-P", "-m", _FAR]), errors="replace"
        )
        self._readers = [
            asyncio.create_task(self._read_answers()),
            asyncio.create_task(self._read_words()),
        ]
        self._write({"config": config})
        found = await self.request("describe")
        self.reached_at, self.addresses = found["reached_at"], found["addresses"]
        self.machine, self.kernels = found["machine"], found["kernels"]

    async def request(self, do: str, **arguments: Any) -> Any:
        """Ask the process to do something and return the result.

        Raises
        ------
        ClusterError
            The request failed, or the process has ended; the message names the machine.
        """
        try:
            return await super().request(do, **arguments)
        except ClusterError as error:
            raise ClusterError(f"{self.name}: {error}") from error

    async def forward(self, host: str, port: int) -> int:
        """Return a port of this machine that forwards to an address there."""
        listener = await self._connection.forward_local_port("127.0.0.1", 0, host, port)
        return int(listener.get_port())

    async def close(self) -> None:
        """Let the process close everything, and log out."""
        self._told_to_end = True
        if self.alive:
            self._far.stdin.write_eof()
            # Somebody who does not answer any more must not keep us.
            await asyncio.wait(self._readers, timeout=_ANSWER)
        self.kill()
        for reader in self._readers:
            reader.cancel()

    def kill(self) -> None:
        """Cut the connection; the processes there notice this and end, too."""
        self._told_to_end = True
        if self._connection is not None:
            self._connection.abort()

    def _write(self, message: dict[str, Any]) -> None:
        if not self.alive:
            raise OSError("the connection is closed")
        self._far.stdin.write(json.dumps(message) + "\n")

    async def _read_answers(self) -> None:
        import asyncssh

        try:
            async for line in self._far.stdout:
                if line.startswith("{"):
                    answer = json.loads(line)
                    future = self._waiting.pop(answer["number"], None)
                    if future is not None and not future.done():
                        future.set_result(answer)
        except (OSError, asyncssh.Error) as error:
            self._said.append(str(error))
        status = self._far.exit_status
        why = "the connection is lost" if status is None else f"its process ended ({status})"
        words = _end_of(self._said)
        why += f": {words}" if words else ""
        for number in list(self._waiting):
            future = self._waiting.pop(number)
            if not future.done():
                future.set_result({"error": why})
        if not self._told_to_end:
            self.when_lost(why)

    async def _read_words(self) -> None:
        """Show what the processes there say, as of those of this machine."""
        import asyncssh

        try:
            async for line in self._far.stderr:
                if line.strip():
                    self._said.append(line.rstrip())
                    sys.stderr.write(f"{self.name}: {line.rstrip()}\n")
        except (OSError, asyncssh.Error) as error:
            self._said.append(str(error))


def listening_address(host: SSHHost, interface: str | None) -> str:
    """Return the address at which a machine listens.

    Parameters
    ----------
    host
        After :meth:`SSHHost.begin`.
    interface
        Name of a network interface; None means the address that SSH has reached.

    Raises
    ------
    ClusterError
        The machine has no such interface, or the address that SSH has reached is unknown.
    """
    if interface is None and host.reached_at is not None:
        return host.reached_at
    if interface is None or interface not in host.addresses:
        what = "say interface=" if interface is None else f"there is no interface {interface!r}"
        raise ClusterError(f"{host.name}: {what}; it has {addresses_in_words(host)}")
    return sorted(host.addresses[interface], key=lambda one: ":" in one)[0]


def addresses_in_words(host: SSHHost) -> str:
    """Return the interfaces of a machine and their addresses as text."""
    return ", ".join(f"{name} ({found[0]})" for name, found in sorted(host.addresses.items()))


def is_loopback(address: str) -> bool:
    """Whether an address can be reached only from the machine itself."""
    return address == "::1" or address.startswith("127.")


def host_and_port(address: str) -> tuple[str, int]:
    """Return host and port of an address of Dask.

    >>> host_and_port("tls://[::1]:8786")
    ('::1', 8786)
    """
    host, _, port = address.rpartition("://")[2].rpartition(":")
    return host.strip("[]"), int(port)


def _end_of(lines: Any) -> str:
    return "\n".join([line for line in lines if line.strip()][-_LINES:]).strip()
