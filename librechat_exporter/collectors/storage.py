"""Storage: files by kind, and documents by collection."""

from collections import defaultdict

from librechat_exporter.collector import Collector, RefreshedCollector, Values
from librechat_exporter.librechat.database import LibreChat, number
from librechat_exporter.librechat.fields import FILE_BYTES, FILE_CONTEXT, FILE_SOURCE, FILE_TYPE, UNKNOWN
from librechat_exporter.metrics.metric import LabelValues, Metric
from librechat_exporter.settings import Settings

_FILES = Metric(
    name="librechat_files",
    help="Files, by where they are stored, what for, and the first part of their MIME type",
    type="gauge",
    kind="is",
    labels=("source", "context", "type"),
    toggles=("file",),
)
_BYTES = Metric(
    name="librechat_files_bytes",
    help="Bytes of files, by where they are stored, what for, and the first part of their MIME type",
    type="gauge",
    kind="is",
    labels=("source", "context", "type"),
    toggles=("file",),
)
_DOCUMENTS = Metric(
    name="librechat_stored_documents",
    help="Documents of each collection that may be read, as the server estimates",
    type="gauge",
    kind="is",
    labels=("collection",),
    toggles=("feature",),
)


def _read_files(librechat: LibreChat) -> Values:
    key = {"source": FILE_SOURCE, "context": FILE_CONTEXT, "type": FILE_TYPE}
    group = {"$group": {"_id": key, "count": {"$sum": 1}, "bytes": {"$sum": FILE_BYTES}}}
    counts: dict[LabelValues, float] = defaultdict(float)
    sizes: dict[LabelValues, float] = defaultdict(float)
    for row in librechat.aggregate("files", {}, group):
        source, context, mime_type = (row["_id"][name] or UNKNOWN for name in key)
        labels = (source, context, mime_type.partition("/")[0] or UNKNOWN)
        counts[labels] += row["count"]
        sizes[labels] += number(row["bytes"])
    return {_FILES: counts, _BYTES: sizes}


def _read_documents(librechat: LibreChat) -> Values:
    sizes = {(name,): librechat.size(name) for name in librechat.collections()}
    return {_DOCUMENTS: {labels: size for labels, size in sizes.items() if size is not None}}


def collectors(_settings: Settings) -> list[Collector]:
    return [
        RefreshedCollector("stored_files", (_FILES, _BYTES), _read_files, collection="files"),
        RefreshedCollector("stored_documents", (_DOCUMENTS,), _read_documents),
    ]
