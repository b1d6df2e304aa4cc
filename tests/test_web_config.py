"""WEB_CONFIG_FILE itself: what is refused, and what happens when it or its certificates change."""

import http.client
import ssl
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from librechat_exporter.http.access import Access
from librechat_exporter.http.web_config import AccessError
from tests.conftest import MakeProcess
from tests.web_configs import HASHED, PASSWORD, USERS, Certificates, basic, config, get, lower, status


@pytest.fixture(scope="module")
def issued(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("a: [", "is not YAML"),
        ("[]", "must be keys with values"),
        ("x: 2024-01-01T99:99:99Z", "is not YAML, or holds a value that is none"),
        ("x: !!int abc", "is not YAML, or holds a value that is none"),
        ("[" * 5000, "is not YAML, or holds a value that is none"),
        ({"tls_server_config": {"cert_file": "a\0", "key_file": "b"}}, "is not YAML, or holds a value that is none"),
        ({"rate_limit": {"interval": "1s", "burst": 10**400}}, "burst"),
        ({"basic_auth_users": {"ann": HASHED[:28] + "/" + HASHED[29:]}}, "must be a bcrypt hash"),
        ({"tls_sever_config": {}}, "tls_sever_config: is not a key of the format"),
        ({"tls_server_config": {"cert_file": "server.pem"}}, "cert_file and key_file are both needed"),
        ({"tls_server_config": {"cert": "PEM", "key": "PEM"}}, "cert is not implemented: write it into a file"),
        ({"tls_server_config": {"curve_preferences": ["X25519"]}}, "curve_preferences is not implemented"),
        ({"tls_server_config": {"certfile": "x"}}, "tls_server_config.certfile: is not a key of the format"),
        ({"tls_server_config": {"cert_file": "no.pem", "key_file": "no.key"}}, "cannot be used: No such file"),
        ({"http_server_config": {"http2": True}}, "only false is implemented"),
        ({"http_server_config": {"headers": {"X-Powered-By": "x"}}}, "X-Powered-By may not be set"),
        ({"http_server_config": {"headers": {"X-Frame-Options": "allow"}}}, "must be one of deny, sameorigin"),
        ({"http_server_config": {"headers": {"Content-Security-Policy": "é"}}}, "one line of printable ASCII text"),
        ({"http_server_config": {"headers": {"Content-Security-Policy": "a "}}}, "without blanks around it"),
        ({"basic_auth_users": {"ann": "plain text"}}, "the password of 'ann' must be a bcrypt hash"),
        ({"rate_limit": {"interval": "1 second"}}, "must be a duration such as"),
        ({"rate_limit": {"interval": "1s"}}, "burst must be at least 1"),
    ],
)
def test_what_cannot_be_used_stops_the_start(tmp_path: Path, content: Any, said: str) -> None:
    with pytest.raises(AccessError) as error:
        Access(config(tmp_path, content))
    assert said in str(error.value)
    assert str(error.value).startswith(f"WEB_CONFIG_FILE {tmp_path / 'web.yml'}")
    assert "plain text" not in str(error.value)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"client_auth_type": "RequireAnyClientCert"}, "RequireAnyClientCert is not implemented"),
        ({"client_auth_type": "Require"}, "client_auth_type must be one of"),
        ({"client_auth_type": "RequireAndVerifyClientCert"}, "client_ca_file and a client_auth_type"),
        ({"client_ca_file": "ca.pem"}, "client_ca_file and a client_auth_type"),
        ({"client_allowed_sans": ["x"]}, "client_allowed_sans needs"),
        ({"min_version": "TLS10"}, "min_version must be one of TLS12, TLS13"),
        ({"min_version": "TLS13", "max_version": "TLS12"}, "min_version must not be above max_version"),
        ({"cipher_suites": ["TLS_RSA_WITH_RC4_128_SHA"]}, "'TLS_RSA_WITH_RC4_128_SHA' is not implemented"),
        ({"key_file": "ca.pem"}, "cert_file and key_file cannot be used"),
        (
            {"client_auth_type": "VerifyClientCertIfGiven", "client_ca_file": "server.key"},
            "client_ca_file cannot be used",
        ),
    ],
)
def test_tls_that_cannot_be_used_stops_the_start(issued: Certificates, more: dict[str, Any], said: str) -> None:
    with pytest.raises(AccessError, match=said):
        Access(config(issued.folder, issued.tls(**more)))


def test_the_process_says_so_and_ends(process: MakeProcess, tmp_path: Path) -> None:
    one = process(WEB_CONFIG_FILE=str(config(tmp_path, {"oops": 1})))
    command = [sys.executable, str(Path(__file__).parent.parent / "metrics.py")]
    ended = subprocess.run(command, env=one.environment, capture_output=True, text=True, timeout=20, check=False)
    assert ended.returncode == 2
    assert "oops: is not a key of the format" in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize("value", ["a: !!bool foo", "a: !!int ''", "a: !!timestamp x"])
