import hashlib
import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save

from kanserve.artifact import Artifact, Entry, Manifest, Metrics, assemble, directory, format, names, read, write
from kanserve.errors import (
    ArtifactError,
    ConflictError,
    FormatError,
    IntegrityError,
    InvalidNameError,
    NotFoundError,
)
from kanserve.ir import Variable, equal
from kanserve.ranges import finite_rows
from kanserve.reference import evaluate
from tests.kans import classifier, hostile_names, one_edge


def small(kan=None, **options):
    """An artifact of a tiny network whose backend is a text."""
    kan = kan or one_edge()
    x = finite_rows(kan, 3)
    parts = {"numpy_source/model.py": b"print('hello')\n", "other/deep/er/file.txt": b""}
    return assemble(kan, parts, formulas=[{"text": "y"}], golden=(x, evaluate(kan, x)), **options)


MANIFEST = b"""{
 "checksum": "%s",
 "classes": [],
 "files": {
  "formula.json": {
   "sha256": "%s",
   "size": 2
  },
  "golden.safetensors": {
   "sha256": "%s",
   "size": 0
  },
  "kan.safetensors": {
   "sha256": "%s",
   "size": 0
  }
 },
 "format": 1,
 "inputs": [
  {
   "high": 2.5,
   "low": -1.0,
   "name": "gr\\u00f6\\u00dfe",
   "unit": "m"
  }
 ],
 "metrics": {
  "accuracy": null,
  "max_error": [
   0.5
  ],
  "r2": [
   null
  ],
  "rmse": [
   0.25
  ],
  "rows": 7
 },
 "name": "tiny",
 "outputs": [
  {
   "high": null,
   "low": null,
   "name": "y",
   "unit": ""
  }
 ],
 "precision": "float",
 "provenance": {
  "data": "seven rows"
 }
}
"""


def sealed(body):
    """A manifest's bytes with the right checksum, whatever they say: what an attacker writes."""
    return b'{\n "checksum": "%s",\n' % hashlib.sha256(body).hexdigest().encode() + body


def test_a_manifest_has_exactly_these_bytes():
    empty = hashlib.sha256(b"").hexdigest()
    manifest = Manifest(
        name="tiny",
        precision="float",
        inputs=(Variable("größe", "m", -1.0, 2.5),),
        outputs=(Variable("y"),),
        files={
            "kan.safetensors": Entry(empty, 0),
            "golden.safetensors": Entry(empty, 0),
            "formula.json": Entry(hashlib.sha256(b"{}").hexdigest(), 2),
        },
        metrics=Metrics(7, (float("nan"),), (0.25,), (0.5,)),
        provenance={"data": "seven rows"},
    )
    body = MANIFEST.split(b"\n", 2)[2] % (hashlib.sha256(b"{}").hexdigest().encode(), empty.encode(), empty.encode())
    assert format.dumps(manifest) == sealed(body)
    assert format.dumps(format.loads(sealed(body))) == sealed(body)


@pytest.mark.parametrize("make", [one_edge, classifier, hostile_names])
def test_an_artifact_comes_back_from_disk_as_it_was(make, tmp_path):
    metrics = Metrics(9, (0.5,) * len(make().outputs), (1.0,) * len(make().outputs), (2.0,) * len(make().outputs), 0.9)
    artifact = small(make(), name="a-b_c", metrics=metrics, provenance={"note": "größe\n"})
    write(tmp_path / "1", artifact)
    again = read(tmp_path / "1")
    assert again.manifest == artifact.manifest and again.files == artifact.files
    assert equal(again.kan(), make())
    assert again.backends == ("numpy_source", "other")
    assert again.part("numpy_source") == {"model.py": b"print('hello')\n"}
    assert again.formulas == [{"text": "y"}]
    x, y = again.golden()
    np.testing.assert_array_equal(y, evaluate(make(), x))
    assert [one.name for one in tmp_path.iterdir()] == ["1"]


def test_a_kind_that_is_not_there_is_named_with_those_that_are():
    with pytest.raises(NotFoundError, match="numpy_source, other"):
        small().part("c_source")


def test_bytes_that_differ_from_their_manifest_make_no_artifact():
    artifact = small()
    with pytest.raises(IntegrityError, match="bytes, got 1"):
        Artifact(artifact.manifest, {**artifact.files, "formula.json": b"2"})
    with pytest.raises(IntegrityError, match="checksum"):
        Artifact(artifact.manifest, {**artifact.files, "numpy_source/model.py": b"print('HELLO')\n"})
    with pytest.raises(FormatError, match="in one of them only"):
        Artifact(artifact.manifest, {**artifact.files, "numpy_source/more.py": b""})


