"""A release: its version in every file, what stops it, its bill, checksums and signature; and the sites of versions."""

import hashlib
import importlib.util
import json
import platform
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from types import ModuleType

import pytest

import kanserve
from tests.support.paths import ROOT
from tests.support.programs import skip, want

CHANGELOG = "# Changelog\n\n## [Unreleased]\n\n### Added\n\n- A thing.\n\n## [0.0.9] - 2025-01-01\n\n- Older.\n"


def module(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / ".ci" / f"{name}.py")
    assert spec is not None and spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[ModuleType, Path]:
    """The script of a release, in a small repository."""
    release = module("release")
    (tmp_path / "kanserve").mkdir()
    (tmp_path / "kanserve" / "__init__.py").write_text('__version__ = "0.0.9"\n')
    (tmp_path / "CHANGELOG.md").write_text(CHANGELOG)
    (tmp_path / "CITATION.cff").write_text("cff-version: 1.2.0\nversion: 0.0.9\n")
    (tmp_path / "studio").mkdir()
    for name in ("pyproject.toml", "constraints.txt", "studio/package-lock.json"):
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    (tmp_path / ".gitignore").write_text("dist/\n_build/\n")
    monkeypatch.setattr(release, "ROOT", tmp_path)
    monkeypatch.setattr(release, "DIST", tmp_path / "dist")
    monkeypatch.setattr(release, "SITE", tmp_path / "_build")
    for command in (["init", "-q"], ["config", "user.name", "x"], ["config", "user.email", "x@example.org"]):
        subprocess.run([want("git"), *command], cwd=tmp_path, check=True)
    commit(tmp_path)
    return release, tmp_path


def commit(folder: Path) -> None:
    subprocess.run(["git", "add", "-A"], cwd=folder, check=True)
    subprocess.run(["git", "commit", "-q", "-m", "x"], cwd=folder, check=True)


def test_a_version_is_set_in_every_file_and_takes_what_is_unreleased(tree):
    release, folder = tree
    release.set_version("0.1.0rc1")
    text = (folder / "CHANGELOG.md").read_text()
    assert release.version() == "0.1.0rc1" and "version: 0.1.0rc1\n" in (folder / "CITATION.cff").read_text()
    assert re.search(r"## \[Unreleased\]\n\n## \[0\.1\.0rc1\] - \d{4}-\d\d-\d\d\n\n### Added\n\n- A thing\.", text)
    assert release.section(text, "0.1.0rc1") == "### Added\n\n- A thing." and not release.section(text, "Unreleased")
    commit(folder)
    release.check()


@pytest.mark.parametrize("number", ["0.1", "v0.1.0", "0.1.0-rc1", "", "0.0.9"])
def test_a_version_that_is_none_or_there_already_changes_nothing(tree, number):
    release, folder = tree
    with pytest.raises(SystemExit):
        release.set_version(number)
    assert release.version() == "0.0.9" and (folder / "CHANGELOG.md").read_text() == CHANGELOG


def test_what_does_not_fit_together_is_no_release(tree):
    release, folder = tree
    release.set_version("0.1.0")
    with pytest.raises(SystemExit, match="something to commit"):
        release.check()
    commit(folder)
    release.check()
    for file, text, said in (
        ("CITATION.cff", "version: 0.3.0\n", "CITATION.cff says 0.3.0"),
        ("CHANGELOG.md", CHANGELOG, "no section for 0.1.0"),
        ("CHANGELOG.md", CHANGELOG.replace("0.0.9", "0.1.0"), "Unreleased"),
    ):
        before = (folder / file).read_text()
        (folder / file).write_text(text)
        with pytest.raises(SystemExit, match=re.escape(said)):
            release.check()
        (folder / file).write_text(before)
    subprocess.run(["git", "tag", "v0.1.0"], cwd=folder, check=True)
    with pytest.raises(SystemExit, match=r"tag v0\.1\.0"):
        release.check()


