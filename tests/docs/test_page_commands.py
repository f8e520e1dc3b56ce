"""Every block of code and every shell line of the README and the pages is run, or is an exception with a reason."""

import importlib.util
import json
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import textwrap
import tomllib
import urllib.request
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import kanserve
from kanserve.errors import AccessError, UnreachableError
from kanserve.serve.transport import native_library
from tests.support.page_commands import Command, commands
from tests.support.paths import CHECKPOINTS, DOCS, ROOT
from tests.support.programs import needs, want
from tests.support.readme_blocks import write_tables

EVERY = list(commands())

# Pages whose blocks of Python another module runs, all of them.
ELSEWHERE = {
    "README.md": "test_readme.py",
    "docs/batch.md": "test_batch_docs.py",
    "docs/formulas.md": "test_formulas_docs.py",
    "docs/from-pykan.md": "test_from_pykan_docs.py",
    "docs/from-pysr.md": "test_from_pysr_docs.py",
    "docs/from-scikit-learn.md": "test_from_scikit_learn_docs.py",
    "docs/from-triton.md": "test_from_triton_docs.py",
    "docs/pykan-notebooks.md": "test_pykan_notebooks.py",
    "docs/guide.md": "test_readme.py",
    "docs/rest.md": "test_rest_docs.py",
}
# Pages whose blocks of Python run here, one after the other, with what a reader of the page has by then.
HERE = (
    *("docs/index.md", "docs/questions.md", "docs/session.md", "docs/training.md", "docs/how-to/travel.md"),
    *("docs/how-to/flagged.md", "docs/how-to/own-functions.md", "examples/README.md"),
)
# Blocks of shell lines of these pages, and where they run.
SHELL_BLOCKS = {
    "docs/guide.md": "test_readme.py",
    "docs/rest.md": "test_rest_docs.py",
    "docs/from-pykan.md": "test_from_pykan_docs.py",
    "docs/session.md": "tests/unit/editing/test_session_commands.py",
    "docs/how-to/secure.md": "here",
    "docs/how-to/travel.md": "here",
    "docs/index.md": "here: serving",
}
# By the start of a line or block on a page: why it is not run.
EXCEPTIONS = {
    ("docs/studio.md", "session = kanserve.Session"): "the cell of a notebook; tests/unit/studio open the page",
    ("docs/studio.md", "kanserve studio"): "opens a browser; tests/unit/studio open the page in Chromium",
    ("docs/studio.md", "kanserve share"): "tests/unit/studio/test_shared_page.py runs it",
    ("README.md", "kanserve studio"): "opens a browser; tests/unit/studio open the page in Chromium",
    ("docs/serving.md", "from opentelemetry"): "part of a program of tritonclient; test_tracing.py has the call",
    ("docs/serving.md", "import kanserve"): "its watch never ends; the calls before it run here",
    ("docs/kubernetes.md", "import grpc"): "the address of a cluster; its settings are parsed here",
    (
        "docs/serving.md",
        "kanserve publish law.safetensors s3://",
    ): "an account of S3; test_cli.py has a local one",
    ("docs/serving.md", "curl localhost:8002"): "the port of a server that runs; the same call runs here",
    ("docs/serving.md", "kanserve route"): "the file of a server that runs; tests/unit/serve/test_routes.py runs it",
    ("docs/serving.md", "curl localhost:8002/v2/models/houses/feedback"): "tests/unit/serve/test_drift.py calls it",
    ("docs/serving.md", "kanserve drift"): "the port of a server that runs; tests/unit/serve/test_drift.py runs it",
    ("docs/c.md", "gcc -std=c99 -DP_VECTOR_MATH"): "wants source of another option, which tests/unit/exporters build",
    ("docs/start/five-minutes.md", "pip install"): "a package index",
    ("docs/installation.md", "mkdir libraries"): "packages of Debian; test_package.py builds a wheel where they are",
    ("docs/how-to/travel.md", "mlflow models serve"): "test_mlflow.py runs it, on a free port",
    ("docs/tutorials/browser.md", ""): "npm; test_site.py opens the page with these files",
    (
        "deploy/README.md",
        "",
    ): "docker, or root and systemd; test_image_runs.py builds and runs the image",
    ("docs/kubernetes.md", "kubectl"): "a cluster; tests/packaging/test_manifests.py checks every manifest",
    (
        "docs/formulas.md",
        "kanserve formula rows.csv --target E --max-fits 2000",
    ): "minutes; the lines before it run",
}
# By the program.
PROGRAMS = {
    "pip": "a package index; its extras are looked up here",
    "make": "minutes to hours, and CI begins with it; that the Makefile has the target is tested here",
    "python benchmarks/": "an hour; that the program takes the options is tested here",
}
RUN_HERE = {
    ("README.md", "kanserve serve models --port 8001"),
    ("docs/batch.md", "kanserve score rows.parquet"),
    ("docs/c.md", "cc -std=c99"),
    ("docs/c.md", "cmake -B build"),
    ("docs/c.md", "kanserve export law.safetensors"),
    ("docs/export.md", "kanserve export law.safetensors"),
    ("docs/formulas.md", "kanserve formula rows.csv"),
    ("docs/export.md", "kanserve fit houses.csv"),
    ("docs/export.md", "kanserve export kan.safetensors"),
    ("docs/how-to/secure.md", "kanserve serve"),
    ("docs/how-to/secure.md", "from pathlib"),
    ("docs/how-to/secure.md", "import tritonclient"),
    ("docs/from-pykan.md", "kanserve import"),  # test_from_pykan_docs.py
    ("docs/guide.md", "kanserve import"),
    ("docs/rest.md", "kanserve serve models --http-port 8002"),  # test_rest_docs.py
    ("docs/runbook.md", "kanserve publish"),
    ("docs/serving.md", "kanserve serve models"),
    ("docs/serving.md", "kanserve publish law.safetensors models"),
    ("docs/serving.md", "kanserve sign"),
    ("docs/serving.md", "openssl"),
}