def test_a_manifest_that_describes_another_network_is_refused():
    artifact = small()
    other = Manifest("model", (Variable("x9"),), artifact.manifest.outputs, artifact.manifest.files)
    with pytest.raises(FormatError, match="not those of the network"):
        Artifact(other, artifact.files).kan()


def test_golden_rows_of_another_shape_or_type_are_refused():
    artifact = small()
    rows = np.zeros((2, 1))
    for golden in (
        {"x": rows},
        {"x": rows, "y": rows[:1]},
        {"x": rows, "y": rows.astype("f")},
        {"x": rows[0], "y": rows},
    ):
        data = save(golden)
        entry = Entry(hashlib.sha256(data).hexdigest(), len(data))
        files = {**artifact.manifest.files, "golden.safetensors": entry}
        manifest = Manifest("model", artifact.manifest.inputs, artifact.manifest.outputs, files)
        with pytest.raises(FormatError, match="golden"):
            Artifact(manifest, {**artifact.files, "golden.safetensors": data}).golden()


# Damage


def _files(folder):
    return sorted(one for one in folder.rglob("*") if one.is_file())


def test_a_flipped_bit_in_any_byte_is_refused(tmp_path):
    write(tmp_path / "1", small())
    choose = random.Random(0)
    count = 0
    for file in _files(tmp_path / "1"):
        data = file.read_bytes()
        for position in range(len(data)):
            damaged = bytearray(data)
            damaged[position] ^= 1 << choose.randrange(8)
            file.write_bytes(damaged)
            with pytest.raises(ArtifactError):
                read(tmp_path / "1")
            count += 1
        file.write_bytes(data)
    read(tmp_path / "1")
    print(f"{count} flipped bits refused")


def test_every_truncation_and_an_appended_byte_are_refused(tmp_path):
    write(tmp_path / "1", small())
    for file in _files(tmp_path / "1"):
        data = file.read_bytes()
        for size in range(0, len(data), 5):
            file.write_bytes(data[:size])
            with pytest.raises(ArtifactError):
                read(tmp_path / "1")
        file.write_bytes(data + b"\n")
        with pytest.raises(ArtifactError):
            read(tmp_path / "1")
        file.write_bytes(data)
    read(tmp_path / "1")


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


# Hostile manifests, with the right checksum


def _body():
    return format.dumps(small().manifest).split(b"\n", 2)[2]


def _edited(change):
    value = json.loads(b"{" + _body())
    change(value)
    return json.dumps(value, sort_keys=True, indent=1).removeprefix("{\n").encode() + b"\n"


def _renamed(path):
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
        _renamed(path)
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
        format.loads(sealed(_edited(change)))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"}",
        b"\xff}",
        _body()[:-1],
        _body() + b" ",
        _body().replace(b"\n ", b"\n  "),
        _body().replace(b'"format": 1', b'"format": 1,\n "format": 1'),
        _body().replace(b'"format": 1', b'"format": 1.0'),
        _body().replace(b'"format": 1', b'"format": NaN'),
        _body().replace(b'"format": 1', b'"format": ' + b"9" * 5000),
        _body().replace(b'"format": 1', b'"format": ' + b"[" * 100_000 + b"]" * 100_000),
        _body().replace(b'"low": null', b'"low": 1e999'),
        _body().replace(b'"low": null', b'"low": -0'),
        _body().replace(b'"low": null', b'"low": 1.50'),
        _body().replace(b'"model"', b'"m\\u006fdel"'),
        _body().replace(b'"name": "model"', b'"checksum": "", "name": "model"'),
    ],
)
def test_a_manifest_with_a_right_checksum_in_other_bytes_is_refused(body):
    assert body != _body()
    with pytest.raises(FormatError):
        format.loads(sealed(body))


def test_the_sealed_body_of_these_tests_is_accepted_when_nothing_is_changed():
    assert format.loads(sealed(_edited(lambda one: None))) == small().manifest


def test_a_huge_manifest_is_refused_before_it_is_parsed():
    with pytest.raises(FormatError, match="1048576"):
        format.loads(b" " * (2**20 + 1))
    with pytest.raises(FormatError, match="1048576"):
        format.dumps(small(provenance={str(n): "x" * 1000 for n in range(1100)}).manifest)


