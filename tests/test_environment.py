"""The environment and `.env`, with all that editors, shells, Docker and Kubernetes put around a value."""

import os
import re
from pathlib import Path

import pytest

from librechat_exporter.settings import ExportSettings, Settings, SettingsError, documented

LIBRECHATS_OWN = (Path(__file__).parent / "data" / "librechat_env_names.txt").read_text().split()


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No setting of the machine's, no .env of the folder's."""
    known = {*documented(Settings), *documented(ExportSettings)}
    for name in list(os.environ):
        if name.upper() in known:
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def refused(settings: type[Settings | ExportSettings] = Settings) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        settings.load()
    return str(caught.value).splitlines()


@pytest.mark.parametrize(
    "around", ["{}", " {} ", "{}\n", "\t{}\r\n", '"{}"', "'{}'", "\N{ZERO WIDTH NO-BREAK SPACE}{}", '" {} "']
)
def test_what_stands_around_a_value_is_taken_off(monkeypatch: pytest.MonkeyPatch, around: str) -> None:
    for name, value in (("MONGODB_URI", "mongodb://a/"), ("MONGODB_DATABASE", "Chats"), ("LIBRECHAT_URL", "http://a")):
        monkeypatch.setenv(name, around.format(value))
    settings = Settings.load()
    assert settings.mongodb_uri.get_secret_value() == "mongodb://a/"
    assert (settings.database, settings.librechat_url) == ("Chats", "http://a")
    assert settings.warnings == ()


def test_quotes_can_be_a_part_of_a_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MYSQL_PASSWORD", '"s3cret"\n')
    settings = ExportSettings.load()
    assert settings.mysql_password.get_secret_value() == '"s3cret"'
    [warning] = settings.warnings
    assert warning == "MYSQL_PASSWORD begins and ends with a quote, which counts as a part of it"
    monkeypatch.setenv("MYSQL_PASSWORD", '"')
    assert ExportSettings.load().mysql_password.get_secret_value() == '"'


def test_what_is_empty_is_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    Path(".env").write_text("TENANT_ID=acme\n")
    for name in ("TENANT_ID", "MONGODB_DATABASE", "LIBRECHAT_URL"):
        monkeypatch.setenv(name, '""' if name == "LIBRECHAT_URL" else " ")
    settings = Settings.load()
    assert (settings.tenant_id, settings.database, settings.librechat_url) == ("acme", "LibreChat", None)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_dotenv(encoding: str) -> None:
    Path(".env").write_text('export MONGODB_DATABASE="Chats" # ours\n\nTENANT_ID=ß\n', encoding=encoding)
    settings = Settings.load()
    assert (settings.database, settings.tenant_id, settings.warnings) == ("Chats", "ß", ())


@pytest.mark.parametrize("content", ["TENANT_ID=acme\n".encode("utf-16"), "TENANT_ID=ß\n".encode("latin-1")])
def test_a_dotenv_of_another_encoding(content: bytes) -> None:
    Path(".env").write_bytes(content)
    [line] = refused()
    assert line.startswith(".env is not UTF-8 text; save it as UTF-8")


def test_a_dotenv_that_cannot_be_read() -> None:
    Path(".env").mkdir()
    assert refused() == [".env cannot be read: Is a directory"]


def test_lines_of_a_dotenv_that_make_no_sense() -> None:
    Path(".env").write_text("TENANT_ID=acme\nthis is = no line\nMONGODB_URI='mongodb://a/\n")
    assert refused() == [f".env line {line} is not NAME=value, or a quote is not closed" for line in (2, 3)]


def test_a_slip_is_told_with_the_setting_that_was_meant(monkeypatch: pytest.MonkeyPatch) -> None:
    Path(".env").write_text("MONGODB_DATABSE=Chats\n")
    monkeypatch.setenv("MYSQL_PASSWROD", "s3cret")
    assert Settings.load().warnings == (
        "MONGODB_DATABSE is no setting; is MONGODB_DATABASE meant?",
        "MYSQL_PASSWROD is no setting; is MYSQL_PASSWORD meant?",
    )


def test_names_of_others_are_no_slips(monkeypatch: pytest.MonkeyPatch) -> None:
    """LibreChat's own .env, and what Kubernetes sets for services called mongodb, mysql and librechat."""
    assert len(LIBRECHATS_OWN) > 100
    of_kubernetes = [
        f"{service}_{name}"
        for service in ("MONGODB", "MYSQL", "LIBRECHAT", "LIBRECHAT_EXPORTER")
        for name in ("SERVICE_HOST", "SERVICE_PORT", "PORT_3306_TCP", "PORT_3306_TCP_ADDR", "PORT_3306_TCP_PROTO")
    ]
    Path(".env").write_text("".join(f"{name}=1\n" for name in LIBRECHATS_OWN if name != "MONGO_URI"))
    for name in of_kubernetes:
        monkeypatch.setenv(name, "1")
    assert Settings.load().warnings == ()


