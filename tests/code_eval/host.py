"""A sandbox in a process of its own, for tests that need another user, another interpreter, or a victim.

python host.py FOLDER_OF_CODE_EVAL OPTIONS: reads one JSON request a line, {"code", "tests", "timeout"}, and
answers each with one line, a Result as JSON. The first line it writes is {"ready": pid} or {"unavailable": message}.
"""

import dataclasses
import json
import os
import signal
import sys

if __name__ == "__main__":
    # The tests may run under nohup or in the background, where these are ignored.
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.path[0] = sys.argv[1]
    from code_eval.sandbox import Program, Sandbox, SandboxUnavailable

    try:
        with Sandbox(**json.loads(sys.argv[2])) as sandbox:
            print(json.dumps({"ready": os.getpid()}), flush=True)
            for line in sys.stdin:
                result = sandbox.submit(Program(**json.loads(line))).result()
                print(json.dumps(dataclasses.asdict(result)), flush=True)
    except SandboxUnavailable as error:
        print(json.dumps({"unavailable": str(error)}), flush=True)
