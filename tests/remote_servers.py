"""Servers of packs for the tests and the soak: object stores and web servers, good and bad."""

import http.server
import logging
import os
import re
import shutil
import socket
import ssl
import subprocess
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Any

S3_KEYS = {
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "testing",
    "AWS_DEFAULT_REGION": "us-east-1",
}
NGINX = """
daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{}}
http {{
    access_log {folder}/access.log;
    client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi; uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    server {{
        listen 127.0.0.1:{port} ssl;
        ssl_certificate {folder}/cert.pem;
        ssl_certificate_key {folder}/key.pem;
        root {served};
        location /private {{ auth_basic x; auth_basic_user_file {folder}/users; }}
    }}
}}
"""
FAKES = """
import os
from fsspec.implementations.local import LocalFileSystem

class {name}(LocalFileSystem):
    '''A folder of this machine in the place of an object store.'''
    protocol = "{scheme}"

    @classmethod
    def _strip_protocol(cls, path):
        path = str(path).removeprefix("{scheme}://")
        return path if path.startswith("/") else os.environ["FAKE_STORE"] + "/" + path
"""
FAKE_MODULES = {"gs": ("gcsfs", "GCSFileSystem"), "hf": ("huggingface_hub", "HfFileSystem")}


def free_port() -> int:
    """A port of this machine that nobody listens at."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def certificate(folder: Path) -> Path:
    """A certificate for 127.0.0.1 that it has signed itself; SSL_CERT_FILE must name it."""
    folder.mkdir(parents=True, exist_ok=True)
    cert = folder / "cert.pem"
    if not cert.exists():
        kind = ("-x509", "-newkey", "rsa:2048", "-nodes", "-days", "30", "-subj", "/CN=127.0.0.1")
        files = ("-keyout", str(folder / "key.pem"), "-out", str(cert))
        names = ("-addext", "subjectAltName=IP:127.0.0.1")
        subprocess.run(["openssl", "req", *kind, *files, *names], check=True, capture_output=True)
    return cert


@contextmanager
def s3_server() -> Iterator[str]:
    """The address of moto's object store, which AWS_ENDPOINT_URL must name."""
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    reset = urllib.request.Request(f"http://{host}:{port}/moto-api/reset", method="POST")
    urllib.request.urlopen(reset).close()  # what an earlier server of this process held
    try:
        yield f"http://{host}:{port}"
    finally:
        server.stop()


@contextmanager
def nginx_server(folder: Path, served: Path) -> Iterator[str]:
    """The address of an nginx that serves a folder by https; /private needs user:password."""
    program = shutil.which("nginx", path=os.environ["PATH"] + ":/usr/sbin")
    assert program is not None
    certificate(folder)
    (folder / "users").write_text("user:{PLAIN}password\n")
    for made in (folder, served):
        made.chmod(0o755)
    port = free_port()
    config = folder / "nginx.conf"
    config.write_text(NGINX.format(folder=folder, served=served, port=port))
    line = [program, "-c", str(config), "-p", str(folder), "-e", str(folder / "error.log")]
    if os.getuid() == 0:
        line += ["-g", "user root;"]  # who may read what the tests make
    process = subprocess.Popen(line, stderr=subprocess.DEVNULL)
    try:
        for _ in range(200):
            with socket.socket() as tried:
                if tried.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.05)
        yield f"https://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


@dataclass
class Faulty:
    """A folder served by https by a server that can do wrong, and what it was asked for."""

    folder: Path
    drop_every: int = 0
    """Every such request is dropped, half of them in the middle of the answer; 0: none."""
    ranges: bool = True
    """Whether parts of files are served."""
    pause_s: float = 0.0
    """Seconds before each answer about a file of `paused`."""
    paused: str = ""
    """Beginning of the names of those files."""
    asked: list[str] = field(default_factory=list)
    """Method, path and range of each request."""
    address: str = ""
    lock: threading.Lock = field(default_factory=threading.Lock)

    @contextmanager
    def serving(self, certificates: Path) -> Iterator["Faulty"]:
        """Serve the folder while the block runs."""

        class Handler(_Handler):
            faulty = self

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        cert = certificate(certificates)
        context.load_cert_chain(cert, cert.with_name("key.pem"))
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        self.address = f"https://127.0.0.1:{server.server_address[1]}"
        try:
            yield self
        finally:
            server.shutdown()
            server.server_close()

    def gets(self, name: str) -> int:
        """How often a file was asked for, or parts of it."""
        return sum(line.startswith(f"GET /{name} ") for line in self.asked)


class _Handler(http.server.BaseHTTPRequestHandler):
    """Answers GET and HEAD, with ranges, and drops some connections."""

    faulty: Faulty
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def log_message(self, *_: Any) -> None:
        """Print nothing."""

    def _answer(self, *, body: bool) -> None:
        faulty = self.faulty
        wanted = self.headers.get("Range") if faulty.ranges else None
        with faulty.lock:
            faulty.asked.append(f"{self.command} {self.path} {wanted or ''}")
            number = len(faulty.asked)
        if self.path.startswith(f"/{faulty.paused}"):
            time.sleep(faulty.pause_s)
        dropped = faulty.drop_every and number % faulty.drop_every == 0
        if dropped and number // faulty.drop_every % 2:
            self._drop()
            return
        path = faulty.folder / self.path.lstrip("/")
        if not path.is_file():
            self.send_error(HTTPStatus.NOT_FOUND)
            return
        content, status = path.read_bytes(), HTTPStatus.OK
        size = len(content)
        if wanted and (found := re.fullmatch(r"bytes=(\d+)-(\d+)", wanted)):
            start, end = int(found[1]), int(found[2])
            content, status = content[start : end + 1], HTTPStatus.PARTIAL_CONTENT
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Accept-Ranges", "bytes" if faulty.ranges else "none")
        if status is HTTPStatus.PARTIAL_CONTENT:
            self.send_header("Content-Range", f"bytes {start}-{start + len(content) - 1}/{size}")
        self.end_headers()
        if dropped:
            self.wfile.write(content[: len(content) // 2] if body else b"")
            self._drop()
        elif body:
            self.wfile.write(content)

    def _drop(self) -> None:
        self.close_connection = True
        self.wfile.flush()
        self.connection.close()


def write_fakes(folder: Path) -> Path:
    """Modules in the place of those that fsspec imports for gs:// and hf://."""
    for scheme, (module, name) in FAKE_MODULES.items():
        (folder / module).mkdir(parents=True)
        (folder / module / "__init__.py").write_text(FAKES.format(name=name, scheme=scheme))
    return folder
