"""What a kind of call costs, measured as it is answered, and from when on it is heavy."""

HEAVY = 2_000_000  # nanoseconds of a processor: going to another thread costs a twentieth of that, or less
FELT = 400_000  # nanoseconds of a processor: going costs up to a fifth of that, but callers of other models notice it
MEASURED = 200_000  # nanoseconds on the clock: what is faster is never asked for its time on the processor
_WAITS = 4  # so many times its work a call may take and still be no model that waits for something else


class Cost:
    """What one kind of call costs: means of nanoseconds on the clock and on the processor, and whether it is heavy, or
    enough to be felt where other models are asked too.
    """

    __slots__ = ("felt", "heavy", "most", "processor", "wall")

    def __init__(self) -> None:
        self.wall = self.processor = 0.0
        self.most = 0.0  # that it could have had of the processor
        self.heavy = self.felt = False

    def note(self, wall: int, processor: int, share: float, weight: float = 1 / 8) -> None:
        """Of a call that could have that share of a core, while it was not waiting for one."""
        self.wall += weight * (wall - self.wall)
        self.processor += weight * (processor - self.processor)
        self.most += weight * (wall * share - self.most)
        self.heavy = self._beyond(HEAVY, self.heavy)
        self.felt = self._beyond(FELT, self.felt)

    def _beyond(self, limit: int, before: bool) -> bool:
        """Whether it costs more than the limit, and mostly does not wait; what did needs half, so that none goes to and
        fro."""
        times = 2 if before else 1
        return self.processor * times > limit and self.processor * _WAITS * times >= self.most