def reason(command: Command) -> str:
    """Where a command is run, or why not; empty if neither is known."""
    if command.language == "python" and command.page in ELSEWHERE:
        return ELSEWHERE[command.page]
    if command.language == "python" and command.page in HERE:
        return "here"
    if command.language == "sh" and command.page in SHELL_BLOCKS:
        return SHELL_BLOCKS[command.page]
    for (page, begun), why in EXCEPTIONS.items():
        if page == command.page and command.text.startswith(begun):
            return why
    if any(page == command.page and command.text.startswith(begun) for page, begun in RUN_HERE):
        return "here"
    program = command.text.split()[0].rpartition("/")[2]
    return next((why for name, why in PROGRAMS.items() if program == name or command.text.startswith(name)), "")


def test_every_block_and_line_is_run_or_is_an_exception_with_a_reason():
    assert [command for command in EVERY if not reason(command)] == []
    assert len(EVERY) > 100


def test_every_rule_is_of_a_block_or_line_that_is_there():
    assert {page for page in ELSEWHERE} <= {one.page for one in EVERY if one.language == "python"}
    assert {page for page in (*SHELL_BLOCKS,)} <= {one.page for one in EVERY if one.language == "sh"}
    for page, begun in [*EXCEPTIONS, *RUN_HERE]:
        assert any(one.page == page and one.text.startswith(begun) for one in EVERY), (page, begun)
    for module in {*ELSEWHERE.values(), *SHELL_BLOCKS.values()}:
        assert module.startswith("here") or (ROOT / "tests" / "docs" / module).exists() or (ROOT / module).exists()


def lines(page: str, begun: str) -> list[str]:
    found = [one.words for one in EVERY if one.page == page and one.language == "line" and one.text.startswith(begun)]
    assert found, (page, begun)
    return found


def run(line: str, folder: Path, **environment: str) -> str:
    """What a line prints, as a shell runs it with this checkout's `kanserve` and `python`; it must succeed."""
    bin_folder = folder / ".bin"
    if not bin_folder.exists():
        bin_folder.mkdir()
        for name, words in (("kanserve", "-m kanserve"), ("python", "")):
            (bin_folder / name).write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} {words} "$@"\n')
            (bin_folder / name).chmod(0o755)
    path = os.pathsep.join([str(bin_folder), os.environ["PATH"]])
    done = subprocess.run(
        ["sh", "-c", line], cwd=folder, env={**os.environ, **environment, "PATH": path}, capture_output=True, text=True
    )
    assert done.returncode == 0, (line, done.stdout, done.stderr)
    return done.stdout


