"""The documentation of every version side by side, each with a list of the others.

    python .ci/docs_site.py SITE kanserve-0.2.0-docs.zip ...

SITE is a folder; what is there stays, and a version that is given again is replaced. SITE/VERSION is the site of a
version, and SITE/index.html leads to the newest.
"""

import json
import re
import shutil
import sys
import zipfile
from pathlib import Path

LIST = re.compile(r"^const VERSIONS = .*;$", re.MULTILINE)
NAME = re.compile(r"kanserve-(\d+\.\d+\.\d+(?:(?:a|b|rc)\d+)?)-docs")
TO_NEWEST = """<!doctype html>
<meta charset="utf-8">
<title>kanserve</title>
<meta http-equiv="refresh" content="0; url={newest}/index.html">
<a href="{newest}/index.html">kanserve {newest}</a>
"""


def add(site: Path, archive: Path) -> str:
    """Put the site of one version beside the others; its version."""
    with zipfile.ZipFile(archive) as files:
        tops = {name.split("/")[0] for name in files.namelist()}
        found = NAME.fullmatch(tops.pop()) if len(tops) == 1 else None
        if found is None:
            raise SystemExit(f"{archive} is no documentation of kanserve: `make release` makes one.")
        part = site / f".{found[1]}.part"
        shutil.rmtree(part, ignore_errors=True)
        files.extractall(part)  # which leaves out what would lead outside
    shutil.rmtree(site / found[1], ignore_errors=True)
    (part / found[0]).rename(site / found[1])
    part.rmdir()
    return found[1]


def order(version: str) -> tuple[object, ...]:
    """Numbers by their size; a release after its candidates."""
    numbers, kind, candidate = re.fullmatch(r"([\d.]+)(a|b|rc)?(\d*)", version).groups()  # type: ignore[union-attr]  # as NAME
    return (*map(int, numbers.split(".")), kind or "z", int(candidate or 0))


def link(site: Path) -> list[str]:
    """Give each version the list of all, the newest release first: the index leads there."""
    there = (path.name for path in site.iterdir() if (path / "index.html").is_file())
    versions = sorted(there, key=order, reverse=True)
    released = [version for version in versions if re.fullmatch(r"[\d.]+", version)]
    newest = (released or versions)[0]
    listed = [newest, *(version for version in versions if version != newest)]
    for version in versions:
        script = site / version / "_static" / "versions.js"
        text = LIST.sub(lambda _: f"const VERSIONS = {json.dumps(listed)};", script.read_text("utf-8"))
        script.write_text(text, "utf-8")
    (site / "index.html").write_text(TO_NEWEST.format(newest=newest), "utf-8")
    return listed


def main(arguments: list[str]) -> int:
    if len(arguments) < 2:
        print(__doc__, file=sys.stderr)
        return 2
    site = Path(arguments[0])
    site.mkdir(parents=True, exist_ok=True)
    for archive in arguments[1:]:
        add(site, Path(archive))
    print(f"{site}: {', '.join(link(site))}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
