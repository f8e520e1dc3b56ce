"""A release: its version, what must hold, its bill of materials, checksums and signature.

    python .ci/release.py version 0.2.0      set the version, and give the changelog its section
    python .ci/release.py check              nothing to commit, and every file says the same version
    python .ci/release.py assemble [KEY]     in dist/, beside what `make wheels` made: docs, bill, notes, checksums
    python .ci/release.py wheels [partial]   what each wheel in dist/ has; fails if a server in one is not whole
    python .ci/release.py try                the wheel for this machine, in an environment of its own, runs the README

KEY is your private key: of OpenSSH, of minisign, or Ed25519 as a PEM file. `make release` runs these in their order.
"""

import hashlib
import importlib.util
import json
import os
import re
import subprocess
import sys
import tempfile
import tomllib
import zipfile
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
DIST = ROOT / "dist"
SITE = ROOT / "docs" / "_build" / "html"
SUMS = "SHA256SUMS"
UNRELEASED = "## [Unreleased]\n"
VERSION = re.compile(r'^__version__ = "([^"]+)"$', re.MULTILINE)
CITED = re.compile(r"^version: (\S+)$", re.MULTILINE)
NUMBER = re.compile(r"\d+\.\d+\.\d+((a|b|rc)\d+)?")
# Packages of npm that build and test the page of the studio, and are not in it.
TOOLS = re.compile(r"@types/|@esbuild/|@typescript/|(esbuild|typescript|axe-core|commander)$")
# Prints the names and versions of what the libraries of the transport are linked with.
SAYS = """
import ctypes, sys
for path in sys.argv[1:]:
    for name in ("library", "http"):
        if said := getattr(ctypes.CDLL(path), f"kanserve_{name}_versions", None):
            said.restype = ctypes.c_char_p
            print(said().decode())
    if said := getattr(ctypes.CDLL(path), "kanserve_tls_version", None):
        said.restype = ctypes.c_char_p
        print(said().decode())
"""
SERVER_PARTS = re.compile(r"/(libkanserve-server|libyyjson)[^/]*$")
# What an index takes; the rest is for the page of the release.
FOR_AN_INDEX = (".whl", ".tar.gz")


def version() -> str:
    return _one(VERSION, (ROOT / "kanserve" / "__init__.py").read_text("utf-8"), "kanserve/__init__.py")


def set_version(number: str) -> None:
    """Set the version everywhere; what is unreleased in the changelog becomes its section."""
    if not NUMBER.fullmatch(number):
        raise SystemExit(f"A version is like 0.2.0 or 0.2.0rc1, got {number!r}.")
    changelog = (ROOT / "CHANGELOG.md").read_text("utf-8")
    if f"## [{number}]" in changelog:
        raise SystemExit(f"CHANGELOG.md has a section for {number} already.")
    if not section(changelog, "Unreleased"):
        raise SystemExit("CHANGELOG.md has nothing under [Unreleased]: say what changes for whoever upgrades.")
    heading = f"{UNRELEASED}\n## [{number}] - {datetime.now(UTC):%Y-%m-%d}\n"
    _write("CHANGELOG.md", changelog.replace(UNRELEASED, heading, 1))
    _write("kanserve/__init__.py", _set(VERSION, "kanserve/__init__.py", f'__version__ = "{number}"'))
    _write("CITATION.cff", _set(CITED, "CITATION.cff", f"version: {number}"))
    print(f"This is {number} now. Read CHANGELOG.md, commit, and run `make release`.")


def section(changelog: str, name: str) -> str:
    """What a changelog says under a heading of a version."""
    found = re.search(rf"^## \[{re.escape(name)}\][^\n]*\n(.*?)(?=^## \[|\Z)", changelog, re.MULTILINE | re.DOTALL)
    return found[1].strip() if found else ""


def check() -> None:
    """SystemExit with all that is wrong."""
    number = version()
    changelog = (ROOT / "CHANGELOG.md").read_text("utf-8")
    wrong = []
    if changed := _git("status", "--porcelain"):
        wrong.append(f"There is something to commit:\n{changed}")
    if not section(changelog, number):
        wrong.append(f"CHANGELOG.md has no section for {number}: run `make version VERSION=...`.")
    if section(changelog, "Unreleased"):
        wrong.append("CHANGELOG.md has changes under [Unreleased] that would be in the release.")
    if (cited := _one(CITED, (ROOT / "CITATION.cff").read_text("utf-8"), "CITATION.cff")) != number:
        wrong.append(f"CITATION.cff says {cited}, kanserve says {number}.")
    if _git("tag", "--list", f"v{number}"):
        wrong.append(f"The tag v{number} is there already.")
    if wrong:
        raise SystemExit("\n".join(wrong))