@contextmanager
def served(line: str, folder: Path, ports: dict[str, str]) -> Iterator[None]:
    """The server of a line, on free ports in place of those of the page."""
    for old, new in ports.items():
        line = line.replace(old, new)
    words = [sys.executable, "-m", *shlex.split(line)]
    with subprocess.Popen(words, cwd=folder, stderr=subprocess.PIPE, text=True) as running:
        try:
            assert running.stderr is not None
            assert any("serving" in line for line in running.stderr), "it ended without serving"
            yield
        finally:
            running.terminate()


def free_ports(*wanted: str) -> dict[str, str]:
    probes = [socket.create_server(("127.0.0.1", 0)) for _ in wanted]
    found = {name: str(probe.getsockname()[1]) for name, probe in zip(wanted, probes, strict=True)}
    for probe in probes:
        probe.close()
    return found


@pytest.fixture
def law(tmp_path: Path) -> kanserve.Kan:
    """law.safetensors, and a repository of houses: what the pages go on from."""
    kan = kanserve.from_formula("0.5*m*v^2", ranges={"m": (1, 5), "v": (0, 30)})
    kan.save(tmp_path / "law.safetensors")
    kanserve.publish(tmp_path / "models", "houses", kanserve.compile(kan, ["c_source", "numpy_source"], name="houses"))
    return kan


def period_table() -> pd.DataFrame:
    generator = np.random.default_rng(0)
    table = pd.DataFrame({"length": generator.uniform(0.2, 2.0, 60), "mass": generator.uniform(0.1, 1.0, 60)})
    return table.assign(period=2 * np.pi * np.sqrt(table["length"] / 9.81) + 0.01 * generator.normal(size=60))


@pytest.mark.slow
@pytest.mark.extended
@pytest.mark.parametrize("page", HERE)
def test_the_blocks_of_a_page_run_one_after_the_other(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"table": period_table()} if page == "docs/index.md" else {}
    if page == "docs/how-to/travel.md":
        monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "mlruns").as_uri())
        monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
        monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    for one in EVERY:
        if one.page == page and one.language == "python":
            with warnings.catch_warnings():
                if "mlflow" in one.text:
                    warnings.simplefilter("ignore")  # those of MLflow and of what it imports
                    pytest.importorskip("mlflow", reason="needs mlflow")
                exec(compile(one.text, page, "exec"), names)
        if page == "docs/how-to/travel.md" and one.page == page and one.language == "sh":
            names["kan"].save("kan.safetensors")
            run(one.text, tmp_path, PYTHONPATH=os.pathsep.join([str(ROOT), str(ROOT / "exporters")]))


@pytest.mark.slow
@pytest.mark.extended
@needs("openssl")
def test_the_lines_on_signatures_run(law, tmp_path):
    pytest.importorskip("cryptography")
    for line in lines("docs/serving.md", "openssl")[:2]:
        run(line, tmp_path)
    run(lines("docs/serving.md", "kanserve publish law.safetensors models")[0], tmp_path)
    run(lines("docs/serving.md", "kanserve sign")[0], tmp_path)
    (serve,) = lines("docs/serving.md", "kanserve serve models --require-signature")
    with served(serve + " --port 8001", tmp_path, free_ports("8001")):
        pass
    version = tmp_path / "models" / "houses" / "1"
    text = (DOCS / "serving.md").read_text("utf-8")
    (signed,) = re.findall(r"^    (\{ echo kanserve model .*)$", text, re.MULTILINE)
    (verify,) = lines("docs/serving.md", "openssl pkeyutl")
    for name in ("manifest.json", "manifest.sig"):
        (tmp_path / name).write_bytes((version / name).read_bytes())
    run(signed, tmp_path)
    assert "Verified" in run(verify, tmp_path)


