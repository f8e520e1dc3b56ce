"""The files of a large network are read and checked in pieces, and what is refused is what it would be as a whole."""

import hashlib
import json
import os
import random
from dataclasses import replace
from typing import Any

import pytest

from kanserve.artifact import directory
from kanserve.artifact.format import Artifact, Entry
from kanserve.artifact.naming_rules import FORMULA
from kanserve.errors import FormatError
from kanserve.serve.models import chunked_json
from kanserve.serve.models.lazy_formulas import LazyFormulas
from tests.support import serving

LETTERS = 'ab"\\\n\u00e9\u20ac\U0001f600{}[],: '
DAMAGE = b'{}[],:" 0-.e\\n1\x80\xff\t'


def value(random: random.Random, depth: int = 0) -> Any:
    match random.randrange(8 if depth < 4 else 5):
        case 0:
            return random.choice([None, True, False])
        case 1:
            return random.randrange(-(10**6), 10**6)
        case 2:
            return random.uniform(-1, 1) * 10.0 ** random.randrange(-300, 300)
        case 3 | 4:
            return "".join(random.choices(LETTERS, k=random.randrange(12)))
        case 5 | 6:
            return [value(random, depth + 1) for _ in range(random.randrange(6))]
    return {f"{letter}": value(random, depth + 1) for letter in random.sample(LETTERS, random.randrange(6))}


def damaged(random: random.Random, data: bytes) -> bytes:
    at, letter = random.randrange(len(data)), bytes([random.choice(DAMAGE)])
    return data[:at] + random.choice([b"", letter]) + data[at + random.randrange(2) :]


def parsed(data: bytes, piece: int) -> str:
    """What comes of it as text, in which 1, 1.0 and True differ, and NaN does not."""
    try:
        return repr(json.loads(data.decode(errors="surrogatepass")) if piece == 0 else whole(data, piece))
    except ValueError:
        return "refused"


def whole(data: bytes, piece: int) -> Any:
    return chunked_json.parse(data, json.JSONDecoder(), piece)


def test_pieces_of_any_size_give_what_the_whole_gives():
    chance = random.Random(0)
    refused = 0
    for number in range(900):
        data = json.dumps(value(chance), ensure_ascii=number % 3 == 0, indent=(None, 1, 2)[number % 3]).encode()
        if number % 2:
            data = damaged(chance, data)
        wanted = parsed(data, 0)
        refused += wanted == "refused"
        for piece in (1, 2, 3, 7, 16, 64, chunked_json.PIECE):
            assert parsed(data, piece) == wanted, (data, piece)
    assert 100 < refused < 450


def test_lists_of_values_that_are_written_alike_or_not_are_whole():
    alike: tuple[Any, ...] = (
        ["]", '",'],
        [[1, [2, 3]], [4, [5]]],
        [1, [1], "1", {"1": 1}],
        [{"a": [{}, []]}, {}],
        [",\n  ["],
        [],
    )
    for item in alike:
        many = [item] * 200
        for indent in (None, 1):
            assert whole(json.dumps(many, indent=indent).encode(), 100) == many


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 100_000])
def test_what_is_too_deep_is_refused(text):
    with pytest.raises((ValueError, RecursionError)):
        whole(text.encode(), 1000)


class Watched(bytes):
    """Bytes that know the sizes of the parts that were taken of them."""

    taken: list[int]

    def __getitem__(self, place: Any) -> Any:
        part = super().__getitem__(place)
        self.taken.append(len(part) if isinstance(place, slice) else 1)
        return part


def formulas() -> Watched:
    """Those of the model, and as much more beside them as a large network has."""
    data = json.loads(serving.artifact("iris").files[FORMULA])
    data["formulas"]["tables"] |= {f"t{number}": [[0.5] * 20] * 20 for number in range(1000)}
    made = Watched(json.dumps(data, indent=1).encode())
    made.taken = []
    return made


def with_formulas(data: bytes) -> Artifact:
    artifact = serving.artifact("iris")
    entry = Entry(hashlib.sha256(data).hexdigest(), len(data))
    manifest = replace(artifact.manifest, files={**artifact.manifest.files, FORMULA: entry})
    return Artifact(manifest, {**artifact.files, FORMULA: data})


@pytest.mark.slow
def test_the_formulas_of_a_large_network_never_become_text_at_once():
    data = formulas()
    artifact = with_formulas(data)
    data.taken.clear()
    LazyFormulas(artifact, artifact.kan())
    assert sum(data.taken) == len(data) > 20 * chunked_json.PIECE
    assert max(data.taken) <= chunked_json.PIECE


@pytest.mark.slow
@pytest.mark.parametrize(
    "wrong, text", [(b"NaN", "NaN"), (b"0.5,]", "not JSON"), (b'{"a": 1, "a": 1}', "twice"), (b"", "not JSON")]
)
def test_formulas_that_are_broken_far_inside_are_not_loaded(wrong, text):
    good = bytes(formulas())
    middle = good.index(b"0.5", len(good) // 2)
    artifact = with_formulas(good[:middle] + wrong + good[middle + 3 :])
    with pytest.raises(FormatError, match=text):
        LazyFormulas(artifact, artifact.kan())


def test_a_file_is_never_asked_for_all_at_once(tmp_path, monkeypatch):
    artifact = with_formulas(formulas())
    directory.write(tmp_path / "large", artifact)
    asked = []
    read = os.read

    def counted(handle: int, size: int) -> bytes:
        asked.append(size)
        return read(handle, size)

    monkeypatch.setattr(os, "read", counted)
    assert directory.read(tmp_path / "large").files == artifact.files
    assert 0 < 8 * max(asked) < len(artifact.files[FORMULA])
