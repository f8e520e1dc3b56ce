import json
import os
import shutil
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat

from kanserve import repository
from kanserve.artifact import directory, format, read, signing, write
from kanserve.artifact.naming_rules import SIGNATURE
from kanserve.errors import (
    ArtifactError,
    ConflictError,
    FormatError,
    InputError,
    KanserveError,
    NotFoundError,
    SignatureError,
)
from kanserve.network import serialization
from tests.support.artifacts import small
from tests.support.networks.kans import one_edge
from tests.support.programs import needs
from tests.support.servers import keys


@pytest.fixture
def key(tmp_path):
    """The files of a private and its public key."""
    return keys.signing_pair(tmp_path)


@pytest.fixture
def trusted(key):
    return signing.trust([key[1]])


@pytest.fixture
def version(tmp_path, key):
    """The folder of a signed version."""
    write(tmp_path / "1", signing.signed(small(), signing.private_key(key[0])))
    return tmp_path / "1"


def test_a_signed_version_is_read_by_who_trusts_the_key_and_by_who_demands_none(version, trusted):
    assert read(version, trusted).manifest == read(version).manifest == small().manifest


def test_one_of_several_trusted_keys_is_enough(version, key, tmp_path):
    _, other = keys.signing_pair(tmp_path, "other")
    read(version, signing.trust([other, key[1]]))


def test_an_unsigned_version_and_one_signed_by_another_are_refused(version, trusted, tmp_path):
    _, other = keys.signing_pair(tmp_path, "other")
    with pytest.raises(SignatureError, match="not by a trusted key"):
        read(version, signing.trust([other]))
    (version / SIGNATURE).unlink()
    with pytest.raises(SignatureError, match="not signed"):
        read(version, trusted)


def test_the_signature_is_checked_before_anything_is_parsed(version, trusted, monkeypatch):
    manifest = version / "manifest.json"
    manifest.write_bytes(b"[" * 100_000)
    monkeypatch.setattr(format, "loads", lambda data: pytest.fail("parsed"))
    with pytest.raises(SignatureError):
        read(version, trusted)


def test_a_manifest_that_was_changed_with_its_checksum_is_refused(version, trusted):
    other = small(provenance={"note": "mine"})
    (version / "manifest.json").write_bytes(format.dumps(other.manifest))
    assert read(version).manifest == other.manifest
    with pytest.raises(SignatureError):
        read(version, trusted)


