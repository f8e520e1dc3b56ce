"""What each stage and rule of training and of simplification is worth: all are on, then one alone is switched off.

A rule without a gain here is one to delete. The table has for each rule

- `loss off`: the loss without it divided by the loss with it, the geometric mean over the cases that may depend on it
  (`_ablation_cases.py`), and its standard error over the seeds of each case. Both runs have the same rows; a change by
  more than a factor of four counts as four. Above 1 the rule gains.
- `changed`: in how many of the runs the result is another one.
- `size off`: the size of the simplified networks without it, divided by that with it.
- `CPU off`: CPU seconds without it, divided by those with it.
- the case in which it matters most, with the same figure of the loss.

    OMP_NUM_THREADS=1 python benchmarks/ablate.py [--small] [--seeds 4] [--only PART_OF_A_NAME] [ROOM ..]
"""

import argparse
import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks._ablation_cases import Case, Result, chosen, measured
from benchmarks._ablation_rules import RULES, Rule
from benchmarks._timing import machine

MOST = 4.0  # a factor: larger changes of a run's loss count as this, so that one lost start does not rule the mean
Results = Mapping[tuple[str, int], Result]

HEAD = f"{'':44}{'loss off':>15}{'changed':>9}{'size off':>10}{'CPU off':>9}  most"


@dataclass(frozen=True)
class Worth:
    """The mean logarithm by which a rule's absence changes the loss, its standard error, and the other columns."""

    mean: float
    error: float
    changed: int
    runs: int
    size: float
    seconds: float
    most: str

    @property
    def line(self) -> str:
        """The columns as text."""
        return (
            f"{_factor(self.mean, self.error):>15}{f'{self.changed}/{self.runs}':>9}{self.size:>10.2f}"
            f"{self.seconds:>9.2f}  {self.most}"
        )


def worth(on: Results, off: Results) -> Worth:
    """What is lost without a rule, from the results of the same cases and seeds with and without it."""
    means, errors, names = [], [], list(dict.fromkeys(name for name, _ in off))
    for name in names:
        pairs = [(on[key], off[key]) for key in off if key[0] == name]
        logs = [np.clip(np.log(one.loss / all_on.loss), -np.log(MOST), np.log(MOST)) for all_on, one in pairs]
        means.append(float(np.mean(logs)))
        errors.append(float(np.std(logs, ddof=1) / np.sqrt(len(logs))) if len(logs) > 1 else 0.0)
    largest = int(np.argmax(np.abs(means)))
    changed = sum((on[key].loss, on[key].size) != (one.loss, one.size) for key, one in off.items())
    return Worth(
        mean=float(np.mean(means)),
        error=float(np.sqrt(np.square(errors).sum()) / len(errors)),
        changed=changed,
        runs=len(off),
        size=_ratio([one.size for one in off.values()], [on[key].size for key in off]),
        seconds=_ratio([one.seconds for one in off.values()], [on[key].seconds for key in off]),
        most=f"{names[largest]} {_factor(means[largest], errors[largest])}" if changed else "",
    )


def _ratio(off: Sequence[float], on: Sequence[float]) -> float:
    return float(np.sum(off) / max(np.sum(on), 1e-9))


def _factor(mean: float, error: float) -> str:
    return f"{np.exp(mean):.3f} ± {np.exp(mean) * error:.3f}"


def measure(rule: Rule, cases: Sequence[Case], seeds: Sequence[int], on: dict[tuple[str, int], Result]) -> Worth:
    """The worth of a rule; the results with all rules are computed once, and kept in `on`."""
    on |= measured([case for case in cases if (case.name, seeds[0]) not in on], seeds)
    with rule.off():
        off = measured(cases, seeds)
    return worth(on, off)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true", help="two rules, a case and a seed each")
    parser.add_argument("rooms", nargs="*", help=f"{' or '.join(RULES)}; by default all")
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--only", default="", help="rules with this in their name")
    options = parser.parse_args(arguments)
    seeds = range(1 if options.small else options.seeds)
    importlib.import_module("torch")  # whose seconds are no fit's
    print(machine("kanserve", "numpy", "torch") + f"\n{len(seeds)} seeds, each with rows of its own", flush=True)
    for heading, rules in RULES.items():
        if options.rooms and heading not in options.rooms:
            continue
        on: dict[tuple[str, int], Result] = {}
        print(f"\n{heading.capitalize()}\n{HEAD}", flush=True)
        for rule in rules[:1] if options.small else rules:
            if options.only in rule.name:
                cases = chosen(rule.kinds)[: 1 if options.small else None]
                print(f"{rule.name:44}{measure(rule, cases, seeds, on).line}", flush=True)


if __name__ == "__main__":
    main()
