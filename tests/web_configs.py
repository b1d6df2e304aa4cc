"""Web configuration files with users and certificates, and requests to what is protected by them."""

import base64
import http.client
import ssl
from pathlib import Path
from typing import Any

import bcrypt
import trustme
import yaml

from librechat_exporter.http.access import Access, Allowed
from librechat_exporter.http.exchange import Request
from tests.conftest import Process

PASSWORD = "s3cret: with ü and colon"  # noqa: S105
HASHED = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4)).decode()
USERS = {"basic_auth_users": {"prometheus": HASHED, "zoë": HASHED}}


class Certificates:
    """A certificate authority, its server and two clients, and a client of another authority."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.authority = trustme.CA()
        self.authority.cert_pem.write_to_path(folder / "ca.pem")
        self.write("server", self.authority.issue_cert("127.0.0.1", "localhost"))
        self.write("client", self.authority.issue_cert("prometheus.example.org"))
        self.write("other", self.authority.issue_cert("other.example.org"))
        self.write("stranger", trustme.CA().issue_cert("prometheus.example.org"))

    def write(self, name: str, certificate: trustme.LeafCert) -> None:
        certificate.private_key_pem.write_to_path(self.folder / f"{name}.key")
        (self.folder / f"{name}.pem").write_bytes(b"".join(blob.bytes() for blob in certificate.cert_chain_pems))

    def tls(self, **more: Any) -> dict[str, Any]:
        """The file's section, with relative paths."""
        return {"tls_server_config": {"cert_file": "server.pem", "key_file": "server.key", **more}}

    def context(self, client: str | None = None) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=str(self.folder / "ca.pem"))
        if client is not None:
            context.load_cert_chain(self.folder / f"{client}.pem", self.folder / f"{client}.key")
        return context


def config(folder: Path, content: Any) -> Path:
    path = folder / "web.yml"
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    return path


def basic(user: str, password: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}


def lower(headers: dict[str, str]) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}


def status(access: Access, path: str = "/metrics", client: str = "", **headers: str) -> int:
    found = access.check(Request("GET", path, headers), None, client)
    assert found is not None
    return 200 if isinstance(found, Allowed) else found.status


def get(
    one: Process, context: ssl.SSLContext | None, path: str = "/metrics", headers: dict[str, str] | None = None
) -> tuple[int, http.client.HTTPMessage]:
    if context is None:
        connection = http.client.HTTPConnection("127.0.0.1", one.port, timeout=10)
    else:
        connection = http.client.HTTPSConnection("127.0.0.1", one.port, timeout=10, context=context)
    connection.request("GET", path, headers=headers or {})
    response = connection.getresponse()
    response.read()
    connection.close()
    return response.status, response.headers