@pytest.mark.slow
def test_every_flipped_bit_and_truncation_of_a_signature_is_refused(version, trusted):
    file = version / SIGNATURE
    signature = file.read_bytes()
    assert len(signature) == 64
    for bit in range(8 * 64):
        damaged = bytearray(signature)
        damaged[bit // 8] ^= 1 << bit % 8
        file.write_bytes(damaged)
        with pytest.raises(SignatureError):
            read(version, trusted)
    for size in range(64):
        file.write_bytes(signature[:size])
        for verifier in (trusted, None):
            with pytest.raises(ArtifactError):
                read(version, verifier)
    file.write_bytes(signature + b"\n")
    with pytest.raises(ArtifactError, match="64"):
        read(version)
    print("512 flipped bits and 64 truncations of a signature refused")


@pytest.mark.slow
@pytest.mark.extended
def test_every_flipped_bit_of_a_signed_manifest_is_refused_by_the_signature(version, trusted):
    file = version / "manifest.json"
    data = file.read_bytes()
    count = 0
    for position in range(len(data)):
        for bit in range(8):
            damaged = bytearray(data)
            damaged[position] ^= 1 << bit
            with pytest.raises(SignatureError):
                trusted.check(bytes(damaged), (version / SIGNATURE).read_bytes())
            count += 1
    print(f"{count} flipped bits of a signed manifest refused")


def _in_place_of_the_signature(make):
    def attack(folder):
        (folder / SIGNATURE).unlink()
        make(folder / SIGNATURE)

    return attack


@pytest.mark.parametrize(
    "attack",
    [
        lambda one: (one / SIGNATURE).rename(one.parent / "away") and (one / SIGNATURE).symlink_to(one.parent / "away"),
        _in_place_of_the_signature(os.mkfifo),
        _in_place_of_the_signature(os.mkdir),
        lambda one: os.truncate(one / SIGNATURE, 2**40),
        lambda one: (one / "manifest.sig2").write_bytes(b"0" * 64),
        lambda one: (one / "numpy_source" / SIGNATURE).write_bytes(b"0" * 64),
    ],
)
def test_a_hostile_signature_is_refused_with_and_without_keys(attack, version, trusted):
    attack(version)
    for verifier in (trusted, None):
        with pytest.raises(ArtifactError):
            read(version, verifier)


def test_a_manifest_cannot_list_the_signature():
    entry = next(iter(small().manifest.files.values()))
    with pytest.raises(KanserveError):
        format.Manifest(
            "model", small().manifest.inputs, small().manifest.outputs, {**small().manifest.files, SIGNATURE: entry}
        )


def test_an_artifact_takes_its_signature_to_a_second_name(version, trusted, tmp_path):
    repository.publish(tmp_path / "models", "again", read(version))
    assert directory.read(tmp_path / "models" / "again" / "1", trusted).signature == read(version).signature


# Places


def _moved(root, name, number):
    """The signed first version of "law", put somewhere else by who has no key."""
    target = root / name / str(number)
    target.parent.mkdir(exist_ok=True)
    shutil.copytree(root / "law" / "1", target)


@pytest.mark.parametrize("url", [False, True])
def test_a_signed_version_is_served_neither_as_another_model_nor_as_another_version(url, tmp_path, key, trusted):
    root = "memory://signed/places" if url else str(tmp_path / "models")
    for name in ("law", "owl"):
        repository.publish(root, name, small(), key=signing.private_key(key[0]))
    whole = repository.read(root, "law", 1, trusted)
    for name, number in (("law", 2), ("owl", 2), ("elk", 1)):
        assert repository.publish(root, name, whole) == number  # its signature goes along
        with pytest.raises(SignatureError, match=f"another name or version than {name}/{number}"):
            repository.read(root, name, number, trusted)
    assert repository.publish(root, "elk", whole, key=signing.private_key(key[0])) == 2
    assert repository.read(root, "elk", 2, trusted).manifest == whole.manifest


def test_a_folder_is_known_by_the_end_of_its_path(tmp_path, key, trusted, monkeypatch):
    root = tmp_path / "models"
    repository.publish(root, "law", small(), key=signing.private_key(key[0]))
    read(root / "law" / "1", trusted)
    monkeypatch.chdir(root / "law")
    read("1", trusted)
    _moved(root, "law", 2)
    with pytest.raises(SignatureError):
        read("2", trusted)
    with pytest.raises(SignatureError):
        read(shutil.copytree("1", tmp_path / "mounted"), trusted)


def test_what_is_mounted_is_what_it_is_served_as(tmp_path, key, trusted):
    root, secret = tmp_path / "models", signing.private_key(key[0])
    repository.publish(root, "law", small(), key=secret)
    repository.publish(root, "law", small(), key=secret)
    assert repository.open(root / "law", trusted=trusted).read("law", 2).manifest == small().manifest
    assert repository.open(root / "law" / "2", name="x", trusted=trusted).read("x", 1).manifest.name
    first, second = (shutil.copytree(root / "law" / number, tmp_path / f"mounted-{number}") for number in ("1", "2"))
    assert repository.open(first, name="law", trusted=trusted).read("law", 1).manifest == small().manifest
    for folder, name in ((first, "owl"), (second, "law")):
        with pytest.raises(SignatureError):
            repository.open(folder, name=name, trusted=trusted).read(name, 1)
    with pytest.raises(SignatureError, match="for a name and version only"):
        repository.open(first, trusted=trusted)
    write(tmp_path / "anywhere", signing.signed(small(), secret))
    repository.open(tmp_path / "anywhere", name="owl", trusted=trusted).read("owl", 1)


def test_of_publishers_who_race_each_signs_for_the_number_that_it_gets(tmp_path, key, trusted):
    root, secret = tmp_path / "models", signing.private_key(key[0])
    with ThreadPoolExecutor(4) as pool:
        numbers = list(pool.map(lambda _: repository.publish(root, "law", small(), key=secret), range(12)))
    assert sorted(numbers) == list(range(1, 13))
    for number in numbers:
        repository.read(root, "law", number, trusted)


def test_no_manifest_is_taken_for_a_place(tmp_path, key, trusted):
    data = format.dumps(small().manifest)
    secret = signing.private_key(key[0])
    everywhere, law = signing.sign(data, secret), signing.sign(data, secret, ("law", 1))
    trusted.check(signing.statement(data, ("law", 1)), law)  # the same bytes; as a manifest they are refused
    with pytest.raises(FormatError):
        format.loads(signing.statement(data, ("law", 1)))
    trusted.check(data, everywhere, ("owl", 7))
    for place in (None, ("law", 11), ("law1", 1), ("la", 1)):
        with pytest.raises(SignatureError):
            trusted.check(data, law, place)


def test_a_signature_of_another_length_makes_no_artifact():
    with pytest.raises(FormatError, match="64"):
        format.Artifact(small().manifest, small().files, b"short")


# Keys


def _openssl(*words):
    subprocess.run(["openssl", *map(str, words)], check=True, capture_output=True, timeout=300)


@needs("openssl")
def test_openssl_makes_the_keys_and_checks_our_signature(tmp_path):
    private, public = tmp_path / "private.pem", tmp_path / "public.pem"
    _openssl("genpkey", "-algorithm", "ed25519", "-out", private)
    _openssl("pkey", "-in", private, "-pubout", "-out", public)
    write(tmp_path / "1", signing.signed(small(), signing.private_key(private)))
    read(tmp_path / "1", signing.trust([public]))
    files = ["-in", tmp_path / "1" / "manifest.json", "-sigfile", tmp_path / "1" / SIGNATURE]
    _openssl("pkeyutl", "-verify", "-rawin", "-pubin", "-inkey", public, *files)
    folder = tmp_path / "models" / "law" / "1"
    repository.publish(tmp_path / "models", "law", small(), key=signing.private_key(private))
    line = b"kanserve model law version 1\n"
    (tmp_path / "signed").write_bytes(line + (folder / "manifest.json").read_bytes())
    files = ["-in", tmp_path / "signed", "-sigfile", folder / SIGNATURE]
    _openssl("pkeyutl", "-verify", "-rawin", "-pubin", "-inkey", public, *files)


def _elliptic(path):
    path.write_bytes(keys.pem(ec.generate_private_key(ec.SECP256R1())))


def _encrypted(path):
    private, _ = keys.signing_pair(path.parent, "plain")
    key = signing.private_key(private)
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"word")))


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda path: path.write_bytes(b""), "not a PEM file of a private"),
        (lambda path: path.write_bytes(b"\xff" * 100_000), "not a PEM file of a private"),
        (lambda path: keys.signing_pair(path.parent, "other")[1].rename(path), "not a PEM file of a private"),
        (_elliptic, "must be Ed25519"),
        (_encrypted, "encrypted"),
        (Path.mkdir, "cannot be read"),
    ],
)
def test_a_file_that_holds_no_private_key_says_so(make, says, tmp_path):
    make(tmp_path / "file.pem")
    with pytest.raises(InputError, match=says):
        signing.private_key(tmp_path / "file.pem")