def built(folder: Path) -> None:
    """What `make wheels` and `make docs` leave, by name."""
    for name in ("kanserve-0.0.9.tar.gz", "kanserve-0.0.9-py3-none-any.whl"):
        (folder / "dist").mkdir(exist_ok=True)
        (folder / "dist" / name).write_bytes(name.encode())
    (folder / "_build" / "_static").mkdir(parents=True)
    (folder / "_build" / "index.html").write_text("<p>0.0.9</p>")
    (folder / "_build" / "_static" / "versions.js").write_text("// x\nconst VERSIONS = [];\nuse();\n")


def without_bill(release: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(release, "bill", lambda wheels: {"bomFormat": "CycloneDX"})


@pytest.mark.parametrize("kind", ["none", "openssh", "pem"])
def test_checksums_are_of_every_file_and_the_signature_of_the_checksums(tree, kind, monkeypatch, capsys):
    release, folder = tree
    built(folder)
    without_bill(release, monkeypatch)
    key = folder / "key"
    if kind == "openssh":
        if shutil.which("ssh-keygen") is None:
            skip("ssh-keygen")
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "x", "-f", str(key)], check=True)
    elif kind == "pem":
        subprocess.run([want("openssl"), "genpkey", "-algorithm", "ed25519", "-out", str(key)], check=True)
    release.assemble(None if kind == "none" else key)
    dist = folder / "dist"
    sums = dict(reversed(line.split("  ")) for line in (dist / "SHA256SUMS").read_text().splitlines())
    assert sums == {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in dist.iterdir() if "kanserve-" in path.name
    }
    assert {name.removeprefix("kanserve-0.0.9") for name in sums} == {
        *(".tar.gz", "-py3-none-any.whl", "-docs.zip", ".cdx.json", "-notes.md")
    }
    assert "- Older." in (dist / "kanserve-0.0.9-notes.md").read_text()
    assert "git tag -a v0.0.9" in capsys.readouterr().out
    signature = dist / "SHA256SUMS.sig"
    assert signature.exists() == (kind != "none")
    if kind == "openssh":
        (folder / "signers").write_text(f"x {(folder / 'key.pub').read_text()}")
        command = ["ssh-keygen", "-Y", "verify", "-f", str(folder / "signers"), "-I", "x", "-n", "file"]
        for data, code in (((dist / "SHA256SUMS").read_bytes(), 0), (b"other", 255)):
            done = subprocess.run([*command, "-s", str(signature)], input=data, capture_output=True)
            assert done.returncode == code
    if kind == "pem":
        public = folder / "public"
        subprocess.run(["openssl", "pkey", "-in", str(key), "-pubout", "-out", str(public)], check=True)
        command = ["openssl", "pkeyutl", "-verify", "-rawin", "-pubin", "-inkey", str(public)]
        command += ["-sigfile", str(signature), "-in", str(dist / "SHA256SUMS")]
        subprocess.run(command, check=True, capture_output=True)


def test_a_key_of_an_unknown_kind_and_missing_files_are_said(tree, monkeypatch):
    release, folder = tree
    with pytest.raises(SystemExit, match="make wheels"):
        release.assemble(None)
    built(folder)
    without_bill(release, monkeypatch)
    with pytest.raises(SystemExit, match="no private key"):
        release.assemble(folder / "pyproject.toml")
    (folder / "_build" / "index.html").unlink()
    with pytest.raises(SystemExit, match="make docs"):
        release.assemble(None)


@pytest.mark.slow
@pytest.mark.extended
def test_the_bill_has_packages_and_what_is_in_the_page_and_is_valid(tree):
    pytest.importorskip("cyclonedx_py", reason="needs cyclonedx-bom")
    schema = importlib.import_module("cyclonedx.schema").SchemaVersion.V1_6
    validator = importlib.import_module("cyclonedx.validation.json").JsonStrictValidator(schema)
    release, _ = tree
    bill = release.bill([])
    found = {one["name"]: one for one in bill["components"]}
    assert bill["metadata"]["component"]["version"] == "0.0.9"
    assert found["numpy"]["scope"] == "optional" and found["preact"]["purl"].startswith("pkg:npm/preact@")
    assert not {"esbuild", "typescript"} & found.keys()
    assert validator.validate_str(json.dumps(bill)) is None


SAID = """
const char *kanserve_library_versions(void) { return "nghttp2 1.64.0, zlib 1.3.1"; }
const char *kanserve_tls_version(void) { return "OpenSSL 3.5.9 30 Sep 2026"; }
"""


