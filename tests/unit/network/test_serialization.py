import json
import struct
from contextlib import suppress
from dataclasses import replace

import numpy as np
import pytest
from safetensors.numpy import load, save

from kanserve.errors import FormatError, NotFoundError
from kanserve.network import serialization
from kanserve.network.kan import equal
from tests.support.networks.kans import ZOO, fine, mixed


@pytest.mark.parametrize("name", ZOO)
def test_a_network_comes_back_from_its_bytes_bit_for_bit(name):
    kan = ZOO[name]()
    data = serialization.dumps(kan)
    assert equal(serialization.loads(data), kan)
    assert serialization.dumps(serialization.loads(data)) == data


@pytest.mark.parametrize("name", ZOO)
def test_a_network_comes_back_from_its_compact_bytes_bit_for_bit(name):
    kan = ZOO[name]()
    data = serialization.dumps(kan, compact=True)
    again = serialization.loads(data)
    assert equal(again, kan) and serialization.dumps(again) == serialization.dumps(kan)
    assert serialization.dumps(again, compact=True) == data


def test_compact_bytes_lack_only_affines_that_are_neutral_in_every_bit():
    kan = fine()
    data = serialization.dumps(kan, compact=True)
    assert _header(data)["version"] == 2 and not [name for name in load(data) if "affine" in name]
    assert set(load(serialization.dumps(kan))) - set(load(data)) == {
        f"layers.{number}.affine" for number in range(len(kan.layers))
    }
    negative = kan.layers[0].affine.copy()
    negative[0, 0, 1] = -0.0
    kan = replace(kan, layers=(replace(kan.layers[0], affine=negative), *kan.layers[1:]))
    assert np.signbit(serialization.loads(serialization.dumps(kan, compact=True)).layers[0].affine[0, 0, 1])


def test_a_file_is_written_whole_and_nothing_else_is_left(tmp_path):
    serialization.save(mixed(), tmp_path / "kan.safetensors")
    assert equal(serialization.load(tmp_path / "kan.safetensors"), mixed())
    assert [path.name for path in tmp_path.iterdir()] == ["kan.safetensors"]


def test_a_missing_file_and_a_folder_are_told_apart(tmp_path):
    with pytest.raises(NotFoundError, match="does not exist"):
        serialization.load(tmp_path / "none")
    with pytest.raises(FormatError, match="folder"):
        serialization.load(tmp_path)


def test_every_truncation_is_refused():
    data = serialization.dumps(mixed())
    for size in range(0, len(data), 7):
        with pytest.raises(FormatError):
            serialization.loads(data[:size])


def _header(data):
    (size,) = struct.unpack("<Q", data[:8])
    return json.loads(json.loads(data[8 : 8 + size])["__metadata__"]["kan"].partition(" ")[2])


def _with(change):
    data = serialization.dumps(mixed())
    header, tensors = _header(data), load(data)
    change(header, tensors)
    text = json.dumps(header)
    return save(tensors, metadata={"kan": f"{serialization.checksum(text, tensors)} {text}"})


@pytest.mark.parametrize(
    "change",
    [
        lambda header, _: header.update(version=3),  # which only networks with an encoding have
        lambda header, _: header.update(version=4),
        lambda header, _: header["inputs"][0].update(fill_value=1.0),  # which only files of version 3 may have
        lambda header, _: header.pop("layers"),
        lambda header, _: header.update(layers=[]),
        lambda header, _: header.update(layers=3),
        lambda header, _: header["layers"][0].update(functions=["os.system"]),
        lambda header, _: header["layers"][0].update(order=0),
        lambda header, _: header["layers"][0].update(order=3.0),
        lambda header, _: header["layers"][0].update(order=float("inf")),
        lambda header, _: header["layers"][0].update(order=True),
        lambda _, tensors: tensors.update({"layers.0.arity": np.array([1.9, 1.0])}),
        lambda header, _: header["layers"][0].update(base=["silu"]),
        lambda header, _: header["inputs"].pop(),
        lambda header, _: header["inputs"][0].update(low="x"),
        lambda _, tensors: tensors.pop("layers.0.knots"),
        lambda _, tensors: tensors.pop("layers.0.affine"),  # which only files of version 2 may lack
        lambda _, tensors: tensors.update({"layers.0.functions": np.full((2, 2), 9, np.int16)}),
        lambda _, tensors: tensors.update({"layers.0.functions": np.full((2, 2), -2, np.int16)}),
        lambda _, tensors: tensors.update({"layers.0.coefficients": np.full((2, 2, 8), np.nan)}),
        lambda _, tensors: tensors.update({"layers.0.knots": np.zeros((2, 3))}),
    ],
)
def test_a_file_that_is_no_network_is_refused_with_the_declared_error(change):
    with pytest.raises(FormatError):
        serialization.loads(_with(change))


def test_what_the_cases_above_change_is_all_that_is_wrong_with_them():
    assert equal(serialization.loads(_with(lambda header, tensors: None)), mixed())


def test_every_flipped_bit_is_refused_or_changes_nothing():
    data = serialization.dumps(mixed())
    bits = np.random.default_rng(0).integers(0, 8, len(data))
    for place in range(0, len(data), 3):
        flipped = bytearray(data)
        flipped[place] ^= 1 << int(bits[place])
        with suppress(FormatError):
            # Where it is read, one white space stood for another in the outer header.
            assert equal(serialization.loads(bytes(flipped)), mixed())


def test_a_safetensors_file_of_something_else_is_refused():
    with pytest.raises(FormatError, match="it has no entry '__metadata__'"):
        serialization.loads(save({"a": np.zeros(3)}))


def test_a_header_that_cannot_be_read_is_told_without_the_name_of_the_error():
    with pytest.raises(FormatError, match=r"invalid JSON in header") as refused:
        serialization.loads(b"\x10\0\0\0\0\0\0\0{garbage garbage")
    assert "SafetensorError" not in str(refused.value)


def test_a_member_with_members_is_never_written_and_refused_before_it_is_read():
    mean = replace(mixed(), members=(replace(mixed(), members=(mixed(), fine())), fine()))
    assert [len(member.members) for member in serialization.loads(serialization.dumps(mean)).members] == [0, 0]
    nested = serialization.dumps(replace(mixed(), members=(fine(), fine())))
    for _ in range(3):
        tensors = load(serialization.dumps(mixed())) | {"members.0": np.frombuffer(nested, np.uint8)}
        text = json.dumps(_header(serialization.dumps(mixed())))
        checked = f"{serialization.checksum(text, tensors)} {text}"
        nested = save(tensors, {"kan": checked})
        with pytest.raises(FormatError, match="has members itself"):
            serialization.loads(nested)
