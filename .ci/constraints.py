"""One version of every package of every extra, in constraints.txt: `make constraints` takes the newest.

    python .ci/constraints.py          the newest versions; what changed goes into CHANGELOG.md
    python .ci/constraints.py --check  fails where constraints.txt no longer fits pyproject.toml

torch is only a comment there, with what only its GPU builds need, so that the build that a machine has is taken.
"""

import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).parent.parent
CONSTRAINTS = ROOT / "constraints.txt"
CHANGELOG = ROOT / "CHANGELOG.md"
HEADING = "### Locked packages\n"
FREE = re.compile(r"^(?=(torch|triton|setuptools|nvidia-.*|cuda-.*)==)", re.MULTILINE)
COMMENT = "# free: "
HEAD = (
    "# One version of every package of every extra: `make constraints` writes this file, and every install reads it.\n"
)


def compiled(kept: str) -> str:
    """The constraints that fit pyproject.toml, with the versions of `kept` wherever these still fit."""
    with tempfile.TemporaryDirectory() as temporary:
        output = Path(temporary, "constraints.txt")
        output.write_text(kept.replace(COMMENT, ""))
        project = tomllib.loads((ROOT / "pyproject.toml").read_text())
        command = ["uv", "pip", "compile", "--universal", "--all-extras", "--no-annotate", "--no-header", "--quiet"]
        # From the oldest Python on, whichever runs this. pip and the build backend are what installs, so no extra names
        # them.
        oldest = project["project"]["requires-python"].removeprefix(">=")
        subprocess.run(
            [*command, "--python-version", oldest, "--output-file", output, "-", "pyproject.toml"],
            input="\n".join(["pip", *project["build-system"]["requires"]]),
            check=True,
            cwd=ROOT,
            text=True,
        )
        return HEAD + FREE.sub(COMMENT, output.read_text())


def changes(before: str, after: str) -> str:
    """What an upgrade finds changed, as one entry of a changelog; empty where it is nothing."""
    old, new = versions(before), versions(after)
    each = [
        f"{name} {old.get(name, 'new')} → {new.get(name, 'gone')}"
        for name in sorted(old.keys() | new.keys())
        if old.get(name) != new.get(name)
    ]
    return f"- {datetime.now(UTC):%Y-%m-%d}: {', '.join(each)}.\n" if each else ""


def versions(constraints: str) -> dict[str, str]:
    """The version of each package; several, where they depend on the version of Python, with a slash between."""
    found: dict[str, list[str]] = {}
    for name, version in re.findall(r"^([^=#\s]+)==([^\s;]+)", constraints, re.MULTILINE):
        found.setdefault(name, []).append(version)
    return {name: "/".join(each) for name, each in found.items()}


def main(arguments: list[str]) -> int:
    if shutil.which("uv") is None:
        print("constraints: uv is not there; it is in the extra dev.", file=sys.stderr)
        return 1
    before = CONSTRAINTS.read_text() if CONSTRAINTS.exists() else ""
    if arguments == ["--check"]:
        wrong = changes(before, compiled(before))
        if wrong or not before.startswith(HEAD):
            print(f"constraints.txt does not fit pyproject.toml: run `make constraints`.\n{wrong}", file=sys.stderr)
            return 1
        return 0
    if arguments:
        print(__doc__, file=sys.stderr)
        return 2
    after = compiled("")
    CONSTRAINTS.write_text(after)
    entry = changes(before, after)
    if before and entry:
        text = CHANGELOG.read_text()
        if HEADING not in text:
            text = text.replace("## [Unreleased]\n", f"## [Unreleased]\n\n{HEADING}\n", 1)
        CHANGELOG.write_text(text.replace(f"{HEADING}\n", f"{HEADING}\n{entry}", 1))
    print(entry or "Nothing newer.")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
