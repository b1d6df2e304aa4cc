"""The exporter's entry point: `uv run metrics.py`."""

import sys

from librechat_exporter import ending

if __name__ == "__main__":
    ending.hold()  # before what follows, which takes a moment
    from librechat_exporter.cli import main

    sys.exit(main())
