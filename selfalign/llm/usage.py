"""What was asked of the servers: requests, tokens, seconds and faults, for the progress line, run.json and the card."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

from selfalign.llm.completion import Completion


class Usage:
    """Counts for one process. The clock runs from `start` to `stop`."""

    def __init__(self) -> None:
        self.requests = self.tokens = 0  # answered, and generated
        self.faults: Counter[str] = Counter()
        self._started: float | None = None
        self._seconds_before = 0.0
        self._reported: dict[str, float] = {}
        self._reported_faults: Counter[str] = Counter()

    def start(self) -> None:
        self._started = time.monotonic()

    def stop(self) -> None:
        self._seconds_before, self._started = self.seconds, None

    @property
    def seconds(self) -> float:
        """How long the servers have been in use."""
        return self._seconds_before + (0.0 if self._started is None else time.monotonic() - self._started)

    def count(self, completions: Sequence[Completion]) -> None:
        """A request was answered with these samples."""
        self.requests += 1
        self.tokens += sum(completion.generated_tokens for completion in completions)

    def since_last_call(self) -> dict[str, Any]:
        """`seconds`, `requests`, `tokens` and `faults` (by kind) since the last call; empty if nothing happened."""
        now: dict[str, float] = {"seconds": self.seconds, "requests": self.requests, "tokens": self.tokens}
        new = {name: round(value - self._reported.get(name, 0), 6) for name, value in now.items()}
        faults = dict(self.faults - self._reported_faults)
        if not new["requests"] and not faults:
            return {}
        self._reported, self._reported_faults = now, self.faults.copy()
        return {**new, "faults": faults}

    def summary(self) -> str:
        """Tokens so far, and tokens per second."""
        return f"{_short(self.tokens)} tokens, {_short(self.tokens / max(1e-9, self.seconds))} tokens/s"


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
