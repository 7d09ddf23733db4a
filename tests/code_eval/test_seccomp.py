"""The filter of system calls: its tables are the kernel's, and it decides as they say."""

import os
import struct
from pathlib import Path

import pytest

from code_eval import seccomp


@pytest.mark.parametrize(
    ("machine", "header"),
    [("x86_64", "/usr/include/x86_64-linux-gnu/asm/unistd_64.h"), ("aarch64", "/usr/include/asm-generic/unistd.h")],
)
def test_numbers_of_system_calls_are_the_kernels(machine, header):
    if not os.path.exists(header):
        pytest.skip(f"no {header}")
    kernel = {}
    for line in Path(header).read_text().splitlines():
        words = line.split()
        if len(words) >= 3 and words[1].startswith(("__NR_", "__NR3264_")) and words[2].isdigit():
            kernel[words[1].partition("_" if "3264" in words[1] else "__NR_")[2].split("3264_")[-1]] = int(words[2])
    names = {"newfstatat": "fstatat"} if machine == "aarch64" else {}
    ours = seccomp.system_calls(machine)
    assert {name: kernel.get(names.get(name, name)) for name in ours} == ours


@pytest.mark.parametrize("machine", seccomp.TABLES)
def test_the_filter_decides_as_the_table_says(machine):
    """Every number, run through the filter by a small interpreter of its own."""
    code = seccomp.build_filter(machine)
    allowed = set(seccomp.system_calls(machine).values())
    for number in [*range(600), 0x40000000, 0x40000027, 0xFFFFFFFF]:
        action = run_filter(code, number, seccomp.AUDIT_ARCH[machine])
        if number == seccomp.CLONE3 or seccomp.NEWEST < number < 0x40000000:
            assert action == seccomp.ERRNO | 38
        elif number in allowed:
            assert action in (seccomp.ALLOW, seccomp.ERRNO | 97)  # socket family 0 is none
        else:
            assert action == seccomp.ERRNO | 1
    assert run_filter(code, 0, 0x40000003) == seccomp.KILL


@pytest.mark.parametrize("machine", seccomp.TABLES)
def test_arguments_decide(machine):
    code, arch, calls = seccomp.build_filter(machine), seccomp.AUDIT_ARCH[machine], seccomp.system_calls(machine)
    for bit in range(32):
        expected = seccomp.ERRNO | 1 if 1 << bit & seccomp.CLONE_NEW else seccomp.ALLOW
        assert run_filter(code, calls["clone"], arch, 1 << bit) == expected
    for family in range(50):
        expected = seccomp.ALLOW if family in (1, 2, 10) else seccomp.ERRNO | 97
        assert run_filter(code, calls["socket"], arch, family) == expected
    # Those from 0x2400 on are for performance counters (linux/perf_event.h).
    denied = (0x5412, 0x541C, 0x2400, 0x2403, 0x4008_2404, 0x8008_2407, 0xC008_240A, 0x24FF)
    for request in (*denied, 0x5401, 0x5421, 0x2300, 0x2500, 0x8924, 0x4024_5424):
        expected = seccomp.ERRNO | 1 if request in denied else seccomp.ALLOW
        assert run_filter(code, calls["ioctl"], arch, 0, request) == expected

    for level, option in [(1, 7), (1, 8), (1, 32), (1, 33), (1, 9), (6, 7), (0, 8)]:
        expected = seccomp.ERRNO if level == 1 and option != 9 else seccomp.ALLOW
        assert run_filter(code, calls["setsockopt"], arch, 0, level, option) == expected


def run_filter(code: bytes, number: int, arch: int, *arguments: int) -> int:
    data = number.to_bytes(4, "little") + arch.to_bytes(4, "little") + bytes(8)
    data += b"".join(argument.to_bytes(8, "little") for argument in (*arguments, 0, 0, 0))
    place = accumulator = 0
    while True:
        operation, if_true, if_false, value = struct.unpack_from("<HBBI", code, 8 * place)
        place += 1
        if operation == seccomp.LOAD:
            accumulator = int.from_bytes(data[value : value + 4], "little")
        elif operation == seccomp.AND:
            accumulator &= value
        elif operation == seccomp.RETURN:
            return value
        else:
            true = {
                seccomp.IF_EQUAL: accumulator == value,
                seccomp.IF_AT_LEAST: accumulator >= value,
                seccomp.IF_ANY_BIT: accumulator & value != 0,
            }[operation]
            place += if_true if true else if_false