def test_a_tag_that_does_not_fit_its_value_is_told(tmp_path: Path, value: str) -> None:
    with pytest.raises(AccessError, match="is not YAML, or holds a value that is none"):
        Access(config(tmp_path, value))


def test_an_empty_file_is_plain_http(tmp_path: Path) -> None:
    access = Access(config(tmp_path, ""))
    assert access.tls() is None
    assert status(access) == 200


def test_a_file_that_is_being_written_opens_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is empty for a moment, or says a part of what is meant."""
    access = Access(config(tmp_path, USERS | {"http_server_config": {"http2": False}}))
    for part in ("", "http_server_config:\n  http2: false\n"):
        config(tmp_path, part)
        assert status(access) == 401
    config(tmp_path, USERS)
    assert status(access) == 401
    config(tmp_path, "# written on a disk that is full")
    monkeypatch.setattr("librechat_exporter.http.access._SETTLED_SECONDS", 0)
    with pytest.raises(AccessError, match="asks for nothing any more"):
        status(access)


def test_changes_are_in_use_at_once_and_mistakes_are_not_ignored(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("librechat_exporter.http.access._SETTLED_SECONDS", 0)
    access = Access(config(tmp_path, USERS))
    assert status(access) == 401
    config(tmp_path, {"http_server_config": {"headers": {"X-Frame-Options": "deny"}}})
    assert status(access) == 200
    config(tmp_path, {"oops": 1})
    for _ in range(3):
        with pytest.raises(AccessError):
            status(access)
    assert caplog.text.count("nothing is answered until that is mended") == 1
    (tmp_path / "web.yml").unlink()
    with pytest.raises(AccessError, match="No such file"):
        status(access)
    config(tmp_path, USERS)
    assert status(access) == 401
    assert status(access, **lower(basic("prometheus", PASSWORD))) == 200


def test_a_key_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    """YAML's own loader takes the second: here, no user at all."""
    path = tmp_path / "web.yml"
    path.write_text(f"basic_auth_users:\n  prometheus: {HASHED}\nbasic_auth_users:\n")
    with pytest.raises(AccessError, match="basic_auth_users is there twice"):
        Access(path)
    path.write_text(f"basic_auth_users:\n  ann: {HASHED}\n  ann: {HASHED}\n")
    with pytest.raises(AccessError, match="ann is there twice"):
        Access(path)


def test_an_encrypted_key_is_refused(tmp_path: Path) -> None:
    own = Certificates(tmp_path)
    key = tmp_path / "server.key"
    encrypted = subprocess.run(
        ["openssl", "pkey", "-aes256", "-passout", "pass:s3cret"],
        input=key.read_bytes(),
        capture_output=True,
        check=True,
    )
    key.write_bytes(encrypted.stdout)
    with pytest.raises(AccessError, match="key_file is encrypted; write it without a pass phrase"):
        Access(config(tmp_path, own.tls()))


def test_a_connection_ends_when_the_demands_have_changed(process: MakeProcess, tmp_path: Path) -> None:
    """Or it would be answered without the client's certificate that is demanded by now."""
    own = Certificates(tmp_path)
    one = process(WEB_CONFIG_FILE=str(config(tmp_path, own.tls()))).start()
    connection = http.client.HTTPSConnection("127.0.0.1", one.port, context=own.context(), timeout=10)
    for _ in range(2):
        connection.request("GET", "/health")
        response = connection.getresponse()
        assert (response.status, response.read()[:1]) == (200, b"{")
    config(tmp_path, own.tls(client_ca_file="ca.pem", client_auth_type="RequireAndVerifyClientCert"))
    time.sleep(0.6)  # in which it could still be written
    connection.request("GET", "/health")
    with pytest.raises((http.client.RemoteDisconnected, ConnectionError)):
        connection.getresponse()


def test_a_file_that_is_replaced_while_it_is_read_is_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, load = config(tmp_path, {}), yaml.load

    def replacing(content: str, loader: Any) -> object:
        monkeypatch.undo()
        config(tmp_path, USERS)
        return load(content, loader)

    monkeypatch.setattr(yaml, "load", replacing)
    access = Access(path)
    assert status(access) == 401


def test_a_new_certificate_is_in_use_at_once(process: MakeProcess, tmp_path: Path) -> None:
    own = Certificates(tmp_path)
    one = process(WEB_CONFIG_FILE=str(config(tmp_path, own.tls()))).start()
    old = own.context()
    assert get(one, old)[0] == 200
    new = Certificates(tmp_path).context()
    time.sleep(0.6)  # in which it could still be written
    assert get(one, new)[0] == 200
    with pytest.raises(ssl.SSLError):
        get(one, old)
