"""An HTTP proxy for tests that leads chosen names to local servers."""

from __future__ import annotations

import base64
import contextlib
import socket
import threading
import urllib.parse
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import TracebackType


@dataclass
class ConnectProxy:
    """An HTTP proxy that leads chosen names to local servers and refuses all others.

    `CONNECT github.com:443` goes to `routes["github.com:443"]`; a plain request for
    `http://name/...` goes to `routes["name:80"]`.

    Args:
        routes: "host:port" -> address of the server that answers for it.
        username: demand basic proxy authentication by this user ...
        password: ... and this password.
    """

    routes: Mapping[str, tuple[str, int]]
    username: str = ""
    password: str = ""
    seen: list[str] = field(default_factory=list)
    _listener: socket.socket | None = None

    @property
    def url(self) -> str:
        """The proxy's own URL, without credentials."""
        if self._listener is None:
            raise RuntimeError("the proxy is not started")
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def start(self) -> ConnectProxy:
        """Listen on a free loopback port."""
        self._listener = socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()
        return self

    def stop(self) -> None:
        """Stop listening."""
        if self._listener is not None:
            # Closing alone does not wake a thread that waits in accept.
            with contextlib.suppress(OSError):
                self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
            self._listener = None

    def __enter__(self) -> ConnectProxy:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=self._client, args=(connection,), daemon=True).start()

    def _client(self, client: socket.socket) -> None:
        with client, contextlib.suppress(OSError, ValueError):
            head = b""
            while b"\r\n\r\n" not in head:
                if not (part := client.recv(65536)):
                    return
                head += part
            lines = head.split(b"\r\n\r\n", 1)[0].decode("latin-1").split("\r\n")
            method, target, _ = lines[0].split(" ")
            if not self._admits(lines[1:]):
                client.sendall(
                    b"HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic realm=p\r\n"
                    b"Content-Length: 0\r\nConnection: close\r\n\r\n"
                )
                return
            name = target if method == "CONNECT" else _authority(target)
            self.seen.append(f"{method} {name}")
            address = self.routes.get(name)
            if address is None:
                client.sendall(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
                return
            with socket.create_connection(address) as upstream:
                if method == "CONNECT":
                    client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
                else:
                    upstream.sendall(head)
                _pump(client, upstream)

    def _admits(self, headers: list[str]) -> bool:
        if not self.username:
            return True
        wanted = base64.b64encode(f"{self.username}:{self.password}".encode()).decode()
        return any(
            line.lower().startswith("proxy-authorization:") and line.endswith(f"Basic {wanted}")
            for line in headers
        )


def _authority(url: str) -> str:
    parts = urllib.parse.urlsplit(url)
    return f"{parts.hostname}:{parts.port or (443 if parts.scheme == 'https' else 80)}"


def _pump(left: socket.socket, right: socket.socket) -> None:
    def copy(source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_WR)

    back = threading.Thread(target=copy, args=(right, left), daemon=True)
    back.start()
    copy(left, right)
    back.join()
