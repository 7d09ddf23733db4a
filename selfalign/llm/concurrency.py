"""How many requests a server is given at a time: a window that follows the server, as TCP's follows the network.

It starts at the server's own limit. When more than a tenth of the answers of a round (as many answers as the window is
wide) are refusals, or the server takes twice as long for a token as it did, the window shrinks by a factor; otherwise
it grows: by one a round, and doubling while it is far below where it was cut (additive increase, multiplicative
decrease, slow start). A refusal now and then is no reason to shrink: the place is given to another request at once,
which costs less than an empty place. Jacobson, "Congestion Avoidance and Control" (SIGCOMM 1988), with the share of
refusals as the signal as in DCTCP (SIGCOMM 2010).
"""

from __future__ import annotations

TOLERATED_REFUSALS = 0.1  # of the answers of a round
MIN_ROUND = 32  # answers; fewer tell little
SLOWER = 2.0  # times the best pace: requests queue inside the server
SLOWER_CUT = 0.9
FORGET = 1.01  # a round: what was the best pace may not come back


class Window:
    """At most `limit` requests in flight, never more than `maximum`."""

    def __init__(self, maximum: int) -> None:
        self.maximum = max(1, maximum)
        self.limit = float(self.maximum)
        self.in_flight = 0
        self._slow_start_below = 0.0
        self._best_pace: float | None = None
        self._shrinking = False
        self._new_round()

    @property
    def free(self) -> bool:
        """Whether another request may be sent."""
        return self.in_flight < int(self.limit)

    @property
    def load(self) -> float:
        """The share of the server's places that is in use: a window that was cut is filled first, and so can grow."""
        return self.in_flight / self.maximum

    def served(self, seconds: float, tokens: int) -> None:
        """A request was answered after `seconds`, with `tokens` in its longest sample."""
        self._answers += 1
        self._seconds += seconds
        self._tokens += tokens
        if self.in_flight >= int(self.limit):  # a window that is not used tells nothing about a larger one
            self.limit = min(self.maximum, self.limit + (1 if self.limit < self._slow_start_below else 1 / self.limit))
        self._end_round()

    def refused(self) -> None:
        """A request was refused for lack of a place (429)."""
        self._answers += 1
        self._refusals += 1
        self._end_round()

    def restart(self) -> None:
        """The server comes back after a failure: begin with one request."""
        self._slow_start_below = max(self._slow_start_below, self.limit)
        self.limit = 1.0
        self._new_round()

    def _end_round(self) -> None:
        if self._answers < max(MIN_ROUND, self.limit):
            return
        refusals = self._refusals / self._answers
        if refusals > TOLERATED_REFUSALS:
            self._cut(max(0.5, 1 - refusals))
        elif self._queues():
            self._cut(SLOWER_CUT)
        else:
            self._shrinking = False
        self._new_round()

    def _cut(self, factor: float) -> None:
        self.limit = max(1.0, self.limit * factor)
        if not self._shrinking:  # the first cut tells what the server could take; later ones of the same storm do not
            self._slow_start_below = self.limit
        self._shrinking = True

    def _queues(self) -> bool:
        """Whether a token takes much longer than it did. Told for wide windows only: a narrow one has a smaller batch,
        in which a token is faster, though the server does less."""
        if self.limit < self.maximum / 2 or self._answers == self._refusals:
            return False
        pace = self._seconds / max(1, self._tokens)  # of sums: a short answer says little about the pace
        self._best_pace = min(pace, (self._best_pace or pace) * FORGET)
        return pace > SLOWER * self._best_pace

    def _new_round(self) -> None:
        self._answers = self._refusals = 0
        self._seconds, self._tokens = 0.0, 0