@pytest.mark.slow
@pytest.mark.extended
@needs("openssl")
def test_the_page_on_tls_and_tokens_serves_whom_it_says(law, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make, ask, tritonclient, curl, predict = (
        one.text for one in EVERY if one.page == "docs/how-to/secure.md" and one.language != "line"
    )
    run(make, tmp_path)
    (settings,) = re.findall(r"```toml\n(.*?)```", (DOCS / "how-to" / "secure.md").read_text("utf-8"), re.DOTALL)
    (tmp_path / "kanserve.toml").write_text(settings)
    check, serve = lines("docs/how-to/secure.md", "kanserve serve")
    run(check, tmp_path)
    ports = free_ports("8001", "8002")
    with served(serve, tmp_path, ports):
        names: dict[str, Any] = {}
        exec(compile(ask.replace("8001", ports["8001"]), "docs/how-to/secure.md", "exec"), names)
        if importlib.util.find_spec("tritonclient"):
            exec(compile(tritonclient.replace("8001", ports["8001"]), "docs/how-to/secure.md", "exec"), names)
        native = native_library.library()
        if shutil.which("curl") and native is not None and native.serves_http:  # otherwise the port has no TLS
            assert '"name": "houses"' in run("NO_PROXY=localhost " + curl.replace("8002", ports["8002"]), tmp_path)
            plain = curl.replace("8002", ports["8002"]).replace("https", "http")
            assert "use https" in run("NO_PROXY=localhost " + plain, tmp_path)
        (tmp_path / "new.csv").write_text("m,v\n1.0,2.0\n")
        predict = predict.replace("8001", ports["8001"])
        assert run(predict, tmp_path) == "y\n2.0\n"
        without, option, _ = predict.partition(" --token-file")
        token = (tmp_path / "planner.token").read_text()
        assert option and run(without, tmp_path, KANSERVE_TOKEN=token) == "y\n2.0\n"
        address = f"localhost:{ports['8001']}"
        for token, said in ((None, "needs a bearer token"), ("wrong", "authorization is not valid")):
            with (
                kanserve.Client(address, tls="tls.crt", token=token) as client,
                pytest.raises(AccessError, match=said),
            ):
                client.predict("houses", [[1.0, 2.0]])
        with kanserve.Client(address, retries=0, timeout=5) as client, pytest.raises(UnreachableError):
            client.predict("houses", [[1.0, 2.0]])


@pytest.mark.slow
@pytest.mark.extended
def test_the_lines_that_serve_run_and_the_blocks_that_ask_are_answered(law, tmp_path):
    (line,) = lines("docs/serving.md", "kanserve serve models --port")
    ports = free_ports("8001", "8002")
    with served(line, tmp_path, ports):
        (curl,) = lines("docs/serving.md", "curl")
        url = "http://" + curl.removeprefix("curl ").replace("8002", ports["8002"]).replace("localhost", "127.0.0.1")
        with urllib.request.urlopen(url, timeout=60) as answer:
            assert answer.status == 200
        block = next(one.text for one in EVERY if one.page == "docs/serving.md" and "kanserve.Client" in one.text)
        calls = block.split("    for event in")[0].replace("8001", ports["8001"])
        assert calls != block
        table = pd.DataFrame({"m": [1.0, 2.0], "v": [3.0, 4.0]})
        here = Path.cwd()
        os.chdir(tmp_path)
        try:
            exec(compile(calls, "docs/serving.md", "exec"), {"table": table})
        finally:
            os.chdir(here)
    for page in ("README.md", "docs/index.md"):
        (serve,) = [one for one in EVERY if one.page == page and one.text.startswith("kanserve serve models --port")]
        with served(serve.words, tmp_path, free_ports("8001")):
            pass


@pytest.mark.slow
@pytest.mark.extended
def test_the_lines_on_exports_and_c_run(law, tmp_path):
    write_tables(tmp_path)
    for line in (*lines("docs/export.md", "kanserve fit"), *lines("docs/export.md", "kanserve export kan")):
        run(line, tmp_path)
    assert {"houses.c", "houses.h"} <= {path.name for path in (tmp_path / "houses_c" / "c_source").iterdir()}
    check, only, query, cell, cells = lines("docs/export.md", "kanserve export law.safetensors")
    assert "c_source" in run(check, tmp_path) and "numpy_source" in run(check, tmp_path)
    assert "pure subroutine law" in run(only, tmp_path)
    kanserve.from_formula("2*exp(-t^2/2)*cos(3*t + p)").save(tmp_path / "law.safetensors")
    page = (DOCS / "export.md").read_text("utf-8")
    assert all(textwrap.indent(run(line, tmp_path), "    ") in page for line in (query, cell))
    assert "IF(ISNUMBER(Points[@phase])" in run(cells, tmp_path)
    want("cc")
    bounded = kanserve.from_formula("exp(-x^2)*y", ranges={"x": (-1, 1), "y": (0, 2)})
    bounded.save(tmp_path / "law.safetensors")
    for number, line in enumerate(lines("docs/c.md", "kanserve export law.safetensors")):
        run(line.replace("--out law", f"--out law{number}"), tmp_path)
    kanserve.export(law, tmp_path / "made", ["c_source"], name="p")
    folder = next((tmp_path / "made").rglob("p.c")).parent
    for line in lines("docs/c.md", "cc -std=c99"):
        run(line.replace("P.c", "p.c"), folder)  # P stands for the model's name
    want("cmake")
    for line in lines("docs/c.md", "cmake -B build"):
        run(line, folder)


@pytest.mark.slow
@pytest.mark.extended
def test_the_lines_on_tables_checkpoints_and_repositories_run(law, tmp_path):
    generator = np.random.default_rng(0)
    x = generator.uniform([1, 1, 1], [3, 3, 3], (200, 3))
    frame = pd.DataFrame({"m": x[:, 0], "v": x[:, 1], "c": x[:, 2], "E": x[:, 0] * x[:, 2] ** 2})
    frame.to_csv(tmp_path / "rows.csv", index=False)
    pareto, pick, _ = lines("docs/formulas.md", "kanserve formula rows.csv")
    assert "E" in run(f"{pareto} --max-fits 60", tmp_path)
    run(f"{pick} --max-fits 60 --force", tmp_path)
    rows = pd.DataFrame({"id": [1, 2], "m": [1.0, 2.0], "v": [3.0, 99.0]})
    rows.to_parquet(tmp_path / "rows.parquet")
    run(lines("docs/batch.md", "kanserve score rows.parquet")[0], tmp_path)
    assert list(pd.read_parquet(tmp_path / "prices.parquet").columns) == ["id", "y", "outside"]
    checkpoint = next(path for path in sorted((CHECKPOINTS / "pykan").glob("*_state")) if two_inputs(path))
    (tmp_path / "model").mkdir()
    for path in checkpoint.parent.glob(checkpoint.name.removesuffix("_state") + "_*"):
        (tmp_path / "model" / ("0.1_" + path.name.rpartition("_")[2])).write_bytes(path.read_bytes())
    run(lines("docs/guide.md", "kanserve import")[0], tmp_path)
    assert kanserve.load(tmp_path / "kan.safetensors").inputs[0].name == "mass"
    assert "models/houses/2" in run(lines("docs/runbook.md", "kanserve publish")[0], tmp_path)


def two_inputs(state: Path) -> bool:
    try:
        return len(kanserve.from_pykan(state.with_name(state.name.removesuffix("_state"))).inputs) == 2
    except kanserve.KanserveError:
        return False


def test_the_settings_of_the_client_in_a_cluster_are_json():
    block = next(one.text for one in EVERY if one.page == "docs/kubernetes.md" and one.language == "python")
    (text,) = re.findall(r'"""(.*?)"""', block, re.DOTALL)
    assert json.loads(text)["methodConfig"][0]["retryPolicy"]["retryableStatusCodes"] == ["UNAVAILABLE"]


def test_every_target_of_make_is_one_of_the_makefile():
    targets = set(re.findall(r"^([a-z0-9-]+)(?= *:(?!=))", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    named = [one.words.split()[1] for one in EVERY if one.language == "line" and one.text.startswith("make ")]
    assert len(named) > 20 and set(named) <= targets


def test_every_extra_that_pip_is_asked_for_is_one():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]
    asked = [one.text for one in EVERY if "pip install" in one.text]
    named = {name for text in asked for group in re.findall(r"\[([a-z0-9,]+)\]", text) for name in group.split(",")}
    assert len(asked) > 5 and named <= extras.keys()


@pytest.mark.slow
@pytest.mark.extended
def test_the_benchmark_of_formulas_takes_every_option_of_its_page():
    pytest.importorskip("sklearn")
    command = [sys.executable, "benchmarks/formulas.py", "--help"]
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for line in lines("benchmarks/README.md", "python benchmarks/formulas.py"):
        for option in re.findall(r"--[a-z-]+", line):
            assert option in said, option
