import hashlib
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save

from kanserve.artifact import Artifact, Entry, Manifest, Metrics, directory, format, read, write
from kanserve.errors import ArtifactError, ConflictError, FormatError, IntegrityError, NotFoundError
from kanserve.network import serialization
from kanserve.network.evaluate import evaluate
from kanserve.network.kan import Variable, equal
from kanserve.network.training_range import finite_rows
from tests.support.artifacts import sealed, small
from tests.support.networks import sized_networks
from tests.support.networks.kans import classifier, hostile_names, one_edge

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
    assert equal(again.kan(), make())  # same bits: written and read
    assert again.backends == ("numpy_source", "other")
    assert again.part("numpy_source") == {"model.py": b"print('hello')\n"}
    assert again.formulas == [{"text": "y"}]
    x, y = again.golden()
    np.testing.assert_array_equal(y, evaluate(make(), x))  # same bits: the same call on the same rows, twice here
    assert [path.name for path in tmp_path.iterdir()] == ["1"]


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
    return sorted(path for path in folder.rglob("*") if path.is_file())


@pytest.mark.slow
@pytest.mark.extended
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


# Writing


def test_nothing_is_written_over(tmp_path):
    for make in (Path.touch, Path.mkdir, lambda one: one.symlink_to("nowhere")):
        target = tmp_path / f"target{len(list(tmp_path.iterdir()))}"
        make(target)
        with pytest.raises(ConflictError):
            write(target, small())
    assert len(list(tmp_path.iterdir())) == 3


def test_of_two_writers_one_wins_and_the_other_is_told(tmp_path):
    with directory.stage(tmp_path, small()) as one, directory.stage(tmp_path, small()) as other:
        directory.place(one, tmp_path / "1")
        with pytest.raises(ConflictError):
            directory.place(other, tmp_path / "1")
    assert [path.name for path in tmp_path.iterdir()] == ["1"]


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
    return subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=300, check=False)


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


def test_a_large_file_is_never_asked_for_all_at_once(tmp_path, monkeypatch):
    parts = {"other/large": bytes(2**21)}
    kan = one_edge()
    x = finite_rows(kan, 3)
    write(tmp_path / "large", format.assemble(kan, parts, formulas=[], golden=(x, evaluate(kan, x))))
    asked = []
    plain = os.read

    def counted(handle, size):
        asked.append(size)
        return plain(handle, size)

    monkeypatch.setattr(os, "read", counted)
    assert read(tmp_path / "large").files["other/large"] == parts["other/large"]
    assert 0 < 8 * max(asked) <= 2**21


@pytest.mark.parametrize(("nodes", "compact"), [(150, False), (200, True)])
def test_only_the_network_of_a_large_artifact_is_written_so_that_earlier_servers_cannot_read_it(nodes, compact):
    kan = sized_networks.splines(200, nodes)
    x = np.zeros((1, 200))
    made = format.assemble(kan, {}, formulas=[], golden=(x, np.zeros((1, nodes))))
    assert made.files["kan.safetensors"] == serialization.dumps(kan, compact=compact) and equal(made.kan(), kan)
    assert (made.files["kan.safetensors"] == serialization.dumps(kan)) is not compact
