"""Git servers for tests: repositories, and smart HTTP and HTTPS that serve them.

Role: real `git http-backend` on loopback, serving a folder of bare repositories;
the ssh server and the proxy are here by name too. Knows nothing of gitwright.
"""

from __future__ import annotations

import base64
import contextlib
import gzip
import http.server
import os
import shutil
import socket
import ssl
import subprocess
import threading
import time
import urllib.parse
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from tests.servers.certificates import CertificateAuthority, KeyPair, ServerTLS
from tests.servers.proxy import ConnectProxy
from tests.servers.ssh import SshGitServer, make_key

__all__ = [
    "CertificateAuthority",
    "ConnectProxy",
    "Executable",
    "GitRepo",
    "GitServer",
    "Gitlink",
    "KeyPair",
    "Link",
    "Request",
    "ServerTLS",
    "SshGitServer",
    "git",
    "make_key",
]

_WHO = "author <author@example.org>"
_WHEN = 1767225600  # 2026-01-01T00:00:00Z


def git(*arguments: str, cwd: Path | None = None, data: bytes | None = None) -> bytes:
    """Run git in a clean environment and give what it prints.

    Raises:
        RuntimeError: git failed.
    """
    done = subprocess.run(["git", *arguments], cwd=cwd, input=data, env=_environment(), capture_output=True)
    if done.returncode:
        raise RuntimeError(f"git {' '.join(arguments)}: {done.stderr.decode(errors='replace')}")
    return done.stdout


def _environment() -> dict[str, str]:
    return {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": "/nonexistent",
        "LC_ALL": "C",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": "safe.directory",
        "GIT_CONFIG_VALUE_0": "*",
    }


@dataclass(frozen=True, slots=True)
class Executable:
    """A file to commit with its executable bit set."""

    content: str | bytes


@dataclass(frozen=True, slots=True)
class Link:
    """A symbolic link to commit."""

    target: str


@dataclass(frozen=True, slots=True)
class Gitlink:
    """A submodule entry to commit."""

    commit: str


Content = str | bytes | Executable | Link | Gitlink | None


class GitRepo:
    """A bare repository below a server's folder; commits are made without a work tree."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.commits: list[str] = []

    @classmethod
    def create(cls, server_root: Path, name: str) -> GitRepo:
        """Make an empty bare repository `name`.git whose default branch is main."""
        path = server_root / f"{name}.git"
        path.parent.mkdir(parents=True, exist_ok=True)
        git("init", "--quiet", "--bare", "--initial-branch=main", str(path))
        # As the large hosts allow it: any commit may be fetched by its id.
        git("config", "uploadpack.allowAnySHA1InWant", "true", cwd=path)
        git("config", "uploadpack.allowFilter", "true", cwd=path)
        return cls(path)

    def commit(
        self,
        files: Mapping[str, Content],
        *,
        message: str = "",
        branch: str = "main",
        tag: str = "",
        annotated: bool = False,
        replace: bool = False,
        when: int = _WHEN,
    ) -> str:
        """Commit files onto a branch and give the commit's id.

        A new branch grows from the last commit made here. `None` deletes a path.

        Args:
            files: path -> content.
            message: the commit's message; "commit N" when empty.
            branch: short name of the branch.
            tag: also set this tag on the commit.
            annotated: make the tag an annotated one.
            replace: start from an empty tree.
            when: author's and committer's time, seconds since 1970.
        """
        number = len(self.commits) + 1
        text = (message or f"commit {number}").encode()
        ref = f"refs/heads/{branch}"
        parent = self._tip(ref) or (self.commits[-1] if self.commits else "")
        stream = [b"feature done\ncommit %s\nmark :1\n" % ref.encode()]
        stream += [f"{role} {_WHO} {when} +0000\n".encode() for role in ("author", "committer")]
        stream.append(b"data %d\n%s\n" % (len(text), text))
        if parent:
            stream.append(b"from %s\n" % parent.encode())
        if replace:
            stream.append(b"deleteall\n")
        stream.extend(_entry(path, content) for path, content in files.items())
        stream.append(b"get-mark :1\ndone\n")
        out = git("fast-import", "--quiet", "--force", cwd=self.path, data=b"".join(stream))
        commit = out.decode().strip()
        self.commits.append(commit)
        if tag:
            self.tag(tag, commit, annotated=annotated)
        return commit

    def tag(self, name: str, commit: str, *, annotated: bool = False) -> None:
        """Set a tag, lightweight or annotated."""
        if not annotated:
            git("update-ref", f"refs/tags/{name}", commit, cwd=self.path)
            return
        text = f"object {commit}\ntype commit\ntag {name}\ntagger {_WHO} {_WHEN} +0000\n\n{name}\n".encode()
        made = git("hash-object", "-t", "tag", "-w", "--stdin", cwd=self.path, data=text).decode().strip()
        git("update-ref", f"refs/tags/{name}", made, cwd=self.path)

    def set_ref(self, ref: str, commit: str) -> None:
        """Point any reference at a commit."""
        git("update-ref", ref, commit, cwd=self.path)

    def delete_ref(self, ref: str) -> None:
        """Remove a reference."""
        git("update-ref", "-d", ref, cwd=self.path)

    def forbid_ids(self) -> None:
        """Refuse fetches of a commit by its id, as Git's own default does without protocol v2."""
        git("config", "uploadpack.allowAnySHA1InWant", "false", cwd=self.path)

    def remove(self) -> None:
        """Delete the whole repository."""
        shutil.rmtree(self.path)

    def _tip(self, ref: str) -> str:
        out = git("for-each-ref", "--format=%(objectname)", ref, cwd=self.path)
        return out.decode().strip()


