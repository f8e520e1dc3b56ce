"""The tables of `formulas.py`: formulas found by ours and by the peers, goals, and misses."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks._equations import EXACT, Law, Setting
from benchmarks._timing import goal, machine, table

OURS = "ours"
LONG = ", long"
FLOAT32 = 1e-5  # EXACT for peers that compute in float32
SAME_FORM = 1e-7
LONGEST = 70  # characters of a formula in a table

Key = tuple[str, int, str]


@dataclass(frozen=True)
class Result:
    """One formula for one law and seed. Relative errors: `error` in the wider box, `inside` the ranges, and `read` of
    the text read back; infinite if not finite. `form`: whether it is right except for its constants. `status`: what the
    search says of it."""

    law: str
    seed: int
    method: str
    seconds: float
    text: str
    error: float = math.inf
    inside: float = math.inf
    read: float = math.inf
    form: bool | None = None
    status: str = ""

    @property
    def key(self) -> Key:
        return self.law, self.seed, self.method

    @property
    def exact(self) -> bool:
        return self.error < EXACT

    @property
    def right(self) -> bool:
        """Whether the form is right."""
        return self.exact or bool(self.form)

    @property
    def wrongly_believed(self) -> bool:
        """Whether the search says of a wrong form that it is the law, or differs from it by noise only."""
        return not self.right and self.status in ("exact", "within noise")

    def __str__(self) -> str:
        return f"{self.law} {self.seed} {self.method}: {self.error:.1e} in {self.seconds:.2f} s: {self.text}"


def report(setting: Setting, laws: Sequence[Law], seeds: Sequence[int], results: Sequence[Result]) -> str:
    names = {law.name for law in laws}
    chosen = [result for result in results if result.law in names and result.seed in seeds]
    ours = [result for result in chosen if result.method == OURS]
    parts = [
        _title(setting, seeds),
        machine("kanserve", "numpy", "pyoperon", "gplearn", "pykan"),
        "",
        _laws(setting, laws, ours),
        "",
        _methods(chosen),
        "",
        *_goals(setting, laws, seeds, ours),
        _believed(ours),
    ]
    misses = [result for result in ours if not result.exact]
    if misses:
        parts += ["", "What fails, and how:", _misses(laws, misses)]
    return "\n".join(parts)


def _title(setting: Setting, seeds: Sequence[int]) -> str:
    what = [f"{setting.rows} rows", f"{len(seeds)} seed" + "s" * (len(seeds) > 1)]
    tails = f" of Student's t with {setting.tails:g} degrees of freedom" if setting.tails else ""
    what += [f"noise {setting.noise:g}{tails}"] * bool(setting.noise)
    what += [f"outliers {setting.outliers:g}"] * bool(setting.outliers)
    what += [f"{setting.extra} inputs more"] * bool(setting.extra) + [setting.spread] * (setting.spread != "uniform")
    return f"Formulas found from rows: {setting.table}, {', '.join(what)}; errors are relative, seconds of CPU"


def _laws(setting: Setting, laws: Sequence[Law], ours: Sequence[Result]) -> str:
    noisy = any(result.form is not None for result in ours)
    lines = []
    for law in laws:
        found = sorted((result for result in ours if result.law == law.name), key=lambda result: result.seed)
        if not found:
            continue
        marks = [" ".join("yes" if result.exact else "NO" for result in found)]
        if noisy:
            marks.insert(0, " ".join("yes" if result.right else "NO" for result in found))
        seconds = " ".join(f"{result.seconds:.2f}" for result in found)
        worst = max(found, key=lambda result: result.error)
        lines.append([law.name, *marks, f"{worst.error:.0e}", seconds, _short(worst.text)])
    head = ["law", *(["form"] if noisy else []), "exact", "worst error", "seconds", "the worst formula"]
    return table(head, lines)


def _methods(results: Sequence[Result]) -> str:
    """A line for each method, with our results on the same laws and seeds."""
    lines = []
    noisy = any(result.form is not None for result in results)
    for method in dict.fromkeys(result.method for result in results):
        found = [result for result in results if result.method == method]
        tried = {(result.law, result.seed) for result in found}
        beside = [result for result in results if result.method == OURS and (result.law, result.seed) in tried]
        seconds = [result.seconds for result in found]
        lines.append(
            [
                method,
                f"{sum(result.exact for result in found)} of {len(found)}",
                f"{sum(result.error < FLOAT32 for result in found)}",
                f"{sum(result.inside < FLOAT32 for result in found)}",
                *[f"{sum(result.right for result in found)}"] * noisy,
                f"{sum(result.read < EXACT for result in found)}" if method == OURS else "",
                f"{np.median(seconds):.2f}",
                f"{max(seconds):.2f}",
                f"{sum(result.exact for result in beside)}",
            ]
        )
    head = ["method", "exact", "below 1e-5", "1e-5 in range", *["right form"] * noisy]
    head += ["text exact", "median s", "most s", "ours exact there"]
    return table(head, lines)


def _goals(setting: Setting, laws: Sequence[Law], seeds: Sequence[int], ours: Sequence[Result]) -> list[str]:
    """The goals, if the laws are a whole table."""
    found = {law.name: [result for result in ours if result.law == law.name] for law in laws}
    most = -(-2 * len(seeds) // 3)  # two seeds of three
    exact = [name for name, results in found.items() if sum(result.exact for result in results) >= most]
    right = [name for name, results in found.items() if sum(result.right for result in results) >= most]
    seconds = sorted(result.seconds for result in ours) or [math.inf]
    plain = setting == Setting(setting.table, setting.rows)
    if setting.table == "feynman" and len(laws) == 30 and plain:
        missed = [f"{result.law} {result.seed}" for result in ours if not result.exact]
        return [
            goal(not missed and len(ours) == 30 * len(seeds), "exact in every seed", missed),
            goal(float(np.median(seconds)) <= 0.5, f"median ≤ 0.5 s: {np.median(seconds):.2f}"),
            goal(seconds[-1] <= 10, f"none above 10 s: {seconds[-1]:.2f}"),
        ]
    if setting.table == "feynman" and len(laws) == 30 and setting == Setting("feynman", setting.rows, 0.01):
        return [
            goal(len(right) >= 28, f"the right form in two seeds of three ≥ 28 of 30: {len(right)}"),
            goal(len(exact) >= 26, f"exact with constants there ≥ 26 of 30: {len(exact)}"),
        ]
    if setting.table == "feynman_dimensional" and len(laws) == 62 and plain:
        return [
            goal(len(exact) >= 58, f"exact in two seeds of three ≥ 58 of 62: {len(exact)}"),
            goal(seconds[-1] <= 60, f"none above 60 s: {seconds[-1]:.2f}"),
        ]
    if setting.table == "toys" and plain:
        few = [name for name, results in found.items() if sum(result.exact for result in results) < 0.9 * len(seeds)]
        hello = max((result.seconds for result in found.get("hello", [])), default=math.inf)
        return [
            goal(not few, "each exact in nine seeds of ten", few),
            goal(seconds[-1] <= 5, f"none above 5 s: {seconds[-1]:.2f}"),
            goal(hello <= 1, f"hello within 1 s: {hello:.2f}"),
        ]
    whole = [name for name, results in found.items() if results and all(result.exact for result in results)]
    return [f"exact in two seeds of three: {len(exact)} of {len(laws)}; in every seed: {len(whole)}"]


def _believed(ours: Sequence[Result]) -> str:
    wrong = [f"{result.law} {result.seed}" for result in ours if result.wrongly_believed]
    return goal(not wrong, "no wrong form is called exact or within noise", wrong)


def _misses(laws: Sequence[Law], misses: Sequence[Result]) -> str:
    wanted = {law.name: law.text for law in laws}
    lines = [
        [
            miss.law,
            str(miss.seed),
            f"{miss.error:.0e}",
            f"{miss.inside:.0e}",
            _why(miss),
            wanted[miss.law],
            _short(miss.text),
        ]
        for miss in sorted(misses, key=lambda result: result.key)
    ]
    return table(["law", "seed", "error", "in range", "how", "wanted", "found"], lines)


def _why(one: Result) -> str:
    if one.inside == one.error == math.inf:
        return "no formula"
    if one.form:
        return "constants"
    if one.inside < EXACT:
        return "not finite outside" if one.error == math.inf else "other outside"
    return "another form"


def _short(text: str) -> str:
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"