def assemble(key: Path | None) -> None:
    """Documentation, bill of materials, notes, checksums and signature, beside the wheels."""
    number = version()
    wheels = sorted(DIST.glob(f"kanserve-{number}-*.whl"))
    if not wheels or not (DIST / f"kanserve-{number}.tar.gz").is_file():
        raise SystemExit(f"dist/ has no wheels of {number}: run `make wheels`.")
    if not (SITE / "index.html").is_file():
        raise SystemExit("There is no documentation: run `make docs`.")
    _archive(SITE, DIST / f"kanserve-{number}-docs.zip", f"kanserve-{number}-docs")
    (DIST / f"kanserve-{number}.cdx.json").write_text(json.dumps(bill(wheels), indent=1, sort_keys=True) + "\n")
    notes = section((ROOT / "CHANGELOG.md").read_text("utf-8"), number)
    (DIST / f"kanserve-{number}-notes.md").write_text(f"# kanserve {number}\n\n{notes}\n")
    files = sorted(path for path in DIST.iterdir() if path.name.startswith("kanserve-"))
    (DIST / SUMS).write_text("".join(f"{_sha256(path)}  {path.name}\n" for path in files))
    signature = sign(DIST / SUMS, key) if key else None
    for path in [*files, DIST / SUMS, *([signature] if signature else [])]:
        print(f"{path.stat().st_size:>12,}  {path.name}")
    print(f"To publish:  twine upload {' '.join(f'dist/*{end}' for end in FOR_AN_INDEX)}")
    print(
        f"             git tag -a v{number} -F dist/kanserve-{number}-notes.md --cleanup=verbatim; then `make released`"
    )


def wheels(partial: bool) -> None:
    """Print what each wheel has. SystemExit if one for Linux lacks part of the native transport, unless `partial`."""
    lacking = []
    for path in sorted(DIST.glob("*.whl")):
        has, lacks = _contents(path)
        print(f"{path.stat().st_size / 1e6:6.1f} MB  {path.name}: {has}")
        if lacks:
            lacking.append(f"{path.name} has no {lacks}")
    if lacking and not partial:
        raise SystemExit(
            "\n".join(
                [
                    "",
                    "THE SERVER IN THESE WHEELS IS NOT WHOLE:",
                    *lacking,
                    "Install these packages of Debian 13, or unpack them into a folder and name it in the variable",
                    "KANSERVE_SERVER_LIBRARIES. Debian 12 has none that are new enough: there, take the folder.",
                    "docs/installation.md, section From a wheel, has the command. `make wheels PARTIAL=1` accepts",
                    "these wheels, and `make wheels PLATFORMS=manylinux_2_17_x86_64` builds for one processor.",
                ]
            )
        )


def _contents(wheel: Path) -> tuple[str, str]:
    """What a wheel has, and what a wheel for Linux lacks of the native transport, with the packages for it."""
    with zipfile.ZipFile(wheel) as archive:
        compiled = {name.rsplit("/", 1)[1]: archive.read(name) for name in archive.namelist() if name.endswith(".so")}
    if not compiled:
        return "pure Python; grpcio serves", ""
    build = _build_module()
    tag = build.PLATFORM.search(wheel.name)
    packages = f", which needs {', '.join(build.missing_for_wheel(tag[0]))}" if tag else ""
    kernels = "kernels, operators" if any("-onnx-" in name for name in compiled) else "kernels, no operators"
    server = compiled.get("libkanserve-server.so")
    if server is None:
        return f"{kernels}, no native transport; grpcio serves", f"native transport{packages}"
    if b"\0kanserve_listen_http\0" not in server:
        return f"{kernels}, native transport; Python serves REST", f"native REST{packages}"
    return f"{kernels}, native transport with REST", ""


def _build_module() -> Any:
    """kanserve/native/build.py by its path: kanserve is not installed beside the tools of a release."""
    spec = importlib.util.spec_from_file_location("kanserve_build", ROOT / "kanserve" / "native" / "build.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def bill(wheels: list[Path]) -> dict[str, Any]:
    """What the wheels hold and what they install, as CycloneDX: packages, linked libraries, and those of the page."""
    made = subprocess.run(
        [sys.executable, "-m", "cyclonedx_py", "requirements", "--of", "JSON", "--output-reproducible", "-"],
        input="\n".join(line for line in (ROOT / "constraints.txt").read_text().splitlines() if line[:1] != "#"),
        check=True,
        capture_output=True,
        text=True,
    )
    found: dict[str, Any] = json.loads(made.stdout)
    number, urls = version(), tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["urls"]
    found["metadata"] |= {
        "timestamp": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}",
        "component": {
            "type": "library",
            "bom-ref": "kanserve",
            "name": "kanserve",
            "version": number,
            "purl": f"pkg:pypi/kanserve@{number}",
            "licenses": [{"license": {"id": "Apache-2.0"}}],
            "externalReferences": [{"type": "vcs", "url": urls["Repository"]}],
        },
    }
    for one in found["components"]:  # those are what an extra installs, and in no wheel
        one["scope"] = "optional"
    found["components"] += [*_linked(wheels), *_bundled()]
    return found


