"""A database that speaks TLS → an encrypted connection, unless the URL says otherwise."""

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.functions.support import deliver, event, receiver
from tests.support import Database

SSL_REQUEST = bytes([0, 0, 0, 8, 4, 210, 22, 47])


def certificate(directory: Path, host: str) -> tuple[Path, Path]:
    """Authority (to trust) and server file (certificate and key), good for that host."""
    now = datetime.now(UTC)
    keys = [ec.generate_private_key(ec.SECP256R1()) for _ in range(2)]
    names = [x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]) for name in ("authority", host)]
    certificates = [
        x509.CertificateBuilder()
        .issuer_name(names[0])
        .subject_name(names[which])
        .public_key(keys[which].public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=which == 0, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
        .sign(keys[0], hashes.SHA256())
        for which in (0, 1)
    ]
    pem = [one.public_bytes(serialization.Encoding.PEM) for one in certificates]
    key = keys[1].private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (directory / "authority.pem").write_bytes(pem[0])
    (directory / "server.pem").write_bytes(pem[1] + key)
    return directory / "authority.pem", directory / "server.pem"


class TlsFront:
    """Postgres with TLS, by a front that ends it: our own Postgres is built without. Counts who came how."""

    def __init__(self, target: tuple[str, int], server_file: Path) -> None:
        self._target = target
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(server_file)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._sockets: list[socket.socket] = []
        self.port: int = self._listener.getsockname()[1]
        self.encrypted = 0
        self.plain = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()
        for end in self._sockets:
            end.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                threading.Thread(target=self._greet, args=(near,), daemon=True).start()

    def _greet(self, near: socket.socket) -> None:
        with suppress(OSError):
            self._sockets.append(near)
            if near.recv(len(SSL_REQUEST), socket.MSG_PEEK) == SSL_REQUEST:
                near.recv(len(SSL_REQUEST))
                near.sendall(b"S")
                near = self._context.wrap_socket(near, server_side=True)
                self._sockets.append(near)
                self.encrypted += 1
            else:
                self.plain += 1
            far = socket.create_connection(self._target)
            self._sockets.append(far)
            threading.Thread(target=self._pump, args=(far, near), daemon=True).start()
            self._pump(near, far)

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65_536):
                sink.sendall(data)
        with suppress(OSError):
            sink.shutdown(socket.SHUT_RDWR)


@contextmanager
def tls_front(database: Database, server_file: Path) -> Iterator[tuple[TlsFront, str]]:
    parts = urlsplit(database.url)
    front = TlsFront((parts.hostname or "", parts.port or 0), server_file)
    try:
        yield front, database.url.replace(f"{parts.hostname}:{parts.port}", f"localhost:{front.port}")
    finally:
        front.close()


@pytest.mark.parametrize(
    ("query", "trusted", "expected"),
    [
        ("", True, "encrypted"),
        ("?sslmode=require", True, "encrypted"),
        ("?sslmode=verify-full", True, "encrypted"),
        ("?sslmode=disable", True, "plain"),
        ("", False, "plain"),
        ("?sslmode=require", False, "refused"),
    ],
)
def test_connection_is_encrypted_as_the_url_asks(
    database: Database, tmp_path: Path, query: str, trusted: bool, expected: str
) -> None:
    authority, server_file = certificate(tmp_path, "localhost")
    trust = {"SSL_CERT_FILE": str(authority), "DENO_TLS_CA_STORE": "system"} if trusted else {}
    with (
        tls_front(database, server_file) as (front, url),
        receiver(f"{url}{query}", tmp_path, **trust) as receiver_url,
    ):
        answer = deliver(receiver_url, event())
        deliver(receiver_url, event())
        log = "".join(path.read_text() for path in tmp_path.glob("*.log"))
    assert answer.status == (503 if expected == "refused" else 200)
    # Never without TLS unseen, and told once.
    assert log.count("database_without_tls") == (query == "" and expected == "plain")
    assert (front.encrypted > 0, front.plain > 0) == (expected == "encrypted", expected == "plain")


def test_require_is_never_satisfied_by_a_server_without_tls(database: Database, tmp_path: Path) -> None:
    with receiver(f"{database.url}?sslmode=require", tmp_path) as url:
        assert deliver(url, event()).status == 503
