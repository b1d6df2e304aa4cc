"""Log lines: in a format of Python's logging, or as JSON."""

import json
import logging
from datetime import UTC, datetime

JSON = "json"


class _JsonFormatter(logging.Formatter):
    """A line is an object: time (ISO 8601, UTC), level, logger, message; exception, if there is one."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


def set_up(level: str, line_format: str) -> None:
    """Logs to standard error. line_format: of LOGGING_FORMAT."""
    handler = logging.StreamHandler()
    handler.setFormatter(_JsonFormatter() if line_format == JSON else logging.Formatter(line_format))
    logging.basicConfig(level=level.upper(), handlers=[handler])
