"""pass@k, the probability that at least one of k samples passes, estimated from n samples of which c passed."""

import math


def pass_at(k: int, n: int, c: int) -> float:
    """The unbiased estimate 1 - C(n - c, k) / C(n, k), as a product that cannot overflow.

    Source: Chen et al. 2021, https://arxiv.org/abs/2107.03374, section 2.1. `n` must be at least `k`.
    """
    if n - c < k:
        return 1.0  # too few failures to fill a draw of k
    return 1.0 - math.prod(1.0 - k / i for i in range(n - c + 1, n + 1))
