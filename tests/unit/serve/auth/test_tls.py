import logging
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from kanserve.errors import InputError
from kanserve.serve.auth import rotation
from kanserve.serve.settings import Settings
from kanserve.serve.transport.grpcio import credentials
from tests.support.servers import keys

CA = keys.authority()


@contextmanager
def serving(settings: Settings) -> Iterator[str]:
    """The address of a server that answers /test/who with the name in the caller's certificate."""

    def who(request: bytes, context: grpc.ServicerContext) -> bytes:
        names = context.auth_context().get("x509_common_name", ())
        return b",".join(bytes(name) for name in names)

    handler = grpc.unary_unary_rpc_method_handler(who)
    server = grpc.server(ThreadPoolExecutor(4))
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test", {"who": handler}),))
    found = credentials(settings)
    assert found is not None
    port = server.add_secure_port("127.0.0.1:0", found)
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(None).wait()


def ask(address: str, authorities: bytes = CA.certificate, client: keys.Pair | None = None) -> bytes:
    """One call over a connection of its own."""
    pair = (client.key, client.certificate) if client else (None, None)
    made = grpc.ssl_channel_credentials(authorities, *pair)
    options = [("grpc.use_local_subchannel_pool", 1)]
    with grpc.secure_channel(address, made, options=options) as channel:
        answer: bytes = channel.unary_unary("/test/who", bytes, bytes)(b"", timeout=60)
        return answer


def refused(address: str, **arguments) -> bool:
    try:
        ask(address, **arguments)
    except grpc.RpcError as error:
        assert error.code() is grpc.StatusCode.UNAVAILABLE, error
        return True
    return False


def settings(folder: Path, server: keys.Pair, **more: str) -> Settings:
    certificate, key = server.write(folder, "server")
    return Settings(tls_certificate=certificate, tls_key=key, **more)  # type: ignore[arg-type]  # texts only


@pytest.fixture
def authorities(tmp_path) -> str:
    path = tmp_path / "clients.pem"
    path.write_bytes(CA.certificate)
    return str(path)


def test_without_files_there_is_no_tls():
    assert credentials(Settings()) is None


def test_a_client_that_trusts_the_authority_is_answered_and_plain_text_is_not(tmp_path):
    with serving(settings(tmp_path, CA.pair("server"))) as address:
        assert ask(address) == b""
        assert refused(address, authorities=keys.authority("another").certificate)
        with grpc.insecure_channel(address) as channel, pytest.raises(grpc.RpcError):
            channel.unary_unary("/test/who", bytes, bytes)(b"", timeout=60)


def test_client_certificates_are_demanded_of_the_right_authority_and_not_expired(tmp_path, authorities):
    with serving(settings(tmp_path, CA.pair("server"), tls_client_ca=authorities)) as address:
        assert ask(address, client=CA.pair("robot")) == b"robot"
        assert refused(address)
        assert refused(address, client=keys.authority("another").pair("robot"))
        assert refused(address, client=CA.pair("robot", expired=True))


def _swap(pair: keys.Pair, folder: Path) -> None:
    """Replace both files, one after the other as people do."""
    for name, data in (("server.crt", pair.certificate), ("server.key", pair.key)):
        (folder / "part").write_bytes(data)
        os.replace(folder / "part", folder / name)


@pytest.mark.slow
@pytest.mark.extended
def test_twenty_rotations_under_load_fail_no_call(tmp_path):
    authorities = [keys.Authority(f"authority {n}") for n in range(21)]
    # A client trusts all of them and says whose certificate it saw by which of them alone it could have trusted.
    trusted = b"".join(authority.certificate for authority in authorities)
    answered, failed, done = [0], list[str](), threading.Event()

    def load() -> None:
        while not done.is_set():
            try:
                ask(address, trusted)
                answered[0] += 1
            except grpc.RpcError as error:
                failed.append(str(error))

    with serving(settings(tmp_path, authorities[0].pair("server"))) as address:
        threads = [threading.Thread(target=load) for _ in range(2)]
        for thread in threads:
            thread.start()
        try:
            for new in authorities[1:]:
                before = answered[0]
                _swap(new.pair("server"), tmp_path)
                while answered[0] < before + 4 and not failed:
                    done.wait(0.001)
                assert not refused(address, authorities=new.certificate)  # the new one is in use
        finally:
            done.set()
            for thread in threads:
                thread.join()
    print(f"20 rotations under load: {answered[0]} new connections, {len(failed)} failures")
    assert not failed and answered[0] >= 80


