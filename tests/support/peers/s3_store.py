"""A store that speaks S3, on this machine, and what fsspec must know to find it."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any
from urllib.request import Request, urlopen

import pytest

SECRET = "a-secret-of-this-machine"


@contextmanager
def s3() -> Iterator[str]:
    """The address of a running store with one empty bucket, "bucket"."""
    server = pytest.importorskip("moto.server", reason="needs moto").ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        address = f"http://{host}:{port}"
        # What another such store of this process held is there still.
        with urlopen(Request(f"{address}/moto-api/reset", method="POST"), timeout=60), environment(address):
            files().mkdir("bucket")
        yield address
    finally:
        server.stop()


@contextmanager
def environment(address: str) -> Iterator[None]:
    """What an S3 client looks for in its environment."""
    wanted = {
        "AWS_ENDPOINT_URL": address,
        "AWS_ACCESS_KEY_ID": "somebody",
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_MAX_ATTEMPTS": "1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def files(scheme: str = "s3") -> Any:
    """The file system itself, to put there what nobody should (fsspec carries no types)."""
    return _files(scheme, os.environ.get("AWS_ENDPOINT_URL"))


@cache
def _files(scheme: str, address: str | None) -> Any:
    """One file system for each address: a client of S3 takes a quarter of a second to make."""
    import fsspec

    return fsspec.filesystem(scheme, use_listings_cache=False, skip_instance_cache=True)


def put(root: str, key: str, data: bytes = b"") -> None:
    """As anybody with another tool might; keys of S3 are any text."""
    scheme, path = root.split("://")
    if scheme == "s3":
        bucket, _, start = path.partition("/")
        files().call_s3("put_object", Bucket=bucket, Key=f"{start}/{key}", Body=data)
    else:
        files(scheme).pipe_file(f"/{path}/{key}", data)