def test_a_file_that_holds_no_public_key_says_so(key, tmp_path):
    with pytest.raises(InputError, match="keep it from the server"):
        signing.trust([key[0]])
    (tmp_path / "file.pem").write_bytes(keys.authority().certificate)
    with pytest.raises(InputError, match="not a PEM file of a public"):
        signing.trust([tmp_path / "file.pem"])
    with pytest.raises(NotFoundError, match="no key file"):
        signing.trust([tmp_path / "none.pem"])
    with pytest.raises(InputError, match="at least"):
        signing.trust([])


def test_reading_without_keys_needs_no_cryptography(version):
    code = "import sys; from kanserve.artifact import read; read(sys.argv[1]); assert 'cryptography' not in sys.modules"
    root = Path(format.__file__).parents[2]
    subprocess.run([sys.executable, "-c", code, str(version)], cwd=root, check=True, timeout=300)


# The commands


def test_sign_vouches_for_a_version_and_replaces_only_when_told(tmp_path, key, trusted, kanserve):
    folder = tmp_path / "models" / "law" / "1"
    repository.publish(tmp_path / "models", "law", small())
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    code, out, _ = kanserve("sign", str(folder), "--key", str(key[0]), "--json")
    assert code == 0
    assert json.loads(out) == {"model": "law", "version": "1", "signature": str(folder / SIGNATURE)}
    read(folder, trusted)
    assert {path: path.read_bytes() for path in before} == before
    assert stat.S_ISREG((folder / SIGNATURE).lstat().st_mode)
    assert sorted(os.listdir(folder.parent)) == ["1", "card-1.md", "card-1.svg"]

    other, public = keys.signing_pair(tmp_path, "other")
    code, _, err = kanserve("sign", str(folder), "--key", str(other))
    assert code == 2 and "--force" in err
    read(folder, trusted)
    assert kanserve("sign", str(folder), "--key", str(other), "--force")[0] == 0
    read(folder, signing.trust([public]))
    with pytest.raises(SignatureError):
        read(folder, trusted)


