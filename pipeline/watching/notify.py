"""Tell somebody: a command gets JSON on its standard input, a web address gets it by POST.

Neither may hold up the watcher: they are called in a thread of their own, one after the other, and
what goes wrong there is in the log.
"""

from __future__ import annotations

import json
import queue
import shlex
import subprocess
import threading
import urllib.request
from collections.abc import Callable, Mapping
from http.client import HTTPException
from typing import Any
from urllib.parse import urlsplit

from oectflow.errors import ConfigError

#: A command or a server that takes longer is given up, in s.
_PATIENCE = 30.0
#: More messages than these wait for nobody.
_MOST_WAITING = 100

Send = Callable[[bytes], None]


def sender(target: str) -> Send:
    """Return what sends a message to a command or a web address.

    Parameters
    ----------
    target
        ``https://…`` or ``http://…``; anything else is a command with its arguments, quoted as in a
        shell, but run without one.

    Raises
    ------
    ConfigError
        The address is none, or of another scheme; the command is empty.
    """
    scheme = target.partition("://")[0].lower() if "://" in target.split(" ")[0] else ""
    if scheme in ("http", "https"):
        if not urlsplit(target).hostname:
            raise ConfigError(f"notify={target!r}: expected http://HOST/… or https://HOST/…")
        return lambda message: _post(target, message)
    if scheme:
        raise ConfigError(
            f"notify={target!r}: expected an address that begins with http:// or https://, or a "
            "command"
        )
    try:
        words = shlex.split(target)
    except ValueError as error:
        raise ConfigError(f"notify={target!r}: {error}; quote it as in a shell") from None
    if not words:
        raise ConfigError("notify='': expected a command, or an address http(s)://…")
    return lambda message: _run(words, message)


class Notifier:
    """Sends messages from a thread of its own.

    Parameters
    ----------
    send
        From :func:`sender`.
    complain
        Called with a sentence where a message could not be sent.
    """

    def __init__(self, send: Send, complain: Callable[[str], object]) -> None:
        self._send, self._complain = send, complain
        self._waiting: queue.Queue[bytes | None] = queue.Queue(_MOST_WAITING)
        self._thread = threading.Thread(target=self._serve, name="oectflow notify", daemon=True)
        self._thread.start()

    def tell(self, message: Mapping[str, Any]) -> None:
        """Send a message soon; where too many wait, it is left out, and that is said."""
        try:
            self._waiting.put_nowait(json.dumps(message, ensure_ascii=False).encode())
        except queue.Full:
            self._complain(f"not sent: {_MOST_WAITING} earlier notifications still wait")

    def close(self) -> None:
        """Send what waits, for as long as one message may take."""
        try:
            self._waiting.put(None, timeout=_PATIENCE)
        except queue.Full:
            return
        self._thread.join(_PATIENCE)

    def _serve(self) -> None:
        while (message := self._waiting.get()) is not None:
            try:
                self._send(message)
            except (OSError, HTTPException, subprocess.SubprocessError, ValueError) as error:
                self._complain(f"a notification was not taken: {error or type(error).__name__}")


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Follows nobody: a message is for whom it was meant."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


def _post(url: str, message: bytes) -> None:
    # No handler for files or FTP, whatever the address turns out to be.
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        _NoRedirect(),
    ):
        opener.add_handler(handler)
    request = urllib.request.Request(
        url, message, {"Content-Type": "application/json; charset=utf-8"}, method="POST"
    )
    with opener.open(request, timeout=_PATIENCE):
        pass


def _run(words: list[str], message: bytes) -> None:
    done = subprocess.run(words, input=message, capture_output=True, timeout=_PATIENCE, check=False)
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip()[-200:]
        raise OSError(f"{words[0]} ended with {done.returncode}: {said}")