def test_the_bill_has_the_libraries_that_a_wheel_is_linked_with(tree):
    release, folder = tree
    (folder / "said.c").write_text(SAID)
    subprocess.run([want("cc"), "-shared", "-fPIC", "said.c", "-o", "said.so"], cwd=folder, check=True)
    wheel = folder / f"kanserve-0.0.9-py3-none-manylinux_2_17_{platform.machine()}.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.write(folder / "said.so", "kanserve/native/libkanserve-server.so")
    other = folder / "kanserve-0.0.9-py3-none-any.whl"
    found = [(one["name"], one["version"]) for one in release._linked([other, wheel])]
    assert sorted(found) == [("nghttp2", "1.64.0"), ("openssl", "3.5.9"), ("zlib", "1.3.1")]
    assert list(release._linked([other])) == []


@pytest.mark.parametrize("has", ["all", "no REST", "no transport"])
def test_a_wheel_for_linux_whose_server_is_not_whole_fails_and_says_what_is_missing(tree, monkeypatch, capsys, has):
    release, folder = tree
    monkeypatch.setattr(release, "DIST", folder)
    monkeypatch.setattr(release, "ROOT", ROOT)  # its list of packages
    monkeypatch.setenv("KANSERVE_SERVER_LIBRARIES", str(folder))  # where none is
    files = {"libkanserve-generic.so": b""}
    if has != "no transport":
        files["libkanserve-server.so"] = b"\0kanserve_listen_http\0" if has == "all" else b""
    for tag in ("any", "manylinux_2_17_aarch64"):
        with zipfile.ZipFile(folder / f"kanserve-0.0.9-py3-none-{tag}.whl", "w") as archive:
            for name, content in files.items() if tag != "any" else ():
                archive.writestr(f"kanserve/native/{name}", content)
    release.wheels(partial=True)
    assert "any.whl: pure Python; grpcio serves" in capsys.readouterr().out
    if has == "all":
        release.wheels(partial=False)
        assert "aarch64.whl: kernels, no operators, native transport with REST" in capsys.readouterr().out
        return
    with pytest.raises(SystemExit, match="NOT WHOLE") as failed:
        release.wheels(partial=False)
    needed = "libnghttp2-dev:arm64, libssl-dev:arm64, zlib1g-dev:arm64, libzstd-dev:arm64, libllhttp-dev:arm64, "
    what = "native REST" if has == "no REST" else "native transport"
    assert f"aarch64.whl has no {what}, which needs {needed}libyyjson-dev:arm64" in str(failed.value)
    assert "PARTIAL=1" in str(failed.value)


def test_sites_of_versions_list_one_another_and_begin_with_the_newest_release(tree, tmp_path_factory, monkeypatch):
    release, folder = tree
    site, docs = tmp_path_factory.mktemp("site"), module("docs_site")
    built(folder)
    for number in ("0.9.0", "0.10.0", "0.10.1rc1", "0.9.0"):
        release._archive(folder / "_build", folder / f"{number}.zip", f"kanserve-{number}-docs")
        assert docs.main([str(site), str(folder / f"{number}.zip")]) == 0
    wanted = 'const VERSIONS = ["0.10.0", "0.10.1rc1", "0.9.0"];'
    for number in ("0.9.0", "0.10.0", "0.10.1rc1"):
        assert wanted in (site / number / "_static" / "versions.js").read_text()
    assert "url=0.10.0/index.html" in (site / "index.html").read_text()
    with zipfile.ZipFile(folder / "other.zip", "w") as archive:
        archive.writestr("other/index.html", "")
    with pytest.raises(SystemExit, match="no documentation"):
        docs.main([str(site), str(folder / "other.zip")])


def test_the_site_has_the_line_that_the_list_of_versions_replaces():
    assert len(module("docs_site").LIST.findall((ROOT / "docs" / "_static" / "versions.js").read_text("utf-8"))) == 1


def test_the_script_of_this_checkout_reads_its_own_version():
    assert module("release").version() == kanserve.__version__
    done = subprocess.run([sys.executable, ROOT / ".ci" / "release.py", "nothing"], capture_output=True, text=True)
    assert done.returncode == 2 and "make release" in done.stderr
