"""Models from elsewhere than a folder of models."""

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from kanserve import repository
from kanserve.artifact.signing import signed
from kanserve.errors import InputError, NotFoundError
from kanserve.serve.models.loader import Models
from kanserve.serve.settings import Settings
from tests.support.peers import s3_store
from tests.support.servers import serving
from tests.support.servers.catalogs import loaded, publish, versions


def test_models_from_elsewhere_need_a_signature_or_a_word(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="trust_remote_code"):
        Models(Settings(repository="memory://bucket/models"))
    url = "memory://loading/models"
    repository.publish(url, "fox", serving.artifact("mixed"))
    with loaded(url, trust_remote_code=True) as models:
        assert versions(models) == [1]
        repository.publish(url, "fox", serving.artifact("mixed"))
        models.refresh()
        assert versions(models) == [1, 2]


@pytest.mark.slow
@pytest.mark.extended
def test_models_are_served_from_s3_and_go_on_serving_when_it_is_gone() -> None:
    url = "s3://bucket/models"
    with s3_store.s3() as address, s3_store.environment(address):
        repository.publish(url, "fox", serving.artifact("mixed"))
        with Models(Settings(repository=url, trust_remote_code=True)) as models:
            models.refresh()
            s3_store.files().rm("bucket", recursive=True)
            before = models.catalog
            with pytest.raises(NotFoundError):
                models.refresh()
            assert models.catalog is before


def test_a_mounted_version_is_served_under_the_name_that_is_set(tmp_path: Path) -> None:
    publish(tmp_path)
    with loaded(tmp_path / "fox" / "1", model_name="served") as models:
        assert versions(models, "served") == [1] and models.catalog.find("served").name == "served"
    with loaded(tmp_path / "fox" / "1") as models:
        assert list(models.catalog.models) == [serving.artifact("mixed").manifest.name]


def test_a_signature_is_demanded_from_a_store_as_from_a_folder(tmp_path: Path) -> None:
    private = Ed25519PrivateKey.generate()
    pem = private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    (tmp_path / "public.pem").write_bytes(pem)
    for root in ("memory://signed/models", str(tmp_path / "models")):
        repository.publish(root, "fox", signed(serving.artifact("mixed"), private))
        repository.publish(root, "fox", serving.artifact("mixed"))
        repository.publish(root, "fox", signed(serving.artifact("mixed"), Ed25519PrivateKey.generate()))
        with loaded(root, require_signature=(str(tmp_path / "public.pem"),)) as models:
            assert versions(models) == [1]
            assert "not signed" in models.catalog.reasons["fox", 2]
            assert "not by a trusted key" in models.catalog.reasons["fox", 3]