def _linked(wheels: list[Path]) -> Iterator[dict[str, Any]]:
    """The libraries in the Linux wheels, by what the transport in the wheel for this machine says of itself."""
    native = [path for path in wheels if path.name.endswith(f"_{os.uname().machine}.whl")]
    for path in native[:1]:
        with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(path) as wheel:
            made = [wheel.extract(name, folder) for name in wheel.namelist() if SERVER_PARTS.search(name)]
            # In a process of its own: the libraries stay loaded.
            asked = subprocess.run([sys.executable, "-c", SAYS, *made], capture_output=True, text=True, check=True)
        for name, number in re.findall(r"([A-Za-z0-9]+) v?(\d+\.[\w.]+)", asked.stdout):
            yield {
                "type": "library",
                "bom-ref": f"linked-{name.lower()}",
                "name": name.lower(),
                "version": number,
                "scope": "required",
                "description": "linked into the wheels for Linux",
            }


def _bundled() -> Iterator[dict[str, Any]]:
    """The packages in the page of the studio."""
    for path, one in json.loads((ROOT / "studio" / "package-lock.json").read_text())["packages"].items():
        name = path.removeprefix("node_modules/")
        if path and not TOOLS.match(name):
            yield {
                "type": "library",
                "bom-ref": f"page-{name}",
                "name": name,
                "version": one["version"],
                "purl": f"pkg:npm/{name.replace('@', '%40')}@{one['version']}",
                "scope": "required",
                "description": "in the page of the studio",
            }


def sign(path: Path, key: Path) -> Path:
    """The signature of a file by the user's own key; SystemExit if it is of no kind that is known."""
    text = key.read_bytes()
    signature = path.with_name(path.name + ".sig")
    if b"OPENSSH PRIVATE KEY" in text:
        signature.unlink(missing_ok=True)
        command = ["ssh-keygen", "-Y", "sign", "-n", "file", "-f", str(key), str(path)]
    elif b"PRIVATE KEY" in text:
        command = ["openssl", "pkeyutl", "-sign", "-rawin", "-inkey", str(key), "-in", str(path)]
        command += ["-out", str(signature)]
    elif b"minisign" in text:
        signature = path.with_name(path.name + ".minisig")
        command = ["minisign", "-S", "-s", str(key), "-m", str(path), "-x", str(signature)]
    else:
        raise SystemExit(f"{key} is no private key of OpenSSH or minisign, and no PEM file.")
    subprocess.run(command, check=True)
    return signature


def try_wheel() -> None:
    """Install the wheel that fits this machine, as a user does, and run the README's first block."""
    wheel = min(DIST.glob(f"kanserve-{version()}-*.whl"), key=lambda path: (os.uname().machine not in path.name, path))
    sys.path.insert(0, str(ROOT))
    from tests.support.readme_blocks import blocks, write_tables

    with tempfile.TemporaryDirectory() as folder:
        python = Path(folder, "venv", "bin", "python")
        subprocess.run([sys.executable, "-m", "venv", Path(folder, "venv")], check=True)
        wanted = f"kanserve[demo,tables,parallel] @ {wheel.as_uri()}"
        command = [str(python), "-m", "pip", "install", "--quiet", "-c", str(ROOT / "constraints.txt"), wanted]
        subprocess.run(command, check=True)
        write_tables(Path(folder))
        subprocess.run([str(python), "-I", "-c", blocks("python")[0]], cwd=folder, check=True)
        subprocess.run([str(python), "-I", "-m", "kanserve", "--version"], cwd=folder, check=True)
        if not Path(folder, "models", "houses", "1", "manifest.json").is_file():
            raise SystemExit("The README published nothing.")
    print(f"{wheel.name} runs the README in an environment of its own.")


def _archive(folder: Path, target: Path, top: str) -> None:
    """A folder as a zip file: the same files give the same bytes."""
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(folder.rglob("*")):
            if path.is_file() and ".doctrees" not in path.parts:
                entry = zipfile.ZipInfo(f"{top}/{path.relative_to(folder).as_posix()}")
                entry.compress_type, entry.external_attr = zipfile.ZIP_DEFLATED, 0o644 << 16
                archive.writestr(entry, path.read_bytes())


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=ROOT, check=True, capture_output=True, text=True).stdout.strip()


def _one(pattern: re.Pattern[str], text: str, where: str) -> str:
    if (found := pattern.search(text)) is None:
        raise SystemExit(f"{where} says no version.")
    return found[1]


def _set(pattern: re.Pattern[str], path: str, line: str) -> str:
    return pattern.sub(line, (ROOT / path).read_text("utf-8"), count=1)


def _write(path: str, text: str) -> None:
    (ROOT / path).write_text(text, "utf-8")


def main(arguments: list[str]) -> int:
    actions: Mapping[tuple[str, int], Any] = {
        ("version", 1): lambda: set_version(arguments[1]),
        ("check", 0): check,
        ("assemble", 0): lambda: assemble(None),
        ("assemble", 1): lambda: assemble(Path(arguments[1])),
        ("try", 0): try_wheel,
        ("wheels", 0): lambda: wheels(partial=False),
        ("wheels", 1): lambda: wheels(partial=arguments[1] == "partial"),
    }
    action = actions.get((arguments[0], len(arguments) - 1)) if arguments else None
    if action is None:
        print(__doc__, file=sys.stderr)
        return 2
    action()
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
