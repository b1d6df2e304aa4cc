"""Connection strings as operators write them: what connects, with which warning, and what is refused."""

import re
from pathlib import Path

import pytest
from pymongo.database import Database

from librechat_exporter.settings.connection_string import parse
from tests.conftest import Document, MakeExporter


@pytest.mark.parametrize(
    ("text", "database"),
    [
        ("mongodb://127.0.0.1:27017/LibreChat", "LibreChat"),
        ("mongodb://reader:s%40fe@a:27017,b:27018/Chats?replicaSet=rs0&authSource=admin", "Chats"),
        ("mongodb://a/M%C3%BCnchen", "München"),
        ("mongodb://a/chats.messages", "chats"),
        ("mongodb://a", None),
        ("mongodb://a/", None),
        ("mongodb://a/?w=majority", None),
        ("mongodb+srv://reader:x@cluster.example.org/Chats?retryWrites=true&w=majority&srvMaxHosts=1", "Chats"),
        ("mongodb://%2Ftmp%2Fmongodb-27017.sock/Chats", "Chats"),
    ],
)
def test_what_is_right_is_left_as_it_is(text: str, database: str | None) -> None:
    read = parse(text)
    assert (read.uri, read.database, read.warnings) == (text, database, ())


@pytest.mark.parametrize(
    ("text", "uri", "named"),
    [
        ("mongodb://a/Chats?family=4", "mongodb://a/Chats", ["family"]),
        ("mongodb://a?family=4&w=1", "mongodb://a/?w=1", ["family"]),
        ("mongodb://a/?autoSelectFamily=true;appName=x", "mongodb://a/?appName=x", ["autoSelectFamily"]),
        (
            "mongodb://a/?minHeartbeatFrequencyMS=5&proxyHost=p",
            "mongodb://a/",
            ["minHeartbeatFrequencyMS", "proxyHost"],
        ),
        ("mongodb://a/?socketTimeoutMS=5s&maxPoolSize=-1", "mongodb://a/", ["socketTimeoutMS", "maxPoolSize"]),
        ("mongodb+srv://a.example.org/?srvMaxHosts=many", "mongodb+srv://a.example.org/", ["srvMaxHosts"]),
        ("mongodb://me:a+b@a/", "mongodb://me:a%2Bb@a/", ["`+`"]),
        ("mongodb://a/?compressors=snappy,zlib", "mongodb://a/?compressors=snappy,zlib", ["compressors"]),
        ("mongodb://a/?appName=a&appName=b", "mongodb://a/?appName=a&appName=b", []),
    ],
)
def test_what_counts_otherwise_is_told(text: str, uri: str, named: list[str]) -> None:
    read = parse(text)
    assert read.uri == uri
    assert [warning.split()[0] for warning in read.warnings] == named


CERTIFICATE = "-----BEGIN CERTIFICATE-----\nnone\n-----END CERTIFICATE-----\n"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("localhost:27017", "is not a MongoDB connection string"),
        ("mongodb://me:p@ss:word@a", "is not a MongoDB connection string"),
        ("mongodb://a:port/", "is not a MongoDB connection string"),
        ("mongodb://", "is not a MongoDB connection string"),
        ("mongodb://a/Ch$ats", "what follows the host must be a database's name"),
        ("mongodb://me:a?p@ss@a/Chats", "is not a MongoDB connection string"),
        ("mongodb://me:a?p@ss=b@a/Chats", "is not a MongoDB connection string"),
        ("mongodb://me:p@ss?word&x@a/Chats", "is not a MongoDB connection string"),
        ("mongodb://a/?p@ss=1", "is not a MongoDB connection string"),
        ("mongodb://a..b/", "is not a MongoDB connection string"),
        ("mongodb://a/" + 64 * "x", "what follows the host must be a database's name"),
        ("mongodb://a/nul%00", "what follows the host must be a database's name"),
        ("mongodb://a,b/?directConnection=true", "the options cannot be used: Cannot specify multiple hosts"),
        ("mongodb://a,b/?loadBalanced=true", "the options cannot be used: "),
        ("mongodb://me:p@ss".replace("p@", "p%40") + "@a/?authMechanism=MONGODB-X509", "the options cannot be used: "),
        ("mongodb+srv://127.0.0.1/", "one host name without a port"),
        ("mongodb+srv://a..b/", "is not a MongoDB connection string"),
        (
            "mongodb://a/?tls=true&tlsCertificateKeyFile=broken.pem&tlsCertificateKeyFilePassword=p%40ss",
            "tlsCertificateKeyFile broken.pem cannot be used: ",
        ),
        ("mongodb+srv://a,b/", "one host name without a port"),
        ("mongodb+srv://a:27017/", "one host name without a port"),
        ("mongodb://a/?srvMaxHosts=1", "srvMaxHosts belongs to mongodb+srv:// alone"),
        ("mongodb://a/?tls=perhaps", "tls has a value that cannot be used"),
        ("mongodb://a/?authMechanism=MONGODB-CR", "authMechanism has a value that cannot be used"),
        ("mongodb://a/?tls", "tls is not written as name=value"),
        ("mongodb://a/?tls=true&ssl=false", "the options cannot be used: "),
        (
            "mongodb://a/?tls=true&tlsCAFile=nowhere.pem",
            "tlsCAFile nowhere.pem cannot be read: No such file or directory",
        ),
        ("mongodb://a/?tls=true&tlsCAFile=empty%20.pem", "tlsCAFile empty .pem cannot be used: "),
        ("mongodb://a/?tls=true&tlsCAFile=broken.pem", "tlsCAFile broken.pem cannot be used: "),
        ("mongodb://a/?tls=true&tlsCertificateKeyFile=broken.pem", "tlsCertificateKeyFile broken.pem cannot be used: "),
    ],
)
def test_what_is_refused_is_told_without_secrets(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str, said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("empty .pem").touch()
    Path("broken.pem").write_text(CERTIFICATE)
    with pytest.raises(ValueError, match=re.escape(said)) as caught:
        parse(text)
    assert "\n" not in str(caught.value)
    assert "p@ss" not in str(caught.value)


def test_the_database_of_the_path_is_read_and_the_setting_wins(
    database: Database[Document], exporter: MakeExporter, mongodb_uri: str
) -> None:
    host = mongodb_uri.rstrip("/")
    database["messages"].insert_one({"messageId": "m1"})
    for name, setting, messages in (
        (database.name, None, 1),
        ("another", database.name, 1),
        (database.name, "none", None),
    ):
        one = exporter(mongodb_uri=f"{host}/{name}?family=4", mongodb_database=setting, state_path=":memory:")
        assert one.scrape().get(("librechat_messages_total", ())) == messages


def test_hosts_that_the_dns_does_not_know_are_unavailable(exporter: MakeExporter) -> None:
    one = exporter(mongodb_uri="mongodb+srv://nowhere.invalid/LibreChat", state_path=":memory:")
    values = one.scrape()
    failures = {labels for (name, labels), value in values.items() if value and name.endswith("collector_errors_total")}
    assert {dict(labels)["reason"] for labels in failures} == {"unavailable"}
    assert values["librechat_up", ()] == 0
