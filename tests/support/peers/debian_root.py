"""A bare Debian, from the machine's own apt sources. Wants root and mmdebstrap, and nothing that is not in Python."""

import os
import platform
import re
import subprocess
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

_CERTIFICATES = "/etc/ssl/certs"


def make(folder: Path | str, packages: Collection[str]) -> None:
    """Put the machine's version of Debian into a folder: what is essential, and these packages.

    RuntimeError, with the end of what mmdebstrap said, where that fails.
    """
    suite = platform.freedesktop_os_release()["VERSION_CODENAME"]
    options = ["--variant=minbase", "--dpkgopt=force-unsafe-io", f"--include={','.join(packages)}"]
    options += [f"--aptopt={line}" for line in _apt_settings()]
    output(["mmdebstrap", *options, suite, str(folder), *_apt_sources()])


def output(command: Sequence[str], environment: Mapping[str, str] | None = None, check: bool = True) -> str:
    """What a command prints; RuntimeError with its end if it fails, unless `check` is false."""
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if check and done.returncode:
        raise RuntimeError(f"{' '.join(command[:8])} ... failed:\n{(done.stdout + done.stderr)[-6000:]}")
    return done.stdout.strip()


def installer_files(folder: Path) -> dict[str, str]:
    """The files that pip's settings in the environment name: where each is here, and its place in a root.

    The settings become a file in `folder`, since an argument of an image's build would have to be declared in its
    Dockerfile.
    """
    found = {}
    if certificates := os.environ.get("SSL_CERT_DIR"):
        found[certificates] = _CERTIFICATES
    elif bundle := os.environ.get("SSL_CERT_FILE"):
        found[bundle] = f"{_CERTIFICATES}/ca-certificates.crt"
    lines = ["[global]"]
    for name, value in os.environ.items():
        if name.startswith("PIP_") and name != "PIP_CONFIG_FILE":
            setting, words = name[4:].lower().replace("_", "-"), value.split()
            inside = {word: f"/run/pip/{setting}{n}" for n, word in enumerate(words) if Path(word).exists()}
            found |= inside
            lines.append(f"{setting} = {' '.join(inside.get(word, word) for word in words)}")
    (folder / "pip.conf").write_text("\n".join([*lines, ""]))
    return found | {str(folder / "pip.conf"): "/etc/pip.conf"}


def _apt_sources() -> list[str]:
    """The machine's sources of Debian, a line for each."""
    wanted = "$(SIGNED_BY) $(REPO_URI) $(RELEASE) $(COMPONENT)"
    lines = set(output(["apt-get", "indextargets", "--format", wanted, "Origin: Debian"]).splitlines())
    found = [line.split(" ", 1) for line in sorted(lines)]
    return [f"deb [signed-by={key}] {rest}" if key.startswith("/") else f"deb {rest}" for key, rest in found]


def _apt_settings() -> list[str]:
    """The machine's proxies, and whether it compares the age of an index with its clock."""
    pattern = r'Acquire::(?:https?::Proxy|Check-Valid-Until|Check-Date) ".+";'
    return re.findall(rf"(?m)^{pattern}$", output(["apt-config", "dump"]))
