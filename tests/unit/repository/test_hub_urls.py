"""Models at URLs: each kind of URL leads to its model, and nothing that is partly there looks like a model."""

import itertools
from pathlib import Path
from typing import Any

import pytest

import kanserve
from kanserve import repository
from kanserve.artifact.format import Artifact
from kanserve.errors import ArtifactError, InputError, NotFoundError, UnreachableError
from kanserve.repository.remote import Remote, model_in

LINE = kanserve.from_formula("2*x + 1", ranges={"x": (0, 1)})
_numbers = itertools.count()


def compiled() -> Artifact:
    return kanserve.compile(LINE, ["numpy_source"], name="line")


S3_MARKS = [pytest.mark.slow, pytest.mark.extended, pytest.mark.exhaustive]


@pytest.fixture(params=["memory", pytest.param("s3", marks=S3_MARKS)])
def root(request: pytest.FixtureRequest) -> str:
    if request.param == "s3":
        request.getfixturevalue("store")
    return f"{request.param}://bucket/hub{next(_numbers)}"


def test_a_repository_a_model_and_a_version_are_each_a_url(root: str) -> None:
    for _ in range(2):
        kanserve.publish(root, "line", compiled())
    for url in (root, f"{root}/line", f"{root}/line/", f"{root}/line/2"):
        assert kanserve.load_model(url).predict([[0.5]]).tolist() == [[2.0]]
        assert kanserve.model_card(url).text.startswith("# line, version 2\n")
    assert kanserve.model_card(f"{root}/line/1").text.startswith("# line, version 1\n")
    assert kanserve.model_card(f"{root}/line", version=1).text.startswith("# line, version 1\n")
    for wrong in (f"{root}/line/3", f"{root}/other", f"{root}/line/0", f"{root}/../line"):
        with pytest.raises((NotFoundError, InputError)):
            kanserve.load_model(wrong)
    with pytest.raises(NotFoundError):
        kanserve.load_model(f"{root}/line/1", version=2)


def test_a_folder_behind_a_file_url_is_one_too(tmp_path: Path) -> None:
    url = (tmp_path / "models").as_uri()
    assert kanserve.publish(url, "line", compiled()) == 1
    for end in ("", "/line", "/line/1"):
        assert kanserve.load_model(url + end).predict([[0.5]]).tolist() == [[2.0]]


@pytest.mark.parametrize(
    ("url", "parts"),
    [
        ("s3://b/models/houses/3", ("s3://b/models", "houses", 3)),
        ("s3://b/models/houses", ("s3://b/models", "houses", None)),
        ("hf://user/repository/houses/", ("hf://user/repository", "houses", None)),
        ("s3://houses", None),
        ("s3://b/Houses", None),
    ],
)
def test_a_url_is_parted_into_repository_model_and_version(url: str, parts: object) -> None:
    assert model_in(url) == parts


@pytest.mark.slow
@pytest.mark.extended
def test_an_upload_that_ends_at_any_file_is_not_a_version(root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    artifact, asked = compiled(), Remote._ask
    sent = len(artifact.files) + 1
    for last in range(sent):
        left = last

        def ask(self: Remote, method: Any, key: str, *arguments: Any, **options: Any) -> Any:
            nonlocal left
            if "pipe_file" in method.__name__:
                if not left:
                    raise UnreachableError("The connection is lost.")
                left -= 1
            return asked(self, method, key, *arguments, **options)

        with monkeypatch.context() as patch:
            patch.setattr(Remote, "_ask", ask)
            with pytest.raises(UnreachableError):
                repository.publish(root, "line", artifact)
        assert repository.names(root) == ()
        with pytest.raises(NotFoundError):
            kanserve.load_model(root)
    number = repository.publish(root, "line", artifact)
    assert repository.versions(root, "line") == (number,) and number == sent
    assert repository.clean(root, older_than=-10) == sent - 1
    assert kanserve.load_model(root).predict([[0.5]]).tolist() == [[2.0]]


@pytest.mark.slow
@pytest.mark.extended
def test_a_download_that_is_cut_or_changed_is_not_a_model(root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    artifact, asked = compiled(), Remote._ask
    kanserve.publish(root, "line", artifact)
    for file in (*artifact.files, "manifest.json"):
        for damage in (
            lambda data: data[: len(data) // 2],
            lambda data: b"",
            lambda data: data[:-1] + bytes([data[-1] ^ 1]),
        ):

            def ask(
                self: Remote, method: Any, key: str, *arguments: Any, file=file, damage=damage, **options: Any
            ) -> Any:
                answer = asked(self, method, key, *arguments, **options)
                return damage(answer) if "cat_file" in method.__name__ and key.endswith(file) else answer

            with monkeypatch.context() as patch:
                patch.setattr(Remote, "_ask", ask)
                with pytest.raises(ArtifactError):
                    kanserve.load_model(root)
    assert kanserve.load_model(root).predict([[0.5]]).tolist() == [[2.0]]
