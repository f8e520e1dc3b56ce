import hashlib
import hmac
import logging
import os
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from google.protobuf.descriptor import FileDescriptor
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2

from kanserve.errors import AccessError, InputError, InvalidNameError, UnauthenticatedError
from kanserve.inference import wire
from kanserve.serve.auth import grants as access
from kanserve.serve.settings import ROLES, Grant, Settings
from kanserve.v1 import formula_pb2
from tests.support.work_costs import calls

INFER, FORMULA = "/inference.GRPCInferenceService/ModelInfer", "/kanserve.v1.FormulaService/GetFormula"
LOAD, LIVE = "/inference.GRPCInferenceService/RepositoryModelLoad", "/inference.GRPCInferenceService/ServerLive"
TOKEN = "a token of the tests"


@dataclass
class Caller:
    """What a transport tells of a caller."""

    metadata: tuple[tuple[str, str], ...] = ()
    identity: dict[str, list[bytes]] = field(default_factory=dict)


def bearer(token=TOKEN):
    return Caller(metadata=(("user-agent", "test"), ("authorization", f"Bearer {token}")))


def certificate(**names):
    return Caller(identity={key: [text.encode() for text in value] for key, value in names.items()})


def digest(token=TOKEN):
    return hashlib.sha256(token.encode()).hexdigest()


def granted(*grants, **settings):
    return access.table(Settings(access=grants, **settings))


def _paths(file: FileDescriptor) -> set[str]:
    return {
        f"/{service.full_name}/{method.name}"
        for service in file.services_by_name.values()
        for method in service.methods
    }


def every_path() -> set[str]:
    """Every method of every service that is served, from the descriptors."""
    others = (formula_pb2.DESCRIPTOR, health_pb2.DESCRIPTOR, reflection_pb2.DESCRIPTOR)
    return {method.path for method in wire.METHODS.values()}.union(*map(_paths, others))


def test_every_method_of_every_service_has_a_row_and_no_row_is_of_another():
    assert set(access.NEEDS) == every_path()
    assert all(set(needs) <= set(ROLES) for needs in access.NEEDS.values())
    print(f"{len(access.NEEDS)} methods of {len({need.split('/')[1] for need in access.NEEDS})} services have a row")


def test_only_probes_are_for_anybody_and_only_loading_takes_the_role_of_a_manager():
    public = {path.rsplit("/", 1)[1] for path, needs in access.NEEDS.items() if not needs}
    manage = {path.rsplit("/", 1)[1] for path, needs in access.NEEDS.items() if needs == ("manage",)}
    assert public == {"Check", "Watch", "ServerLive", "ServerReady"}
    assert manage == {"RepositoryModelLoad", "RepositoryModelUnload"}
    assert access.NEEDS["/kanserve.v1.FormulaService/Watch"] == ("read",)


@pytest.mark.parametrize("rules", [granted(), granted(Grant(("predict", "read", "manage"), token_sha256=digest()))])
@pytest.mark.parametrize(
    "path", ["", "/", "/a/b", f"{INFER}x", INFER.lower(), INFER[1:], "/kanserve.v1.FormulaService/"]
)
def test_what_is_not_in_the_table_is_refused(rules, path):
    with pytest.raises(AccessError):
        rules.check(path, bearer())


def test_without_rules_everybody_predicts_and_reads_and_nobody_manages():
    for path, needs in access.NEEDS.items():
        if needs == ("manage",):
            with pytest.raises(AccessError, match="role manage"):
                granted().check(path, None)
        else:
            assert granted().check(path, None) is None
    granted(anonymous=("manage",)).check(LOAD, None)
    with pytest.raises(AccessError, match="role predict"):
        granted(anonymous=("manage",)).check(INFER, None)


@pytest.mark.parametrize("role", ROLES)
def test_a_grant_allows_its_roles_and_no_other(role):
    rules = granted(Grant((role,), name="caller", token_sha256=digest()))
    for path, needs in access.NEEDS.items():
        if not needs:
            assert rules.check(path, Caller()) is None
        elif role in needs:
            assert rules.check(path, bearer()).identity == "caller"
            with pytest.raises(UnauthenticatedError):
                rules.check(path, Caller())
        else:
            with pytest.raises(AccessError) as refused:
                rules.check(path, bearer())
            assert not isinstance(refused.value, UnauthenticatedError)


