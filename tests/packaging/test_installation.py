"""What is said of sizes and times of an installation is what benchmarks/installation.py measured."""

import re
from collections.abc import Collection

import pytest

from kanserve.native import build
from tests.support.paths import ROOT

# Pages that tell readers what to install.
NAMING = [
    *("README.md", "CONTRIBUTING.md", "docs/installation.md", "docs/serving.md", "deploy/README.md"),
    *("deploy/Dockerfile", "Makefile", "kanserve/native/build.py"),
]
PAGES = [
    *NAMING,
    *(name for path in sorted((ROOT / "docs").rglob("*.md")) if (name := str(path.relative_to(ROOT))) not in NAMING),
]
PAGE = (ROOT / "docs" / "installation.md").read_text("utf-8")
MEASURED = PAGE.split("<!-- measured by benchmarks/installation.py -->")[1].split("<!-- end -->")[0]
# Of each row the seconds and, where something was installed, the MB.
ROWS = re.findall(r"^\| (.*) \| (\d+) \| \d+ \| (\d*) \|$", MEASURED, re.MULTILINE)
SECONDS = {int(seconds) for _, seconds, _ in ROWS}
SIZES = {int(size) for _, _, size in ROWS if size}


def claims(text: str) -> list[tuple[str, str]]:
    """Each number with its unit."""
    return re.findall(r"(\d+(?:\.\d+)?) (MB|GB|seconds|minutes)\b", text)


def measured(number: str, unit: str) -> bool:
    """Whether a row says so, to the digits that are given."""
    digits = len(number.partition(".")[2])
    rounded: dict[str, Collection[float]] = {
        "MB": SIZES,
        "GB": {round(size / 1000, digits) for size in SIZES},
        "seconds": SECONDS,
        "minutes": {round(seconds / 60, digits) for seconds in SECONDS},
    }
    return float(number) in rounded[unit]


@pytest.mark.parametrize(
    ("file", "begin", "end"),
    [
        ("README.md", "Both need Linux", "\n\n"),
        ("docs/installation.md", "# Installing", "## What it takes"),
        ("deploy/README.md", "## A container", "Settings come as"),
        ("Makefile", "run: $(DEMO)", "clean:"),
        ("Makefile", "$(DEMO): $(BUILT_FROM)", "$(PEERS)"),
    ],
)
def test_each_size_and_time_of_an_installation_is_a_measured_one(file, begin, end):
    text = (ROOT / file).read_text("utf-8").partition(begin)[2].partition(end)[0]
    # A command's own number, such as a time that can be set, is no measurement.
    said = claims(re.sub(r"`[^`]*`[^.]*kills after 10 seconds|terminationGracePeriodSeconds.*", "", text))
    assert said and not [line for line in said if not measured(*line)]


@pytest.mark.parametrize("file", PAGES)
def test_where_the_packages_of_the_native_transport_are_named_all_five_are(file):
    # The edge server needs fewer, and not libssl-dev.
    paragraphs = re.split(r"\n[\s#]*\n", (ROOT / file).read_text("utf-8"))
    naming = [text for text in paragraphs if "libnghttp2-dev" in text and "libssl-dev" in text]
    assert naming or file not in NAMING
    for text in naming:
        assert not [name for name in build.SERVER_PACKAGES | build.HTTP1_PACKAGES if name not in text], text


def test_each_table_says_when_and_where_it_was_measured():
    assert len(ROWS) >= 10
    heads = re.findall(r"^(\d{4}-\d\d-\d\d), .* cores, load .*, Python 3\.\d+\.\d+:$", MEASURED, re.MULTILINE)
    assert len(heads) == MEASURED.count("|---|")
