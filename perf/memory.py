"""Peak memory and processor time of a piece of code in a process of its own, for the benchmarks here."""

import subprocess
import sys

# `report(**found)` prints one line of JSON: what it is given, and in MiB and seconds so far
#   resident    peak of memory; ru_maxrss would start from the peak of the process that started this one
#   anonymous   peak of the part that is not mapped from files, read ten times a second
#   processor   time of the processor
MEASURED = """
import json, resource, sys, threading, time
def kilobytes(name):
    return int(next(line.split()[1] for line in open("/proc/self/status") if line.startswith(name)))
peak = 0
def watch():
    global peak
    while True:
        peak = max(peak, kilobytes("RssAnon"))
        time.sleep(0.1)
threading.Thread(target=watch, daemon=True).start()
def report(**found):
    used = resource.getrusage(resource.RUSAGE_SELF)
    measured = dict(resident=kilobytes("VmHWM") / 1024, anonymous=peak / 1024, processor=used.ru_utime + used.ru_stime)
    print(json.dumps(measured | found))
{work}
"""


def start(work: str, arguments: list[str], environment: dict[str, str]) -> subprocess.Popen[str]:
    """Start a process that does `work`, Python code which calls `report`: its last line of output is the JSON.
    `environment` is its whole environment."""
    command = [sys.executable, "-c", MEASURED.format(work=work), *arguments]
    return subprocess.Popen(command, env=environment, stdout=-1, stderr=-1, text=True)
