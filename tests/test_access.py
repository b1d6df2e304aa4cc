"""Who is let in: TLS, client certificates, basic authentication, the bearer token, headers, rate limit."""

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
import yaml

from librechat_exporter.http import passwords
from librechat_exporter.http.access import Access, Allowed
from librechat_exporter.http.exchange import Request, Response
from tests.conftest import MakeProcess, Process
from tests.web_configs import PASSWORD, USERS, Certificates, basic, config, get, lower, status
from tools.prometheus import Prometheus


@pytest.fixture(scope="module")
def issued(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"))


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
