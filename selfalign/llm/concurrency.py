"""How many requests a server gets at a time: a window that adapts to the server, as TCP's adapts to the network.

The window starts at the server's own limit. A round is as many answers as the window is wide. If more than a tenth of
a round are refusals, or the server takes twice as long per token as before, the window shrinks by a factor. Otherwise
it grows: by one per round, or by doubling while it is far below the size at which it was cut (additive increase,
multiplicative decrease, slow start). An occasional refusal is no reason to shrink: another request takes the place at
once, which costs less than an empty place.

Jacobson, "Congestion Avoidance and Control" (SIGCOMM 1988); the share of refusals as the signal is from DCTCP
(SIGCOMM 2010).
"""

from __future__ import annotations

TOLERATED_REFUSALS = 0.1  # of the answers of a round
MIN_ROUND = 32  # answers; fewer tell little
SLOWER = 2.0  # times the best pace: requests queue inside the server
SLOWER_CUT = 0.9
FORGET = 1.01  # per round: the best pace may never come back


class CongestionWindow:
    """At most `limit` requests in flight, never more than `maximum`."""

    def __init__(self, maximum: int) -> None:
        self.maximum = max(1, maximum)
        self.limit = float(self.maximum)
        self.in_flight = 0
        self._slow_start_below = 0.0
        self._best_pace: float | None = None  # seconds per token
        self._shrinking = False
        self._new_round()

    @property
    def has_room(self) -> bool:
        """Whether another request may be sent."""
        return self.in_flight < int(self.limit)

    @property
    def load(self) -> float:
        """The share of the server's places in use. It ignores `limit`, so a window that was cut fills and grows."""
        return self.in_flight / self.maximum

    def on_answer(self, seconds: float, tokens: int) -> None:
        """A request was answered after `seconds`; its longest sample has `tokens` tokens."""
        self._answers += 1
        self._seconds += seconds
        self._tokens += tokens
        if self.in_flight >= int(self.limit):  # a window that is not full says nothing about a larger one
            self.limit = min(self.maximum, self.limit + (1 if self.limit < self._slow_start_below else 1 / self.limit))
        self._end_round()

    def on_refusal(self) -> None:
        """A request was refused for lack of a place (429)."""
        self._answers += 1
        self._refusals += 1
        self._end_round()

    def restart(self) -> None:
        """The server is back after a failure: begin with one request."""
        self._slow_start_below = max(self._slow_start_below, self.limit)
        self.limit = 1.0
        self._new_round()

    def _end_round(self) -> None:
        if self._answers < max(MIN_ROUND, self.limit):
            return
        refusals = self._refusals / self._answers
        if refusals > TOLERATED_REFUSALS:
            self._cut(max(0.5, 1 - refusals))
        elif self._is_queueing():
            self._cut(SLOWER_CUT)
        else:
            self._shrinking = False
        self._new_round()

    def _cut(self, factor: float) -> None:
        self.limit = max(1.0, self.limit * factor)
        if not self._shrinking:  # only the first cut of a storm shows what the server can take
            self._slow_start_below = self.limit
        self._shrinking = True

    def _is_queueing(self) -> bool:
        """Whether a token takes much longer than it used to. Only for wide windows: in a narrow one the batch is
        smaller, so a token is faster although the server does less."""
        if self.limit < self.maximum / 2 or self._answers == self._refusals:
            return False
        pace = self._seconds / max(1, self._tokens)  # over the round: a single short answer says little
        self._best_pace = min(pace, (self._best_pace or pace) * FORGET)
        return pace > SLOWER * self._best_pace

    def _new_round(self) -> None:
        self._answers = self._refusals = 0
        self._seconds, self._tokens = 0.0, 0
