"""Folders and manifests that somebody made to do harm, with right checksums where there are any."""

import os

import pytest

from kanserve.artifact import format, naming_rules, read, write
from kanserve.errors import ArtifactError, FormatError, InvalidNameError, NotFoundError
from tests.support.artifacts import body, edited, sealed, small

# Hostile folders


def _link(path):
    path.rename(path.with_name("away"))
    path.symlink_to("away")


def _away(path, beside):
    path.rename(beside / "away")
    path.symlink_to(beside / "away")


def _fifo(path):
    path.unlink()
    os.mkfifo(path)


def _folder(path):
    path.unlink()
    path.mkdir()


HOSTILE = {
    "a link to outside in place of a file": lambda one: _away(one / "kan.safetensors", one.parent),
    "a link to inside in place of a file": lambda one: _link(one / "kan.safetensors"),
    "a link in place of the manifest": lambda one: _away(one / "manifest.json", one.parent),
    "a link in place of a folder": lambda one: _away(one / "other" / "deep", one.parent),
    "a dangling link": lambda one: (one / "more").symlink_to("nowhere"),
    "a FIFO in place of a file": lambda one: _fifo(one / "formula.json"),
    "a FIFO in place of the manifest": lambda one: _fifo(one / "manifest.json"),
    "a FIFO more": lambda one: os.mkfifo(one / "more"),
    "a folder in place of a file": lambda one: _folder(one / "formula.json"),
    "a file in place of a folder": lambda one: (
        one.joinpath("numpy_source/model.py").unlink(),
        one.joinpath("numpy_source").rmdir(),
        one.joinpath("numpy_source").touch(),
    ),
    "a file more": lambda one: (one / "more").touch(),
    "a hidden file more": lambda one: (one / "numpy_source" / ".more").touch(),
    "a file more, deep": lambda one: (one / "other" / "deep" / "more").touch(),
    "an empty folder more": lambda one: (one / "more").mkdir(),
    "a name that is not Unicode": lambda one: open(os.fsencode(one) + b"/\xff", "w").close(),
    "no manifest": lambda one: (one / "manifest.json").unlink(),
    "no file": lambda one: (one / "formula.json").unlink(),
    "no folder": lambda one: (one / "numpy_source").rename(one.parent / "numpy_source"),
    "a device's worth of manifest": lambda one: os.truncate(one / "manifest.json", 2**40),
    "a file as large as the disk": lambda one: os.truncate(one / "formula.json", 2**40),
}


@pytest.mark.parametrize("attack", HOSTILE)
def test_a_folder_is_refused_that_holds(attack, tmp_path):
    write(tmp_path / "1", small())
    HOSTILE[attack](tmp_path / "1")
    with pytest.raises(ArtifactError):
        read(tmp_path / "1")


def test_what_is_not_a_folder_or_not_there_is_told_apart(tmp_path):
    with pytest.raises(NotFoundError):
        read(tmp_path / "none")
    (tmp_path / "file").touch()
    with pytest.raises(FormatError, match="not a folder"):
        read(tmp_path / "file")


# Manifests


def renamed(path):
    return lambda one: one["files"].update({path: one["files"]["numpy_source/model.py"]})


