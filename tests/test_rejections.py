"""The reasons of rejections are LibreChat's own, as the package says that LibreChat's parts share."""

import re
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest

from librechat_exporter.librechat.rejection_fields import REASONS

ENUMS = ("ErrorTypes", "ViolationTypes")


@pytest.mark.slow
def test_the_newest_librechat_has_no_other_reasons(tmp_path: Path) -> None:
    """It needs npm and its registry. What is missing here joins REASONS; what is gone there may stay."""
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("npm is not installed")
    command = [npm, "pack", "librechat-data-provider", "--silent"]
    packed = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    if packed.returncode:
        pytest.skip("npm's registry does not answer")
    with tarfile.open(tmp_path / packed.stdout.strip()) as archive:
        archive.extractall(tmp_path, filter="data")
    types = (tmp_path / "package" / "dist" / "types" / "config.d.ts").read_text()
    found: set[str] = set()
    for enum in ENUMS:
        [body] = re.findall(rf"enum {enum} {{(.*?)\n}}", types, re.DOTALL)
        found |= set(re.findall(r'\w+ = "(\w+)"', body))
    assert len(found) > 40
    assert found <= set(REASONS)
