"""What was asked of the servers: requests, tokens, seconds and faults, for the progress line, run.json and the card."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Sequence
from typing import Any

from selfalign.llm.completion import Completion

RECENT_SECONDS, RECENT_ANSWERS = 30, 1000  # from which the present pace is taken


class Usage:
    """Counts for one process. The clock runs from `start` to `stop`."""

    def __init__(self) -> None:
        self.requests = self.tokens = 0  # answered, and generated
        self.faults: Counter[str] = Counter()
        self._started: float | None = None
        self._seconds_before = 0.0
        self._reported: dict[str, float] = {}
        self._reported_faults: Counter[str] = Counter()
        self._recent: deque[tuple[float, int, float]] = deque(maxlen=RECENT_ANSWERS)  # when, tokens, seconds

    def start(self) -> None:
        self._started = time.monotonic()

    def stop(self) -> None:
        self._seconds_before, self._started = self.seconds, None

    @property
    def seconds(self) -> float:
        """How long the servers have been in use."""
        return self._seconds_before + (0.0 if self._started is None else time.monotonic() - self._started)

    def count(self, completions: Sequence[Completion], seconds: float) -> None:
        """A request was answered with these samples after `seconds`."""
        tokens = sum(completion.generated_tokens for completion in completions)
        self.requests += 1
        self.tokens += tokens
        self._recent.append((time.monotonic(), tokens, seconds))

    def tokens_per_second(self, in_flight: int) -> float | None:
        """What the servers write now; None as long as nothing was answered.

        Answers tell of the past: a server that writes 64 long ones at a time gives none for a minute. So this is the
        pace of the answers of the last seconds times the requests in flight (Little's law).
        """
        while len(self._recent) > 1 and self._recent[0][0] < time.monotonic() - RECENT_SECONDS:
            self._recent.popleft()
        if not self._recent:
            return None
        tokens, seconds = (sum(answer[i] for answer in self._recent) for i in (1, 2))
        return in_flight * tokens / max(1e-9, seconds)

    def since_last_call(self) -> dict[str, Any]:
        """`seconds`, `requests`, `tokens` and `faults` (by kind) since the last call; empty if nothing happened."""
        now: dict[str, float] = {"seconds": self.seconds, "requests": self.requests, "tokens": self.tokens}
        new = {name: round(value - self._reported.get(name, 0), 6) for name, value in now.items()}
        faults = dict(self.faults - self._reported_faults)
        if not new["requests"] and not faults:
            return {}
        self._reported, self._reported_faults = now, self.faults.copy()
        return {**new, "faults": faults}

    def summary(self, in_flight: int) -> str:
        """Requests in flight, tokens so far, and tokens per second."""
        words = [f"{in_flight} requests in flight"] if in_flight else []
        rate = self.tokens_per_second(in_flight) if in_flight else self.tokens / max(1e-9, self.seconds)
        if rate is not None:
            words += [f"{_short(self.tokens)} tokens", f"{_short(rate)} tokens/s"]
        return ", ".join(words)


def total(parts: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The sum of what `Usage.since_last_call` returned for the parts of an output, whichever process wrote them.

    Shards that share servers at the same time each count their seconds, so `seconds` is an upper bound.
    """
    used: dict[str, Any] = {
        name: round(sum(part[name] for part in parts), 4) for name in ("seconds", "requests", "tokens")
    }
    return used | {"faults": dict(sum((Counter(part["faults"]) for part in parts), Counter()))}


def _short(number: float) -> str:
    for unit, name in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= unit:
            return f"{number / unit:.3g}{name}"
    return f"{number:.0f}"