@pytest.mark.parametrize(
    "shown",
    [
        "",
        "Bearer",
        "Bearer ",
        f"Bearer {TOKEN}x",
        f"Bearer {TOKEN[:-1]}",
        f"Basic {TOKEN}",
        TOKEN,
        f"Bearer {digest()}",
        f"Bearer Bearer {TOKEN}",
        "Bearer \udcff",
        "Bearer " + "x" * 100_000,
    ],
)
def test_an_authorization_that_is_not_known_is_refused_also_where_nothing_need_be_shown(shown):
    for rules in (granted(Grant(("predict",), token_sha256=digest())), *_with_anonymous()):
        with pytest.raises(UnauthenticatedError) as refused:
            rules.check(INFER, Caller(metadata=(("authorization", shown),)))
        assert shown == "" or shown not in str(refused.value)


def _with_anonymous():
    yield granted(Grant(("read",), token_sha256=digest()), anonymous=("predict",))


def test_two_authorizations_are_refused():
    with pytest.raises(UnauthenticatedError):
        granted(Grant(("predict",), token_sha256=digest())).check(INFER, Caller(metadata=bearer().metadata * 2))


def test_the_scheme_may_be_spelt_in_small_letters():
    rules = granted(Grant(("predict",), name="a", token_sha256=digest().upper()))
    assert rules.check(INFER, Caller(metadata=(("authorization", f"bearer  {TOKEN}"),))).identity == "a"


def test_whoever_is_known_may_also_do_what_anybody_may():
    rules = granted(Grant(("manage",), name="deploy", token_sha256=digest()), anonymous=("predict",))
    assert rules.check(INFER, Caller()) is None
    assert rules.check(INFER, bearer()).identity == "deploy"
    with pytest.raises(UnauthenticatedError):
        rules.check(LOAD, Caller())


def test_every_token_is_compared_whichever_is_shown(monkeypatch):
    count = []
    compare = hmac.compare_digest

    def counting(shown, known):
        count.append(len(known))
        return compare(shown, known)

    monkeypatch.setattr(hmac, "compare_digest", counting)
    rules = granted(*(Grant(("predict",), token_sha256=digest(str(n))) for n in range(10)))
    for shown in ("0", "9", "none"):
        count.clear()
        try:
            rules.check(INFER, bearer(shown))
        except UnauthenticatedError:
            assert shown == "none"
        assert count == [32] * 10


# Models


def test_a_grant_for_some_models_says_nothing_of_others():
    rules = granted(Grant(("predict", "read"), name="a", token_sha256=digest(), models=("one", "two")))
    allowed = rules.check(INFER, bearer())
    allowed("one")
    allowed("two")
    for name in ("three", "", "ONE", "../one"):
        with pytest.raises(AccessError) as refused:
            allowed(name)
        assert str(refused.value) == "The caller may not use this model."
    assert allowed.models == {"one", "two"}


def test_of_several_grants_each_counts_for_its_own_roles_and_models():
    rules = granted(
        Grant(("predict",), name="all", token_sha256=digest()),
        Grant(("manage",), name="some", token_sha256=digest(), models=("one",)),
        Grant(("manage",), name="more", token_sha256=digest(), models=("two",)),
    )
    rules.check(INFER, bearer())("three")
    allowed = rules.check(LOAD, bearer())
    assert (allowed.identity, allowed.models) == ("some", {"one", "two"})
    with pytest.raises(AccessError, match="role read"):
        rules.check(FORMULA, bearer())


# Certificates


@pytest.mark.parametrize(
    ("names", "known"),
    [
        ({"x509_common_name": ["robot"]}, True),
        ({"x509_common_name": ["other"], "peer_dns": ["a", "robot"]}, True),
        ({"peer_uri": ["robot"]}, True),
        ({"x509_common_name": ["robot"], "peer_dns": ["robot"]}, True),
        ({"x509_common_name": ["robot2"]}, False),
        ({"x509_common_name": ["robot\0"]}, False),
        ({"x509_common_name": ["ROBOT"]}, False),
        ({"peer_email": ["robot"], "peer_ip": ["robot"]}, False),
        ({"x509_subject": ["robot"]}, False),
        ({}, False),
    ],
)
def test_a_client_certificate_is_known_by_its_common_dns_or_uri_name(names, known):
    rules = granted(Grant(("predict",), name="robots", certificate="robot"), tls_client_ca="ca.pem")
    if known:
        assert rules.check(INFER, certificate(**names)).identity == "robots"
    else:
        with pytest.raises(UnauthenticatedError):
            rules.check(INFER, certificate(**names))


def test_a_known_certificate_does_not_make_an_unknown_token_good():
    rules = granted(Grant(("predict",), certificate="robot"), tls_client_ca="ca.pem")
    both = Caller(bearer().metadata, {"x509_common_name": [b"robot"]})
    with pytest.raises(UnauthenticatedError):
        rules.check(INFER, both)