CHANGES = [
    lambda one: one.update(format=2),
    lambda one: one.update(more=1),
    lambda one: one.update(name="../x"),
    lambda one: one.update(name=None),
    lambda one: one.update(name=["model"]),
    lambda one: one.update(precision="half"),
    lambda one: one.update(precision=["double"]),
    lambda one: one.update(inputs=[]),
    lambda one: one.update(inputs={"name": "x"}),
    lambda one: one.update(classes=["a", "b"]),
    lambda one: one.update(classes="a"),
    lambda one: one.update(provenance={"a": 1}),
    lambda one: one.update(provenance=["a"]),
    lambda one: one.update(provenance={"a": "x" * 1001}),
    lambda one: one.update(metrics={}),
    lambda one: one.update(metrics={"rows": 1, "r2": [1.0], "rmse": [], "max_error": [1.0], "accuracy": None}),
    lambda one: one.update(metrics={"rows": True, "r2": [1.0], "rmse": [1.0], "max_error": [1.0], "accuracy": None}),
    lambda one: one.update(files=[]),
    lambda one: one.pop("files"),
    lambda one: one["files"].pop("kan.safetensors"),
    lambda one: one["inputs"][0].update(low="x"),
    lambda one: one["inputs"][0].update(low=0),
    lambda one: one["inputs"][0].update(low=2.0, high=1.0),
    lambda one: one["inputs"][0].update(low=float("nan")),
    lambda one: one["inputs"][0].update(low=float("-inf")),
    lambda one: one["inputs"][0].update(name="\ud800"),
    lambda one: one["inputs"][0].update(name=1),
    lambda one: one["inputs"][0].update(more=1),
    lambda one: one["files"]["formula.json"].update(size=-1),
    lambda one: one["files"]["formula.json"].update(size=1.0),
    lambda one: one["files"]["formula.json"].update(size=2**28 + 1),
    lambda one: one["files"]["formula.json"].update(sha256="0"),
    lambda one: one["files"]["formula.json"].update(sha256="A" * 64),
    lambda one: one["files"].update({f"a/{n}": one["files"]["formula.json"] for n in range(256)}),
    lambda one: one["files"].update({f"a/{n}": {"sha256": "0" * 64, "size": 2**28} for n in range(5)}),
    *(
        renamed(path)
        for path in (
            *("../x", "/etc/passwd", "a/../../x", "a/./x", "a//x", "a/", "/", "", ".", "..", "a/..", "a\\..\\x"),
            *("more.txt", "manifest.json", ".a/x", "a/.x", "a/-rf", "A/x", "a/x y", "a/x\n", "a/\0", "a/é", "C:/x"),
            *("a/b/c/d/e", "a/" + "x" * 101, "numpy_source/MODEL.py", "numpy_source/model.py/x", "other", "1a/x"),
        )
    ),
]


@pytest.mark.parametrize("change", CHANGES)
def test_a_manifest_with_a_right_checksum_and_a_wrong_value_is_refused(change):
    with pytest.raises(FormatError):
        format.loads(sealed(edited(change)))


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"}",
        b"\xff}",
        body()[:-1],
        body() + b" ",
        body().replace(b"\n ", b"\n  "),
        body().replace(b'"format": 1', b'"format": 1,\n "format": 1'),
        body().replace(b'"format": 1', b'"format": 1.0'),
        body().replace(b'"format": 1', b'"format": NaN'),
        body().replace(b'"format": 1', b'"format": ' + b"9" * 5000),
        body().replace(b'"format": 1', b'"format": ' + b"[" * 100_000 + b"]" * 100_000),
        body().replace(b'"low": null', b'"low": 1e999'),
        body().replace(b'"low": null', b'"low": -0'),
        body().replace(b'"low": null', b'"low": 1.50'),
        body().replace(b'"model"', b'"m\\u006fdel"'),
        body().replace(b'"name": "model"', b'"checksum": "", "name": "model"'),
    ],
)
def test_a_manifest_with_a_right_checksum_in_other_bytes_is_refused(text):
    assert text != body()
    with pytest.raises(FormatError):
        format.loads(sealed(text))


def test_the_sealed_body_of_these_tests_is_accepted_when_nothing_is_changed():
    assert format.loads(sealed(edited(lambda one: None))) == small().manifest


def test_a_huge_manifest_is_refused_before_it_is_parsed():
    with pytest.raises(FormatError, match="1048576"):
        format.loads(b" " * (2**20 + 1))
    with pytest.raises(FormatError, match="1048576"):
        format.dumps(small(provenance={str(n): "x" * 1000 for n in range(1100)}).manifest)


@pytest.mark.parametrize("name", ["", "A", "-a", "_a", "a/b", "a.b", "..", "a\n", "é", "x" * 64, "a b", None, 1])
def test_a_hostile_name_is_refused(name):
    with pytest.raises(InvalidNameError):
        naming_rules.check_name(name)


@pytest.mark.parametrize("version", ["", "0", 0, -1, "01", "1 ", "1.0", "+1", "١", 10**9, True, "1\n", 1.0])
def test_a_hostile_version_is_refused(version):
    with pytest.raises(InvalidNameError):
        naming_rules.check_version(version)
