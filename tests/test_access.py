"""WEB_CONFIG_FILE: TLS, client certificates, basic authentication, headers, rate limit; what is refused; reloading."""

import base64
import http.client
import ssl
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from pathlib import Path
from typing import Any

import bcrypt
import pytest
import trustme
import yaml

from librechat_exporter.http import passwords
from librechat_exporter.http.access import Access, Allowed
from librechat_exporter.http.exchange import Request, Response
from librechat_exporter.http.web_config import AccessError
from tests.conftest import MakeProcess, Process
from tools.prometheus import Prometheus

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


@pytest.fixture(scope="module")
def issued(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"))


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


def test_users(tmp_path: Path) -> None:
    access = Access(config(tmp_path, USERS))
    assert status(access, **lower(basic("prometheus", PASSWORD))) == 200
    assert status(access, **lower(basic("zoë", PASSWORD))) == 200
    for headers in (
        {},
        basic("prometheus", "wrong"),
        basic("nobody", PASSWORD),
        basic("", ""),
        basic("prometheus", PASSWORD + "x" * 80),
        {"Authorization": "Basic not/base64!"},
        {"Authorization": "Bearer " + PASSWORD},
        {"Authorization": "Basic " + base64.b64encode(b"prometheus").decode()},
        {"Authorization": "Basic " + base64.b64encode(b"\xff\xfe:\xff").decode()},
    ):
        refused = access.check(Request("GET", "/metrics", lower(headers)), None)
        assert isinstance(refused, Response)
        assert refused.status == 401
        assert ("WWW-Authenticate", 'Basic realm="librechat-exporter", charset="UTF-8"') in refused.headers


def test_a_password_is_hashed_once_for_those_who_pass(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hashed = []
    check = bcrypt.checkpw

    def counted(password: bytes, of: bytes) -> bool:
        hashed.append(password)
        return check(password, of)

    monkeypatch.setattr(bcrypt, "checkpw", counted)
    access = Access(config(tmp_path, USERS))
    for _ in range(5):
        assert status(access, **lower(basic("prometheus", PASSWORD))) == 200
        assert status(access, **lower(basic("prometheus", "wrong"))) == 401
    assert len(hashed) == 2
    for number in range(300):
        status(access, **lower(basic("prometheus", f"guess {number}")))
    assert [len(keys) for keys in access._passwords._checked.values()] == [1, 100]
    assert status(access, **lower(basic("nobody", "guess"))) == 401
    assert len(hashed) == 303, "it takes as long for a user who is not there"


def test_headers_and_rate_limit(tmp_path: Path) -> None:
    headers = {"X-Frame-Options": "deny", "Strict-Transport-Security": "max-age=1"}
    limits = {"rate_limit": {"interval": "200ms", "burst": 3}, "http_server_config": {"headers": headers}}
    access = Access(config(tmp_path, limits))
    allowed = access.check(Request("GET", "/metrics", {}), None)
    assert isinstance(allowed, Allowed)
    assert dict(allowed.headers) == headers
    assert [status(access) for _ in range(4)] == [200, 200, 429, 429]
    time.sleep(0.25)
    assert [status(access) for _ in range(2)] == [200, 429]


@pytest.mark.parametrize("value", ["a: !!bool foo", "a: !!int ''", "a: !!timestamp x"])
def test_a_tag_that_does_not_fit_its_value_is_told(tmp_path: Path, value: str) -> None:
    with pytest.raises(AccessError, match="is not YAML, or holds a value that is none"):
        Access(config(tmp_path, value))


def test_an_ipv6_address_may_be_written_in_short(issued: Certificates) -> None:
    tls = issued.tls(
        client_ca_file="ca.pem", client_auth_type="RequireAndVerifyClientCert", client_allowed_sans=["2001:db8::1"]
    )
    access = Access(config(issued.folder, tls))
    peer = {"subjectAltName": (("IP Address", "2001:DB8:0:0:0:0:0:1"),)}
    asked = Request("GET", "/metrics", {}, "")
    assert isinstance(access.check(asked, peer, opened_with=access.tls()), Allowed)
    refused = access.check(
        asked, {"subjectAltName": (("IP Address", "2001:DB8:0:0:0:0:0:2"),)}, opened_with=access.tls()
    )
    assert isinstance(refused, Response)
    assert refused.status == HTTPStatus.FORBIDDEN


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


def guess(access: Access, number: int, client: str = "") -> int:
    return status(access, client=client, **lower(basic("prometheus", f"guess {number}")))


def test_the_right_password_is_let_in_before_many_guesses_are_checked(tmp_path: Path) -> None:
    """Right after a start, when it is not known yet; from the guessers' own address, and from another."""
    right, slow = lower(basic("prometheus", PASSWORD)), bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(9)).decode()
    for number, (client, most) in enumerate((("guesser", passwords.WAITING), ("prometheus", 2))):
        access = Access(config(tmp_path, {"basic_auth_users": {"prometheus": slow}}))
        with ThreadPoolExecutor(20) as pool:
            guesses = [pool.submit(guess, access, one, "guesser") for one in range(200)]
            while not any(one.done() for one in guesses):
                time.sleep(0.001)
            before = sum(one.done() for one in guesses)
            assert status(access, client=client, **right) == 200, number
            assert sum(one.done() for one in guesses) - before <= most
            for one in guesses:
                one.cancel()


def test_a_full_queue_refuses_who_has_most_in_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    access, go = Access(config(tmp_path, USERS)), threading.Event()
    monkeypatch.setattr(bcrypt, "checkpw", lambda password, _hashed: go.wait(20) and password == PASSWORD.encode())
    with ThreadPoolExecutor(passwords.WAITING + 20) as pool:
        guesses = [pool.submit(guess, access, one, "guesser") for one in range(passwords.WAITING + 6)]
        while sum(one.done() for one in guesses) < 5:  # one is checked, and WAITING wait
            time.sleep(0.001)
        right = pool.submit(status, access, client="prometheus", **lower(basic("prometheus", PASSWORD)))
        while sum(one.done() for one in guesses) < 6:
            time.sleep(0.001)
        go.set()
        assert right.result() == 200
        refused = [one.result() for one in guesses]
    assert sorted(refused) == [401] * passwords.WAITING + [429] * 6


def test_the_time_tells_no_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Users whose hashes cost differently: whoever asks, one of each cost is computed."""
    costs: list[int] = []
    check = bcrypt.checkpw

    def noted(password: bytes, hashed: bytes) -> bool:
        costs.append(int(hashed[4:6]))
        return check(password, hashed)

    monkeypatch.setattr(bcrypt, "checkpw", noted)
    hashed = {str(cost): bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(cost)).decode() for cost in (4, 6)}
    access = Access(config(tmp_path, {"basic_auth_users": hashed}))
    for user, password, expected in (
        ("4", PASSWORD, 200),
        ("6", PASSWORD, 200),
        ("4", "no", 401),
        ("6", "no", 401),
        ("5", PASSWORD, 401),
        ("", "", 401),
    ):
        costs.clear()
        assert status(access, **lower(basic(user, password))) == expected
        assert costs == [4, 6], user


def test_the_bearer_token(tmp_path: Path) -> None:
    token, wrong = {"authorization": "Bearer s3cret"}, {"authorization": "Bearer other"}
    access = Access(None, "s3cret")
    for path in ("/", "/metrics", "/nowhere"):
        assert [status(access, path, **one) for one in (token, wrong, {}, {"authorization": "s3cret"})] == [
            200,
            401,
            401,
            401,
        ]
    assert [status(access, path) for path in ("/health", "/ready")] == [200, 200]
    refused = access.check(Request("GET", "/metrics", {}), None)
    assert isinstance(refused, Response)
    assert [value for name, value in refused.headers if name == "WWW-Authenticate"] == [
        'Bearer realm="librechat-exporter"'
    ]

    access = Access(config(tmp_path, USERS), "s3cret")
    right = lower(basic("prometheus", PASSWORD))
    for path in ("/metrics", "/health"):
        assert [status(access, path, **one) for one in (token, right, wrong, {})] == [200, 200, 401, 401]
    refused = access.check(Request("GET", "/metrics", {}), None)
    assert isinstance(refused, Response)
    assert [value[:6] for name, value in refused.headers if name == "WWW-Authenticate"] == ["Basic ", "Bearer"]
    assert status(Access(config(tmp_path, USERS)), **token) == 401


def test_prometheus_sends_the_token_of_a_file(process: MakeProcess, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("s3cret\n")
    one = process(METRICS_SECRET_FILE=str(tmp_path / "secret")).start()
    assert get(one, None, "/metrics", {"Authorization": "Bearer s3cret"})[0] == 200
    assert [get(one, None, path)[0] for path in ("/metrics", "/", "/health", "/ready")] == [401, 401, 200, 200]
    assert health(one) == 0
    job = {
        "job_name": "librechat",
        "authorization": {"credentials_file": str(tmp_path / "secret")},
        "static_configs": [{"targets": [f"127.0.0.1:{one.port}"]}],
    }
    settings = {"global": {"scrape_interval": "1s", "scrape_timeout": "1s"}, "scrape_configs": [job]}
    with Prometheus(yaml.safe_dump(settings)) as server:
        end = time.monotonic() + 25
        while not server.query("librechat_up == 1"):
            assert time.monotonic() < end
            time.sleep(0.3)
    assert "s3cret" not in one.log


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


def test_every_path_is_covered(process: MakeProcess, tmp_path: Path) -> None:
    one = process(WEB_CONFIG_FILE=str(config(tmp_path, USERS))).start()
    for path in ("/", "/metrics", "/health", "/ready", "/nowhere"):
        refused, headers = get(one, None, path)
        assert (refused, headers["WWW-Authenticate"][:5]) == (401, "Basic")
    assert get(one, None, "/health", basic("prometheus", PASSWORD))[0] == 200
    assert PASSWORD not in one.log


def health(one: Process, *path: str, **environment: str) -> int:
    command = [sys.executable, "-m", "librechat_exporter.healthcheck", *path]
    root = Path(__file__).parent.parent
    return subprocess.run(command, env=one.environment | environment, cwd=root, check=False, timeout=20).returncode


def test_the_health_check_knows_the_password_and_the_certificate(
    process: MakeProcess, issued: Certificates, tmp_path: Path
) -> None:
    mutual = issued.tls(client_ca_file="ca.pem", client_auth_type="RequireAndVerifyClientCert")
    one = process(WEB_CONFIG_FILE=str(config(issued.folder, mutual | USERS))).start()
    (tmp_path / "password").write_text(PASSWORD + "\n")
    told = {"HEALTHCHECK_USER": "prometheus", "HEALTHCHECK_PASSWORD_FILE": str(tmp_path / "password")}
    shown = {
        "HEALTHCHECK_CERT_FILE": str(issued.folder / "client.pem"),
        "HEALTHCHECK_KEY_FILE": str(issued.folder / "client.key"),
    }
    assert health(one, **told, **shown) == 0
    assert get(one, issued.context("client"), "/metrics", basic("prometheus", PASSWORD))[0] == 200
    assert health(one, "/ready", **told, **shown) == 0
    assert health(one, "/nowhere", **told, **shown) == 1
    assert health(one, **told) == 1
    assert health(one, **shown) == 1


def test_client_certificates(process: MakeProcess, issued: Certificates) -> None:
    mutual = issued.tls(
        client_ca_file="ca.pem",
        client_auth_type="RequireAndVerifyClientCert",
        client_allowed_sans=["prometheus.example.org"],
        min_version="TLS13",
    )
    one = process(WEB_CONFIG_FILE=str(config(issued.folder, mutual))).start()
    assert get(one, issued.context("client"))[0] == 200
    assert get(one, issued.context("other"))[0] == 403
    for client in (None, "stranger"):
        with pytest.raises((ssl.SSLError, ConnectionError)):
            get(one, issued.context(client))
    old = issued.context("client")
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises((ssl.SSLError, ConnectionError)):
        get(one, old)
    with pytest.raises((http.client.HTTPException, OSError)):
        get(one, None)
    assert get(one, issued.context("client"))[0] == 200
    assert one.log.count("\n") < 20, one.log
    assert "Traceback" not in one.log


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


def test_prometheus_scrapes_over_tls_with_password_and_certificate(process: MakeProcess, issued: Certificates) -> None:
    mutual = issued.tls(client_ca_file="ca.pem", client_auth_type="RequireAndVerifyClientCert")
    one = process(WEB_CONFIG_FILE=str(config(issued.folder, mutual | USERS))).start()

    def job(name: str, password: str, client: str | None) -> dict[str, Any]:
        tls: dict[str, Any] = {"ca_file": str(issued.folder / "ca.pem")}
        if client is not None:
            tls |= {"cert_file": str(issued.folder / f"{client}.pem"), "key_file": str(issued.folder / f"{client}.key")}
        return {
            "job_name": name,
            "scheme": "https",
            "basic_auth": {"username": "prometheus", "password": password},
            "tls_config": tls,
            "static_configs": [{"targets": [f"127.0.0.1:{one.port}"]}],
        }

    jobs = [
        job("right", PASSWORD, "client"),
        job("wrong_password", "wrong", "client"),
        job("no_certificate", PASSWORD, None),
        job("wrong_certificate", PASSWORD, "stranger"),
    ]
    settings = {"global": {"scrape_interval": "1s", "scrape_timeout": "1s"}, "scrape_configs": jobs}
    with Prometheus(yaml.safe_dump(settings)) as server:
        end = time.monotonic() + 25
        while len(found := {one["metric"]["job"]: one["value"][1] for one in server.query("up")}) < len(jobs):
            assert time.monotonic() < end
            time.sleep(0.3)
        assert found == {"right": "1", "wrong_password": "0", "no_certificate": "0", "wrong_certificate": "0"}
        assert {one["metric"]["job"] for one in server.query("librechat_up")} == {"right"}