# Token files


@pytest.fixture
def file(tmp_path: Path, monkeypatch) -> Path:
    """A file with a token, which is looked at in each call."""
    monkeypatch.setattr(access, "LOOK", 0.0)
    path = tmp_path / "token"
    path.write_text(f"{TOKEN}\nnot this line\n")
    return path


def _replace(file: Path, text: str) -> None:
    part = file.with_suffix(".part")
    part.write_text(text)
    os.replace(part, file)


def test_a_token_file_is_read_again_when_it_changes(file):
    rules = granted(Grant(("predict",), name="a", token_file=str(file)), Grant(("read",), token_file=str(file)))
    rules.check(INFER, bearer())
    rules.check(FORMULA, bearer())
    with pytest.raises(UnauthenticatedError):
        rules.check(INFER, bearer("not this line"))
    _replace(file, "another token")
    rules.check(INFER, bearer("another token"))
    with pytest.raises(UnauthenticatedError):
        rules.check(INFER, bearer())


def test_a_token_file_that_is_gone_or_empty_lets_nobody_in_until_it_is_back(file, caplog):
    rules = granted(Grant(("predict",), token_file=str(file)))
    for break_it in (lambda: _replace(file, ""), lambda: _replace(file, " \n" + TOKEN), file.unlink):
        break_it()
        for shown in (TOKEN, ""):
            with pytest.raises(UnauthenticatedError):
                rules.check(INFER, bearer(shown))
        assert "its token is refused" in caplog.records[-1].message
    assert len(caplog.records) == 3
    _replace(file, TOKEN)
    rules.check(INFER, bearer())


def test_tokens_appear_in_no_message(file, caplog):
    caplog.set_level(logging.DEBUG)
    file.write_text("short")
    granted(Grant(("predict",), name="a", token_file=str(file)))
    assert "5 characters" in caplog.text and "short" not in caplog.text


# At the start


@pytest.mark.parametrize(
    ("grant", "says"),
    [
        (Grant(("predict",), name="a"), "matches no caller"),
        (Grant(("predict",), name="a", token_sha256="0" * 63), "64 hexadecimal"),
        (Grant(("predict",), name="a", token_sha256="g" * 64), "64 hexadecimal"),
        (Grant(("predict",), name="a", certificate="robot"), "tls_client_ca"),
        (Grant((), name="a", token_sha256="0" * 64), "needs roles"),
        (Grant(("admin",), name="a", token_sha256="0" * 64), "needs roles"),  # type: ignore[arg-type]  # what is tested
        (Grant(("predict",), name="a", token_file="/none/such"), "cannot be read"),
        (Grant(("predict",), name="a", token_file="/"), "cannot be read"),
        (Grant(("predict",), name="a", token_file="/dev/null"), "has 0 bytes"),
    ],
)
def test_a_grant_that_cannot_work_says_so_at_the_start(grant, says):
    with pytest.raises(InputError, match=says):
        granted(grant)
    with pytest.raises(InvalidNameError):
        granted(Grant(("predict",), token_sha256="0" * 64, models=("../x",)))


@pytest.mark.parametrize(
    ("settings", "warned"),
    [
        ({"host": "0.0.0.0"}, True),
        ({"host": "::"}, True),
        ({"host": "example.org"}, True),
        ({"host": "127.example.org"}, True),
        ({"host": "127.0.0.1"}, False),
        ({"host": "127.1.2.3"}, False),
        ({"host": "::1"}, False),
        ({"host": "[::1]"}, False),
        ({"host": "localhost"}, False),
        ({"host": "0.0.0.0", "tls_certificate": "a", "tls_key": "b"}, False),
        ({"host": "0.0.0.0", "unix_socket": "/run/kanserve.sock"}, False),
    ],
)
def test_tokens_over_plain_text_to_other_machines_are_warned_of(settings, warned, caplog):
    granted(Grant(("predict",), token_sha256=digest()), **settings)
    assert ("unencrypted" in caplog.text) is warned
    caplog.clear()
    granted(**settings)
    assert caplog.text == ""


def test_managers_without_a_name_are_warned_of(caplog):
    granted(anonymous=("manage",), host="0.0.0.0")
    assert "load and unload" in caplog.text


def test_a_call_that_needs_no_name_costs_no_more_than_asking():
    rules = granted()
    assert calls(lambda: rules.check(INFER, None)) == calls(lambda: None) + 1
