"""What an attacker may try, at length. The tests do a part of it.

    python -m tests.soak.soak_security [TIMES]

Each step raises AssertionError where the server, or what reads a file, does other than it should, and returns a line
with its numbers.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc

from kanserve.artifact import read, signing, write
from kanserve.artifact.naming_rules import SIGNATURE
from kanserve.artifact.signing import Verifier
from kanserve.errors import ArtifactError
from kanserve.inference import grpc_service_pb2 as pb
from kanserve.inference import wire
from kanserve.serve.settings import Role, Settings
from tests.support.artifacts import small
from tests.support.faults import artifact_mutations, http2_flood
from tests.support.faults.hostile_requests import Maker, Sender
from tests.support.paths import ROOT
from tests.support.servers import keys
from tests.support.servers.callers import models

_EVERYTHING: tuple[Role, ...] = ("predict", "read", "manage")
_EXPECTED = (grpc.StatusCode.OK, grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND)
_NO_LAW = grpc.StatusCode.FAILED_PRECONDITION  # a network with splines has no formula in Fortran
_MB = 2**20


@contextmanager
def _folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="kanserve-soak-") as name:
        yield Path(name)


def hostile_requests(count: int, seed: int = 0) -> str:
    """1: only OK, INVALID_ARGUMENT and, for names, NOT_FOUND; the memory of the server stays what it was.

    In a process of its own: what other tests left running in this one would count as the server's.
    """
    codes: Counter[str] = Counter()
    with _folder() as root:
        maker = Maker(models(root), seed)
        settings = Settings(repository=str(root), port=0, anonymous=_EVERYTHING)
        with http2_flood.process(settings) as running, grpc.insecure_channel(running.address) as channel:
            sender = Sender(channel)
            _send(sender, maker, min(2000, count), codes)  # until all is loaded that is loaded late
            before = running.memory()
            _send(sender, maker, count, codes)
            grown = running.memory() - before
            good = pb.ModelReadyRequest(name="plain").SerializeToString()
            assert sender.send(f"/{wire.SERVICE_NAME}/ModelReady", good)[2] == b"\x08\x01", "it serves on"
    assert grown < 20 * _MB, f"{grown} bytes more"
    return f"{codes.total()} requests: {dict(codes)}; memory grew by {grown / _MB:.1f} MB"


def _send(sender: Sender, maker: Maker, count: int, codes: Counter[str]) -> None:
    for path, data in maker.requests(count):
        code, text, answer = sender.send(path, data)
        allowed = (*_EXPECTED, _NO_LAW) if path.endswith("/GetFormula") else _EXPECTED
        assert code in allowed, f"{path} {data[:300]!r}: {code} {text}"
        if path.endswith("/ModelStreamInfer") and answer:
            said = pb.ModelStreamInferResponse.FromString(answer).error_message
            assert "internal" not in said, f"{path} {data[:300]!r}: {said}"
        codes[code.name] += 1


def mutated_files(count: int, seed: int = 0) -> str:
    """2: `count` of each kind."""
    made = (
        artifact_mutations.trees,
        artifact_mutations.manifests,
        artifact_mutations.golden,
        artifact_mutations.networks,
    )
    said = [f"{mutate(count, seed)} of {count} {mutate.__name__}" for mutate in made]
    return f"refused, with the declared errors only: {', '.join(said)}"


def damaged_artifacts(bits: int = 8, step: int = 1) -> str:
    """3: `bits` of the 8 of each byte flipped, and every `step`th truncation, of a signed artifact."""
    flipped = cut = 0
    with _folder() as root:
        private, public = keys.signing_pair(root)
        write(root / "1", signing.signed(small(), signing.private_key(private)))
        trusted = signing.trust([public])
        for file in sorted(path for path in (root / "1").rglob("*") if path.is_file()):
            data = file.read_bytes()
            demand = [trusted] if file.name == SIGNATURE else [None, trusted]
            for bit in (8 * position + bit for position in range(len(data)) for bit in _spread(position, bits)):
                damaged = bytearray(data)
                damaged[bit // 8] ^= 1 << bit % 8
                file.write_bytes(damaged)
                _refused(root / "1", demand[bit % len(demand)])
                flipped += 1
            for size in range(0, len(data), step):
                file.write_bytes(data[:size])
                _refused(root / "1", demand[size % len(demand)])
                cut += 1
            file.write_bytes(data)
        read(root / "1", trusted)
    return f"{flipped} flipped bits and {cut} truncations refused"


def _spread(position: int, bits: int) -> Iterator[int]:
    """So many different bits, others at each position."""
    return ((position * 3 + number) % 8 for number in range(bits))


def _refused(folder: Path, trusted: Verifier | None) -> None:
    try:
        read(folder, trusted)
    except ArtifactError:
        return
    raise AssertionError("a damaged artifact was read")


def hostile_names(count: int) -> str:
    """4: every call with each of so many names, and no file outside of the repository is opened."""
    here = ROOT
    environment = {**os.environ, "PYTHONPATH": f"{here}{os.pathsep}{here / 'exporters'}"}
    with _folder() as place:
        models(place / "models")
        models(place / "outside")
        command = [sys.executable, "-m", "tests.support.faults.opened_files", str(place / "models"), str(count)]
        done = subprocess.run(
            command, cwd=here, env=environment, capture_output=True, text=True, timeout=1000, check=False
        )
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout)
    assert not found["opened"], found["opened"][:10]
    assert not found["wrong"], found["wrong"][:10]
    return "{names} hostile names in {calls} calls of {methods} methods: no file opened outside".format(**found)


def floods(calls: int) -> str:
    """9: a message of 1 GB, one that unpacks to as much, and 16 KB of metadata again and again."""
    infer = f"/{wire.SERVICE_NAME}/ModelInfer"
    with _folder() as root:
        models(root)
        with http2_flood.process(Settings(repository=str(root), port=0)) as running:
            with grpc.insecure_channel(running.address) as channel:
                http2_flood.codes(channel, infer, (), 10)
                before = running.memory()
                running.forget()
                sent = http2_flood.large_message(running.address, infer, 2**30)
                packed = http2_flood.packed_message(channel, infer, 2**27)
                large = http2_flood.codes(channel, infer, (("x-large", "a" * 16_384),), calls)
                many = http2_flood.codes(channel, infer, tuple((f"x-{n}", "a" * 32) for n in range(250)), calls // 10)
                after = http2_flood.codes(channel, f"/{wire.SERVICE_NAME}/ServerReady", (), 1)
            grown = running.peak() - before
    # grpc before 1.82 takes all of it, and all that a packed one becomes, before it looks at the limit.
    assert sent < _MB, f"{sent} bytes of a message of 1 GB were taken"
    assert packed == "RESOURCE_EXHAUSTED", packed
    assert large == {"RESOURCE_EXHAUSTED": calls}, large
    assert many == {"RESOURCE_EXHAUSTED": calls // 10}, many
    assert after == {"OK": 1}, after
    assert grown < 64 * _MB, f"{grown} bytes more"
    return (
        f"1 GB refused after {sent} bytes, 128 MB packed refused, {calls + calls // 10} calls with large metadata "
        f"refused; memory grew by {grown / _MB:.1f} MB at most"
    )


def main(times: int = 1) -> None:
    """All steps, `times` times as long as the least that is asked for."""
    seed = time.time_ns()
    print(f"seed {seed}", flush=True)
    steps: list[tuple[str, Callable[[], str]]] = [
        ("1 hostile requests", lambda: hostile_requests(10_000 * times, seed)),
        ("2 mutated files", lambda: mutated_files(10_000 * times, seed)),
        ("3 damaged artifacts", damaged_artifacts),
        ("4 hostile names", lambda: hostile_names(500)),
        ("9 floods", lambda: floods(1000 * times)),
    ]
    for name, step in steps:
        begun = time.monotonic()
        print(f"{name}: {step()} ({time.monotonic() - begun:.0f} s)", flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1)
