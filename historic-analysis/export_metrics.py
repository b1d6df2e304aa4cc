"""The historic export's entry point: `uv run historic-analysis/export_metrics.py`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from librechat_exporter import ending

if __name__ == "__main__":
    ending.hold()  # before what follows, which takes a moment
    from librechat_exporter.historic.command import main

    sys.exit(main())
