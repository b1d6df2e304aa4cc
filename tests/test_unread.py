"""What cannot be read takes nothing else away, and is told once."""

from pathlib import Path

import pytest
from bson.errors import InvalidBSON
from pymongo.errors import AutoReconnect, OperationFailure

from librechat_exporter.ledger.fold import Reading
from librechat_exporter.ledger.open_documents import OpenDocuments
from librechat_exporter.ledger.source import Source
from librechat_exporter.ledger.state_file import Seen
from librechat_exporter.librechat.expressions import Document
from librechat_exporter.metrics.samples import Samples
from tests.life import MINUTE, ONE, START, TWO, Counts, Life, Stored


class Odd(Counts):
    """The first document cannot be read, and of the others the connection breaks once."""

    def __init__(self, error: Exception, first: bytes) -> None:
        super().__init__("messages", ONE)
        self._error = error
        self._first = first
        self._breaks = True

    def fold_history(self, reading: Reading, match: Document) -> tuple[Samples, Seen]:
        matching = reading.librechat.matching(match)  # type: ignore[attr-defined]
        if self._first in matching:
            raise self._error
        if matching and self._breaks:
            self._breaks = False
            raise AutoReconnect("reset")
        return super().fold_history(reading, match)


@pytest.mark.parametrize("error", [OperationFailure("too large", 17280), InvalidBSON("odd")], ids=["server", "driver"])
def test_a_document_of_history_that_cannot_be_read_is_told_once(tmp_path: Path, error: Exception) -> None:
    life = Life(Stored(), tmp_path / "ledger.sqlite")
    life.stored.put_each(1, 40, START - 600 * MINUTE)
    life.start(Odd(error, min(life.stored.documents)))
    life.ledger.tick()
    with pytest.raises(AutoReconnect):
        life.fold_history()
    assert life.counted() == 39
    assert life.ledger.totals.unreadable() == {("messages",): 1}
    life.stop()


def test_what_fails_is_told_by_its_collection(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """One that may never be read hides nothing that fails later, and works again later."""
    life = Life(Stored(), tmp_path / "ledger.sqlite")
    life.stored.put_each(1, 5, START - MINUTE)
    life.start(Counts("auditlogs", TWO), Counts("messages", ONE))
    refused = {"auditlogs"}
    read_all = OpenDocuments.read_all

    def read(self: OpenDocuments, source: Source, *arguments: object, **options: object) -> None:
        if source.fold.name in refused:
            raise OperationFailure("not authorized", 13)
        read_all(self, source, *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(OpenDocuments, "read_all", read)
    life.ledger.tick()
    assert "of auditlogs failed (query)" in caplog.text
    assert "of messages" not in caplog.text
    refused.add("messages")
    life.ledger.tick()
    assert "of messages failed (query)" in caplog.text
    caplog.set_level("INFO")
    refused.remove("messages")
    life.ledger.tick()
    assert "of messages works again" in caplog.text
    assert "of auditlogs works again" not in caplog.text
    life.stop()
