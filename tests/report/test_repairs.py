"""The table of what was mended: by kind of failure, and what hidden tests say of it."""

from selfalign.report.repairs import attempts_of, repairs_table

REPAIRS = [
    {
        "id": f"r{n}",
        "task_id": f"t{n // 4}",
        "attempt_id": f"a{n // 2}",
        "attempt_outcome": outcome,
        "attempt_detail": text,
    }
    for n, (outcome, text) in enumerate(
        [("failed", "AssertionError")] * 4 + [("error", "TypeError: no")] * 2 + [("cpu_limit", "more than 10 s")] * 2
    )
]


def test_failures_are_counted_by_kind_and_repairs_by_hidden_tests():
    passed = {"r0": True, "r1": True, "r2": False, "r4": True, "r6": False, "r7": False}  # r3 and r5 were not run
    right = {"r0": True, "r1": False, "r4": True}
    table = repairs_table(attempts_of(REPAIRS, passed, right, {"a0": True, "a1": False, "a2": False, "a3": False}))
    rows = {line.split(" | ")[0].strip("| "): line for line in table.splitlines()[2:]}
    assert list(rows) == ["failed", "cpu_limit", "error: TypeError", "all"]
    assert "| 2 | 1 of 2, 50.0 % [0.0, 100.0] | 1 | 1 of 2, 50.0 %" in rows["failed"], "one task says nothing of others"
    assert "1 of 2, 50.0 % [0.0, 100.0] |" in rows["failed"].rpartition(" | ")[2]
    assert "| 1 | 0 of 1, 0.0 % [0.0, 79.3] | 0 | 0 of 1" in rows["cpu_limit"] and rows["cpu_limit"].endswith("| - |")
    assert "| 4 | 2 of 4, 50.0 %" in rows["all"] and "2 of 3, 66.7 %" in rows["all"]