def test_sign_is_for_the_name_and_number_unless_it_is_to_hold_anywhere(tmp_path, key, trusted, kanserve):
    folder = tmp_path / "models" / "law" / "1"
    repository.publish(tmp_path / "models", "law", small())
    assert kanserve("sign", str(folder), "--key", str(key[0]))[0] == 0
    _moved(tmp_path / "models", "owl", 1)
    with pytest.raises(SignatureError):
        read(tmp_path / "models" / "owl" / "1", trusted)
    assert kanserve("sign", str(folder), "--key", str(key[0]), "--anywhere", "--force")[0] == 0
    _moved(tmp_path / "models", "elk", 3)
    read(tmp_path / "models" / "elk" / "3", trusted)
    write(tmp_path / "elsewhere", small())
    code, _, err = kanserve("sign", str(tmp_path / "elsewhere"), "--key", str(key[0]))
    assert code == 2 and "--anywhere" in err and not (tmp_path / "elsewhere" / SIGNATURE).exists()


def test_a_damaged_version_is_not_signed(tmp_path, key, kanserve):
    repository.publish(tmp_path / "models", "law", small())
    folder = tmp_path / "models" / "law" / "1"
    (folder / "formula.json").write_bytes(b"{}")
    code, _, err = kanserve("sign", str(folder), "--key", str(key[0]))
    assert code == 2 and "formula.json" in err
    assert not (folder / SIGNATURE).exists()


def test_publish_signs_what_it_publishes(tmp_path, key, trusted, kanserve, monkeypatch):
    monkeypatch.chdir(tmp_path)
    serialization.save(one_edge(), tmp_path / "kan.safetensors")
    words = ["publish", "kan.safetensors", "models", "--name", "law", "--formats", "numpy_source", "--sign"]
    assert kanserve(*words, "none.pem")[0] == 2
    assert not (tmp_path / "models").exists()
    assert kanserve(*words, str(key[0]))[0] == 0
    read(tmp_path / "models" / "law" / "1", trusted)


READER = """
import select, sys
from kanserve.artifact import read
print("ready", flush=True)
while not select.select([sys.stdin], [], [], 0)[0]:
    read(sys.argv[1])
"""


@pytest.mark.slow
@pytest.mark.extended
def test_a_signature_is_put_into_place_while_others_read(tmp_path, key):
    repository.publish(tmp_path / "models", "law", small())
    folder = tmp_path / "models" / "law" / "1"
    signature = signing.sign(format.dumps(small().manifest), signing.private_key(key[0]))
    root = Path(format.__file__).parents[2]
    command = [sys.executable, "-c", READER, str(folder)]
    with subprocess.Popen(command, cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as reader:
        assert reader.stdout is not None and reader.stdout.readline() == b"ready\n"
        for _ in range(200):
            directory.add_signature(folder, signature, replace=True)
        reader.communicate(b"enough", timeout=300)
    assert reader.returncode == 0
    with pytest.raises(ConflictError):
        directory.add_signature(folder, signature)
