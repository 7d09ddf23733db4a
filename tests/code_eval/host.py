"""A sandbox in a process of its own, for tests that need another user, another interpreter, or a victim.

python -c THIS FOLDER_OF_CODE_EVAL OPTIONS: reads one JSON request per line, {"code", "tests", "timeout"}, and answers
each with one line, a Result as JSON. The first line that it writes is {"ready": true} or {"unavailable": message}.
"""

import json
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
            print(json.dumps({"ready": True}), flush=True)
            for line in sys.stdin:
                result = sandbox.submit(Program(**json.loads(line))).result()
                print(json.dumps(vars(result)), flush=True)
    except SandboxUnavailable as error:
        print(json.dumps({"unavailable": str(error)}), flush=True)