def test_the_authorities_of_clients_are_read_again_too(tmp_path, authorities):
    other = keys.authority("another")
    with serving(settings(tmp_path, CA.pair("server"), tls_client_ca=authorities)) as address:
        assert refused(address, client=other.pair("robot"))
        Path(authorities).write_bytes(CA.certificate + other.certificate)
        assert ask(address, client=other.pair("robot")) == b"robot"
        Path(authorities).write_bytes(other.certificate)
        assert refused(address, client=CA.pair("robot"))


def _half(folder: Path) -> None:
    data = (folder / "server.crt").read_bytes()
    (folder / "server.crt").write_bytes(data[: len(data) // 2])


@pytest.mark.parametrize(
    "damage",
    [
        _half,
        lambda folder: (folder / "server.crt").write_bytes(b""),
        lambda folder: (folder / "server.crt").unlink(),
        lambda folder: (folder / "server.key").write_bytes(CA.pair("other").key),  # the pair does not match
        lambda folder: (folder / "server.crt").write_bytes(CA.pair("other").certificate),
        lambda folder: (folder / "server.key").write_bytes(b"no key"),
        lambda folder: (folder / "clients.pem").write_bytes(b"no certificates"),
        lambda folder: (folder / "clients.pem").unlink(),
    ],
)
def test_files_that_do_not_fit_leave_the_old_ones_serving_and_are_logged_once(damage, tmp_path, authorities, caplog):
    caplog.set_level(logging.INFO)
    with serving(settings(tmp_path, CA.pair("server"), tls_client_ca=authorities)) as address:
        damage(tmp_path)
        for _ in range(3):
            assert ask(address, client=CA.pair("robot")) == b"robot"
        (said,) = (record.message for record in caplog.records if record.levelno == logging.ERROR)
        assert "The old certificate stays in use." in said
        new = keys.authority("another")
        _swap(new.pair("server"), tmp_path)
        Path(authorities).write_bytes(CA.certificate)
        assert ask(address, new.certificate, CA.pair("robot")) == b"robot"
        assert caplog.records[-1].message == "The certificates were reloaded."


def test_a_handshake_looks_at_the_times_of_the_files_and_reads_none_that_did_not_change(
    tmp_path, authorities, monkeypatch
):
    made = settings(tmp_path, CA.pair("server"), tls_client_ca=authorities)
    looked: list[str] = []
    read: list[str] = []
    stamp = rotation.stamp

    def look(path: str) -> rotation.Stamp | None:
        looked.append(path)
        return stamp(path)

    with serving(made) as address:
        monkeypatch.setattr(rotation, "stamp", look)
        monkeypatch.setattr(rotation, "read", lambda path, what: read.append(path))
        assert ask(address, client=CA.pair("robot")) == b"robot"
    assert sorted(looked) == sorted((made.tls_certificate, made.tls_key, made.tls_client_ca)) and read == []


@pytest.mark.parametrize(
    ("break_it", "says"),
    [
        (lambda folder: (folder / "server.crt").unlink(), "certificate .* cannot be read: No such file"),
        (lambda folder: (folder / "server.key").unlink(), "key .* cannot be read: No such file"),
        (lambda folder: (folder / "server.key").write_bytes(b""), "has 0 bytes"),
        (lambda folder: (folder / "server.key").write_bytes(b"no key"), "cannot be used"),
        (lambda folder: (folder / "server.key").write_bytes(CA.pair("x").key), "KEY_VALUES_MISMATCH|belong together"),
        (lambda folder: (folder / "server.crt").write_bytes(b"0" * 2**21), "at most"),
        (lambda folder: (folder / "clients.pem").write_bytes(b"none"), "not PEM certificates"),
        (lambda folder: (folder / "clients.pem").write_bytes(CA.pair("x").key), "not PEM certificates"),
    ],
)
def test_bad_files_say_so_at_the_start(break_it, says, tmp_path, authorities):
    made = settings(tmp_path, CA.pair("server"), tls_client_ca=authorities)
    break_it(tmp_path)
    with pytest.raises(InputError, match=says):
        credentials(made)


@pytest.mark.parametrize("half", [{"tls_certificate": "a"}, {"tls_key": "a"}, {"tls_client_ca": "a"}])
def test_half_of_tls_is_refused(half):
    with pytest.raises(InputError, match="needs both"):
        credentials(Settings(**half))


def test_a_key_with_a_password_asks_nobody(tmp_path):
    pair = CA.pair("server")
    made = settings(tmp_path, pair)
    key = load_pem_private_key(pair.key, None)
    encrypted = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"word"))
    (tmp_path / "server.key").write_bytes(encrypted)
    with pytest.raises(InputError, match="without a password"):
        credentials(made)
