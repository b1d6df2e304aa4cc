"""What is stored: files by kind, and documents by collection."""

from collections import defaultdict

from librechat_exporter.collectors.state import StateCollector, Values
from librechat_exporter.fields import UNKNOWN
from librechat_exporter.librechat import LibreChat
from librechat_exporter.metric import LabelValues, Metric

FILES = Metric("librechat_files", "Files", "gauge", "is", ("source", "type"), ("file",))
BYTES = Metric("librechat_files_bytes", "Their bytes", "gauge", "is", ("source", "type"), ("file",))
DOCUMENTS = Metric(
    "librechat_stored_documents",
    "Documents of each collection that may be read, as the server estimates",
    "gauge",
    "is",
    ("collection",),
    ("feature",),
)


def read_files(librechat: LibreChat) -> Values:
    """Files by source and the first part of their MIME type."""
    if "files" not in librechat.collections():
        return {}
    counts: dict[LabelValues, float] = defaultdict(float)
    sizes: dict[LabelValues, float] = defaultdict(float)
    for source, mime_type, count, size in librechat.files():
        labels = (source, mime_type.partition("/")[0] or UNKNOWN)
        counts[labels] += count
        sizes[labels] += size
    return {FILES: counts, BYTES: sizes}


def read_documents(librechat: LibreChat) -> Values:
    sizes = {(name,): librechat.size(name) for name in librechat.collections()}
    return {DOCUMENTS: {labels: size for labels, size in sizes.items() if size is not None}}


def collectors() -> list[StateCollector]:
    return [
        StateCollector("stored_files", (FILES, BYTES), read_files),
        StateCollector("stored_documents", (DOCUMENTS,), read_documents),
    ]