@pytest.mark.parametrize("name", ["", "A", "-a", "_a", "a/b", "a.b", "..", "a\n", "é", "x" * 64, "a b", None, 1])
def test_a_hostile_name_is_refused(name):
    with pytest.raises(InvalidNameError):
        names.check_name(name)


@pytest.mark.parametrize("version", ["", "0", 0, -1, "01", "1 ", "1.0", "+1", "١", 10**9, True, "1\n", 1.0])
def test_a_hostile_version_is_refused(version):
    with pytest.raises(InvalidNameError):
        names.check_version(version)


# Writing


def test_nothing_is_written_over(tmp_path):
    for make in (Path.touch, Path.mkdir, lambda one: one.symlink_to("nowhere")):
        target = tmp_path / f"target{len(list(tmp_path.iterdir()))}"
        make(target)
        with pytest.raises(ConflictError):
            write(target, small())
    assert len(list(tmp_path.iterdir())) == 3


def test_of_two_writers_one_wins_and_the_other_is_told(tmp_path):
    with directory.staged(tmp_path, small()) as one, directory.staged(tmp_path, small()) as other:
        directory.place(one, tmp_path / "1")
        with pytest.raises(ConflictError):
            directory.place(other, tmp_path / "1")
    assert [one.name for one in tmp_path.iterdir()] == ["1"]


def test_a_folder_to_write_into_must_be_there(tmp_path):
    with pytest.raises(NotFoundError):
        write(tmp_path / "none" / "1", small())


FULL = """
import resource, signal, sys
from pathlib import Path
from kanserve.artifact import read, write
artifact = read(sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (200, 200))
signal.signal(signal.SIGXFSZ, signal.SIG_IGN if sys.argv[3] == "full" else signal.SIG_DFL)
write(sys.argv[2], artifact)
"""


def _run(source, *arguments):
    root = str(Path(format.__file__).parents[2])
    command = [sys.executable, "-c", source, *map(str, arguments)]
    return subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=60, check=False)


def test_a_write_that_fails_half_way_leaves_nothing(tmp_path):
    write(tmp_path / "1", small())
    (tmp_path / "out").mkdir()
    done = _run(FULL, tmp_path / "1", tmp_path / "out" / "1", "full")
    assert "OSError: [Errno 27] File too large" in done.stderr
    assert list((tmp_path / "out").iterdir()) == []


def test_a_writer_killed_in_the_middle_of_a_file_leaves_only_what_is_hidden(tmp_path):
    write(tmp_path / "1", small())
    (tmp_path / "out").mkdir()
    done = _run(FULL, tmp_path / "1", tmp_path / "out" / "1", "killed")
    assert done.returncode == -signal.SIGXFSZ
    (left,) = (tmp_path / "out").iterdir()
    assert left.name.startswith(".") and left.suffix == ".part"


def test_ten_thousand_mutated_manifests_raise_the_declared_errors_only():
    body, choose = _body(), random.Random(1)
    refused = 0
    for _ in range(10_000):
        damaged = bytearray(body)
        for _ in range(choose.choice((1, 1, 2, 5))):
            position = choose.randrange(len(damaged))
            match choose.randrange(3):
                case 0:
                    damaged[position] = choose.choice(b'0123456789"{}[]:, \nnaex\\\x00\xff')
                case 1:
                    del damaged[position : position + choose.randrange(1, 20)]
                case 2:
                    damaged[position:position] = body[position - 30 : position]
        try:
            format.loads(sealed(bytes(damaged)))
        except FormatError:
            refused += 1
    print(
        f"{refused} of 10000 mutated manifests refused; in the others a name, a digit of a checksum or a size differs"
    )
    assert refused > 5000


def test_two_thousand_mutated_golden_files_raise_the_declared_errors_only():
    artifact, choose = small(), random.Random(2)
    data = artifact.files["golden.safetensors"]
    header = data.index(b"}}") + 2
    for _ in range(2000):
        damaged = bytearray(data)
        damaged[choose.randrange(header)] = choose.randrange(256)
        damaged[choose.randrange(8, header)] = choose.choice(b'0123456789[]{}",:FUI')
        entry = Entry(hashlib.sha256(damaged).hexdigest(), len(damaged))
        files = {**artifact.manifest.files, "golden.safetensors": entry}
        manifest = Manifest("model", artifact.manifest.inputs, artifact.manifest.outputs, files)
        try:
            x, y = Artifact(manifest, {**artifact.files, "golden.safetensors": bytes(damaged)}).golden()
        except FormatError:
            continue
        assert x.shape[1] == y.shape[1] == 1 and x.dtype == y.dtype == np.float64
