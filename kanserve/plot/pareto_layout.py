"""A Pareto front as a small scene: the staircase of the error over the complexity."""

from collections.abc import Sequence

import numpy as np

from kanserve.plot.scene import Circle, Scene, number

WIDTH, HEIGHT = 340.0, 150.0
LEFT, BOTTOM = 46.0, 34.0


def staircase(complexity: Sequence[float], errors: Sequence[float], best: int) -> Scene:
    """The scene; the error has a logarithmic scale, and the recommended point is filled."""
    scene = Scene(f"Errors of {len(errors)} formulas by their complexity", WIDTH, HEIGHT)
    given = np.asarray(errors, np.float64)
    least = float(given[given > 0].min(initial=1.0))
    logs = np.log10(np.maximum(given, least * 0.5))
    low, high = float(logs.min()), max(float(logs.max()), float(logs.min()) + 0.1)
    last = 1.1 * max(complexity) + 1

    def place(x: float, log: float) -> tuple[float, float]:
        across, up = x / last, (log - low) / (high - low)
        return LEFT + across * (WIDTH - LEFT - 10), HEIGHT - BOTTOM - 4 - up * (HEIGHT - BOTTOM - 18)

    corners = [place(complexity[0], float(logs[0]))]
    for x, log in zip([*complexity[1:], last], [*logs[1:].tolist(), float(logs[-1])], strict=True):
        corners += [(place(x, 0.0)[0], corners[-1][1]), place(x, log)]
    floor = HEIGHT - BOTTOM + 4
    scene.line([(LEFT, 6), (LEFT, floor), (WIDTH - 8, floor)], "line")
    scene.line(corners, "snapped", 1.6)
    for n, (x, log) in enumerate(zip(complexity, logs.tolist(), strict=True)):
        scene.circles.append(
            Circle(*place(x, log), 4.0 if n == best else 3.0, "snapped" if n == best else "", "snapped")
        )
    for log in (low, high):
        scene.label(LEFT - 5, place(0, log)[1], number(10**log), size=11.0, role="third", anchor="end")
    for x in sorted({min(complexity), max(complexity)}):
        scene.label(place(x, low)[0], floor + 9, number(x), size=11.0, role="third", anchor="middle")
    scene.label((LEFT + WIDTH) / 2, HEIGHT - 7, "complexity", size=11.0, role="second", anchor="middle")
    scene.label(WIDTH - 8, 9, "validation error", size=11.0, role="second", anchor="end")
    return scene
