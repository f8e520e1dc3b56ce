"""The measured cost of a kind of call, and when it counts as heavy."""

HEAVY = 2_000_000  # nanoseconds of CPU time: moving to another thread costs at most a twentieth of that
FELT = 400_000  # nanoseconds of CPU time: moving costs up to a fifth of that, but callers of other models notice it
MEASURED = 200_000  # nanoseconds of wall time: below it, CPU time is not measured
_WAITS = 4  # a call whose wall time is more than this many times its CPU time waits for something else


class Cost:
    """The cost of one kind of call: moving averages of wall and CPU time in nanoseconds, and whether it is heavy, or
    enough to be felt when other models are called too.
    """

    __slots__ = ("felt", "heavy", "most", "processor", "wall")

    def __init__(self) -> None:
        self.wall = self.processor = 0.0
        self.most = 0.0  # the CPU time that it could have had at most
        self.heavy = self.felt = False

    def note(self, wall: int, processor: int, share: float, weight: float = 1 / 8) -> None:
        """Record a call; `wall` without the time in the run queue, `share` of a core is what it could have had."""
        self.wall += weight * (wall - self.wall)
        self.processor += weight * (processor - self.processor)
        self.most += weight * (wall * share - self.most)
        self.heavy = self._beyond(HEAVY, self.heavy)
        self.felt = self._beyond(FELT, self.felt)

    def _beyond(self, limit: int, before: bool) -> bool:
        """Whether it costs more than the limit, and mostly does not wait. With hysteresis: if it did before, half of
        the limit suffices."""
        times = 2 if before else 1
        return self.processor * times > limit and self.processor * _WAITS * times >= self.most
