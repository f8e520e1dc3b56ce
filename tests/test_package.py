"""What a user's pip gets: the wheel that is built from the source distribution, as an index would serve it."""

import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_the_wheel_carries_every_file_of_the_packages(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(tmp_path), str(ROOT)]
    built = subprocess.run(command, capture_output=True, text=True)
    assert built.returncode == 0, built.stdout + built.stderr

    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as wheel:
        carried = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert carried == files_of(ROOT, "kanserve") | files_of(ROOT / "exporters", "kanserve_exporters")


def files_of(root: Path, package: str) -> set[str]:
    """The package's files as paths from `root`, less the caches that Python and the tools leave among them."""
    files = (path.relative_to(root) for path in (root / package).rglob("*") if path.is_file())
    return {path.as_posix() for path in files if not any(part.startswith((".", "__pycache__")) for part in path.parts)}
