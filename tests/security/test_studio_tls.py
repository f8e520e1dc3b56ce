"""The studio on another address than 127.0.0.1: only with TLS, by the command as users type it."""

import http.client
import json
import re
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.paths import ROOT
from tests.support.servers import keys
from tests.support.servers.studios import CHROMIUM, needs_browser
from tests.support.sessions import law

pytestmark = pytest.mark.slow

CA = keys.authority()


@dataclass(frozen=True)
class Reached:
    """Where a studio says that it is."""

    port: int
    token: str

    def ask(self, headers: dict[str, str] | None = None, authorities: bytes = CA.certificate) -> tuple[int, bytes]:
        """The status and the body of a snapshot over HTTPS."""
        context = ssl.create_default_context(cadata=authorities.decode())
        connection = http.client.HTTPSConnection("localhost", self.port, context=context, timeout=60)
        try:
            connection.request("GET", "/api/snapshot", headers={"X-Kanserve-Token": self.token} | (headers or {}))
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()


@contextmanager
def opened(folder: Path, *options: str) -> Iterator[Reached]:
    law()[0].save(folder / "law.safetensors")
    command = [sys.executable, "-m", "kanserve", "studio", str(folder / "law.safetensors"), "--no-browser", *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT)
    try:
        assert process.stdout is not None and process.stderr is not None
        said = process.stdout.readline()
        found = re.search(r"https://localhost:(\d+)/#token=([0-9a-f]{64})", said)
        assert found, said + process.stderr.read()
        yield Reached(int(found[1]), found[2])
    finally:
        process.terminate()
        process.communicate(timeout=60)


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reached]:
    needs_browser()  # the command needs the built page
    folder = tmp_path_factory.mktemp("tls")
    certificate, key = CA.pair("studio").write(folder, "studio")
    with opened(folder, "--allow-host", "localhost", "--tls-certificate", certificate, "--tls-key", key) as found:
        yield found


def test_a_client_that_knows_the_authority_is_answered(studio: Reached):
    status, body = studio.ask()
    assert status == 200 and json.loads(body)["model"]["title"] == "law"
    assert studio.ask({"Origin": f"https://localhost:{studio.port}"})[0] == 200


def test_a_client_that_does_not_know_the_authority_goes_away(studio: Reached):
    with pytest.raises(ssl.SSLCertVerificationError):
        studio.ask(authorities=keys.authority("another").certificate)


def test_the_checks_of_host_origin_and_token_are_the_same(studio: Reached):
    assert studio.ask({"X-Kanserve-Token": "0" * 64})[0] == 401
    assert studio.ask({"Host": f"127.0.0.1:{studio.port}"})[0] == 421
    assert studio.ask({"Origin": f"http://localhost:{studio.port}"})[0] == 403


def test_without_tls_nothing_is_said(studio: Reached):
    connection = http.client.HTTPConnection("localhost", studio.port, timeout=60)
    connection.request("GET", "/api/snapshot", headers={"X-Kanserve-Token": studio.token})
    with pytest.raises((http.client.BadStatusLine, ConnectionError)):
        connection.getresponse()


@pytest.mark.extended
def test_another_address_without_tls_is_refused(tmp_path: Path):
    law()[0].save(tmp_path / "law.safetensors")
    command = [sys.executable, "-m", "kanserve", "studio", str(tmp_path / "law.safetensors"), "--no-browser"]
    done = subprocess.run([*command, "--allow-host", "0.0.0.0"], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode != 0 and "--tls-certificate" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.extended
def test_the_page_works_over_tls(studio: Reached):
    path = needs_browser()
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=CHROMIUM)
        page = browser.new_context(ignore_https_errors=True).new_page()  # Chromium knows no authority of ours
        page.goto(f"https://localhost:{studio.port}/#token={studio.token}")
        page.wait_for_selector(".choice")
        assert page.evaluate("location.protocol") == "https:" and page.locator(".tile").count() == 3
        browser.close()