def test_librechats_own_name_for_the_connection_string(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MONGO_URI", "mongodb://127.0.0.1:27017/Chats")
    assert (Settings.load().connection.uri, Settings.load().database) == ("mongodb://127.0.0.1:27017/Chats", "Chats")
    monkeypatch.setenv("MONGO_URI", "127.0.0.1")
    assert refused()[0].startswith("MONGO_URI: is not a MongoDB connection string")
    monkeypatch.setenv("MONGODB_URI", "mongodb://other/")
    assert Settings.load().connection.uri == "mongodb://other/"


def test_a_fault_of_a_file_names_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("uri").write_bytes(b"\xef\xbb\xbf mongodb://reader:s3cret@a/Chats\r\n")
    monkeypatch.setenv("MONGODB_URI_FILE", "uri")
    assert Settings.load().connection.uri == "mongodb://reader:s3cret@a/Chats"
    Path("uri").write_text("reader:s3cret@a")
    [line] = refused()
    assert line.startswith("MONGODB_URI_FILE: uri: is not a MongoDB connection string")
    assert "s3cret" not in line
    Path("uri").write_text("\n")
    assert refused() == ["MONGODB_URI_FILE: uri is empty"]
    Path("uri").write_bytes(b"\xff\xfe\x00")
    assert refused() == ["MONGODB_URI_FILE: uri cannot be read: it is not UTF-8 text"]
    nowhere = str(Path.cwd() / "nowhere")
    monkeypatch.setenv("MONGODB_URI_FILE", nowhere)
    assert refused() == [f"MONGODB_URI_FILE: {nowhere} cannot be read: No such file or directory"]


@pytest.mark.parametrize("secret", ["mongodb://reader:s3cret@a/", "s3cret", "/s3cret/x"])
def test_a_secret_that_is_given_instead_of_its_file_is_not_told(monkeypatch: pytest.MonkeyPatch, secret: str) -> None:
    monkeypatch.setenv("MONGODB_URI_FILE", secret)
    assert refused() == ["MONGODB_URI_FILE: it names a file that cannot be read: No such file or directory"]


@pytest.mark.parametrize("option", ["readPreferenceTags=nodeType:ANALYTICS", "maxStalenessSeconds=120"])
def test_a_read_preference_that_contradicts_the_connection_string(monkeypatch: pytest.MonkeyPatch, option: str) -> None:
    monkeypatch.setenv("MONGODB_URI", f"mongodb://a/?readPreference=secondary&{option}")
    Settings.load()
    monkeypatch.setenv("MONGO_READ_PREFERENCE", "primary")
    [line] = refused()
    assert line.startswith(f"MONGO_READ_PREFERENCE: primary contradicts {option.partition('=')[0]} of the connection")


def test_a_certificate_authority_in_a_folder_that_may_not_be_entered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MYSQL_SSL_CA", "x" * 300)  # as root may enter any, a name that no file can have
    [line] = refused(ExportSettings)
    assert re.match("MYSQL_SSL_CA: x{300} cannot be used \\(File name too long\\); name the certificate", line)


def test_all_faults_come_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    Path(".env").mkdir()
    monkeypatch.setenv("MONGODB_URI_FILE", "nowhere")
    monkeypatch.setenv("STATE_USER_IDS", "hash")
    monkeypatch.setenv("SCRAPE_TIMEOUT", "soon")
    monkeypatch.setenv("MONGODB_DATABASE", "a b")
    starts = [re.split("[: ]", line)[0] for line in refused()]
    assert sorted(starts) == [".env", "MONGODB_DATABASE", "MONGODB_URI_FILE", "SCRAPE_TIMEOUT", "STATE_USER_IDS"]


def test_what_kubernetes_sets_for_a_service_called_mysql(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MYSQL_PORT", "tcp://10.0.0.1:3306")
    [line] = refused(ExportSettings)
    assert line.startswith("MYSQL_PORT: is the address that Kubernetes sets for a service called `mysql`")


def test_what_no_value_can_hold() -> None:
    Path(".env").write_bytes(b"TENANT_ID=a\0b\nSTATE_PATH=c\0d\n")
    assert sorted(refused()) == ["STATE_PATH holds a NUL character", "TENANT_ID holds a NUL character"]


def test_bytes_that_are_no_text(monkeypatch: pytest.MonkeyPatch) -> None:
    """As Python has them from the environment."""
    monkeypatch.setenv("METRICS_SECRET", "a\udcffb")
    assert refused() == ["METRICS_SECRET holds bytes that are no UTF-8 text"]


def test_what_is_no_file_of_a_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    """Or a start would wait for ever, or read for ever."""
    os.mkfifo("pipe")
    Path("folder").mkdir()
    Path("huge").write_bytes(b"mongodb://" + b"a" * 70_000)
    for name, said in (("pipe", "is not a file"), ("folder", "is not a file"), ("huge", "holds more than a secret")):
        monkeypatch.setenv("MONGODB_URI_FILE", name)
        [line] = refused()
        assert line.startswith(f"MONGODB_URI_FILE: {name} {said}")


@pytest.mark.parametrize("host", ["db..local", 70 * "a" + ".x"])
def test_names_that_no_host_has(monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    monkeypatch.setenv("MYSQL_HOST", host)
    assert refused(ExportSettings) == ["MYSQL_HOST: is not a host's name: each part of it has 1 to 63 characters"]
    monkeypatch.delenv("MYSQL_HOST")
    monkeypatch.setenv("LISTEN_ADDRESS", f"{host}:80")
    assert len(refused()) == 1


def test_a_file_without_certificates(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("ca.pem").write_text("none")
    monkeypatch.setenv("MYSQL_SSL_CA", "ca.pem")
    [line] = refused(ExportSettings)
    assert line.startswith("MYSQL_SSL_CA: ca.pem cannot be used (")


@pytest.mark.parametrize(
    "url",
    [
        *("http://127.0.0.1:api", "http://a:99999", "http://a:0", "http://", "http:///health", "a:3080", "ftp://a"),
        *("http://user:p@a", "http://a?x=1", "http://a#x", "http://a b", "http://a..b"),
    ],
)
def test_a_librechat_url_that_makes_no_sense(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("LIBRECHAT_URL", url)
    [line] = refused()
    assert line.startswith("LIBRECHAT_URL: ")


@pytest.mark.parametrize(
    "url", ["http://api:3080", "https://a.example.org/chat/", "http://[::1]:3080", "http://10.0.0.1"]
)
def test_a_librechat_url_that_makes_sense(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("LIBRECHAT_URL", url)
    assert Settings.load().librechat_url == url.rstrip("/")