def _entry(path: str, content: Content) -> bytes:
    # Quoted as C does, so that any name can be committed.
    plain = path.encode().replace(b"\\", b"\\\\").replace(b'"', b'\\"').replace(b"\n", b"\\n")
    name = b'"%s"' % plain
    if content is None:
        return b"D %s\n" % name
    if isinstance(content, Gitlink):
        return b"M 160000 %s %s\n" % (content.commit.encode(), name)
    mode, body = b"100644", content
    if isinstance(content, Executable):
        mode, body = b"100755", content.content
    elif isinstance(content, Link):
        mode, body = b"120000", content.target
    raw = body.encode() if isinstance(body, str) else body
    if not isinstance(raw, bytes):
        raise TypeError(f"{path}: no content that can be committed")
    return b"M %s inline %s\ndata %d\n%s\n" % (mode, name, len(raw), raw)


@dataclass(frozen=True, slots=True)
class Request:
    """One HTTP request as the server saw it."""

    method: str
    path: str
    headers: Mapping[str, str]
    client_subject: str = ""


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], owner: GitServer) -> None:
        self.owner = owner
        super().__init__(address, _Handler)

    def get_request(self) -> tuple[socket.socket, Any]:
        connection, address = super().get_request()
        if self.owner.tls_context is not None:
            # The handshake happens in the handler's thread, at the first read.
            connection = self.owner.tls_context.wrap_socket(
                connection, server_side=True, do_handshake_on_connect=False
            )
        return connection, address

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Stay quiet: clients that refuse our certificate or hang up are part of the tests."""


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def log_message(self, format: str, *args: Any) -> None:
        """Write nothing; `GitServer.requests` is the record."""

    def do_GET(self) -> None:
        self._serve()

    def do_POST(self) -> None:
        self._serve()

    def _serve(self) -> None:
        owner = self.server.owner
        target = urllib.parse.urlsplit(self.path)
        path = urllib.parse.unquote(target.path)
        body = self._body()
        owner.requests.append(Request(self.command, self.path, dict(self.headers.items()), self._subject()))
        if owner.delay:
            owner.stopping.wait(owner.delay)
        for prefix, location in owner.redirects.items():
            if path.startswith(prefix):
                rest = path[len(prefix) :] + (f"?{target.query}" if target.query else "")
                self._answer(302, b"", {"Location": location + rest})
                return
        if owner.status:
            self._answer(owner.status, b"the server was told to fail", {"Content-Type": "text/plain"})
            return
        if not owner.admits(self.headers.get("Authorization", "")):
            self._answer(401, b"", {"WWW-Authenticate": 'Basic realm="git"'})
            return
        self._backend(path, target.query, body)

    def _subject(self) -> str:
        if not isinstance(self.connection, ssl.SSLSocket):
            return ""
        certificate = self.connection.getpeercert() or {}
        return str(certificate.get("subject", ""))

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            parts = []
            while size := int(self.rfile.readline().split(b";")[0], 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            raw = b"".join(parts)
        else:
            raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        return gzip.decompress(raw) if self.headers.get("Content-Encoding") == "gzip" else raw

    def _backend(self, path: str, query: str, body: bytes) -> None:
        environment = _environment() | {
            "GIT_PROJECT_ROOT": str(self.server.owner.root),
            "GIT_HTTP_EXPORT_ALL": "1",
            "PATH_INFO": path,
            "QUERY_STRING": query,
            "REQUEST_METHOD": self.command,
            "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "CONTENT_LENGTH": str(len(body)),
            "GIT_PROTOCOL": self.headers.get("Git-Protocol", "") if self.server.owner.protocol_v2 else "",
            "REMOTE_USER": "git",
            "REMOTE_ADDR": "127.0.0.1",
        }
        done = subprocess.run(["git", "http-backend"], input=body, env=environment, capture_output=True)
        head, _, content = done.stdout.partition(b"\r\n\r\n")
        headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n") if ": " in line)
        status = int(headers.pop("Status", "200 OK").split(" ")[0])
        self._answer(status if head else 500, content, headers)

    def _answer(self, status: int, content: bytes, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


class GitServer:
    """Serves a folder of bare repositories by smart HTTP or HTTPS on a free loopback port.

    A context manager. Attributes that a test may change while it runs: `delay`
    (seconds before each answer), `redirects` (path prefix -> URL), `status` (answer
    everything with this HTTP status), `protocol_v2` (false makes it an old server),
    and the credentials it demands.

    Args:
        root: the folder; repository `NAME.git` is served as `/NAME.git`.
        username: demand basic authentication by this user ...
        password: ... and this password.
        bearer: demand this bearer token.
        tls: serve HTTPS (with `client_ca` set: only to clients with a certificate of it).
        host: address to listen on.
        port: port to listen on; 0 takes a free one.
    """

    def __init__(
        self,
        root: Path,
        *,
        username: str = "",
        password: str = "",
        bearer: str = "",
        tls: ServerTLS | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        self.root = root
        self.username = username
        self.password = password
        self.bearer = bearer
        self.delay = 0.0
        self.status = 0
        self.protocol_v2 = True
        self.redirects: dict[str, str] = {}
        self.requests: list[Request] = []
        self.stopping = threading.Event()
        self.tls_context = tls.context() if tls else None
        self._host = host
        self._port = port
        self._server: _Server | None = None
        self._thread: threading.Thread | None = None

    @property
    def address(self) -> tuple[str, int]:
        """Host and port while it runs."""
        return (self._host, self._port)

    @property
    def base(self) -> str:
        """The URL of the folder, without a slash at its end."""
        scheme = "https" if self.tls_context else "http"
        return f"{scheme}://{self._host}:{self._port}"

    def url(self, name: str) -> str:
        """Give the URL of repository `name`."""
        return f"{self.base}/{name}.git"

    def admits(self, authorization: str) -> bool:
        """Tell whether an Authorization header is good enough."""
        if self.bearer:
            return authorization == f"Bearer {self.bearer}"
        if not self.username and not self.password:
            return True
        wanted = base64.b64encode(f"{self.username}:{self.password}".encode()).decode()
        return authorization == f"Basic {wanted}"

    def count(self, text: str) -> int:
        """Count the requests so far whose path and query contain `text`."""
        return sum(text in request.path for request in self.requests)

    def wait_for(self, count: int, timeout: float = 20.0) -> None:
        """Wait until the server has seen so many requests in all.

        Raises:
            TimeoutError: it did not in time.
        """
        deadline = time.monotonic() + timeout
        while len(self.requests) < count:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{len(self.requests)} of {count} requests came")
            time.sleep(0.01)

    def start(self) -> GitServer:
        """Listen; the same port again after a `stop`."""
        self.stopping.clear()
        self._server = _Server((self._host, self._port), self)
        self._port = int(self._server.server_address[1])
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()
        return self

    def stop(self) -> None:
        """Stop listening; harmless when not started."""
        self.stopping.set()
        if self._server is not None and self._thread is not None:
            self._server.shutdown()
            self._server.server_close()
            self._thread.join()
        self._server = self._thread = None

    def __enter__(self) -> GitServer:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


@contextlib.contextmanager
def served(root: Path, **options: Any) -> Iterator[GitServer]:
    """Serve a folder for the length of a `with` block; options as `GitServer` takes them."""
    root.mkdir(parents=True, exist_ok=True)
    with GitServer(root, **options) as server:
        yield server
