"""JavaScript: what happens in the process of a program that node runs, and how it is known to have reached its end.

The process that the worker has made (pid 1 of its namespace, Python) starts node and waits for it. Node reads code,
tests and a secret from a socket before anything runs that nobody trusts, and writes the outcome behind the secret. A
program passes when its tests have run to their end, no promise and no timer is left, and node has ended by itself with
the exit status 0. Code and tests share an interpreter with the secret: what that means is said in SECURITY.md.

Only the standard library, as in worker.py.
"""

import contextlib
import json
import os
import resource
import signal
import socket

from .confinement import PR_SET_DUMPABLE, libc
from .messages import DETAIL_LIMIT, Job, Settings, texts_in
from .verdict import TEXTS, Claim, conclude

HEAP_SHARE = 0.75  # of the memory limit, for V8's heap: it ends by itself, with a message, before the limit ends it
EXIT_CALLED = 97  # the exit status of a node whose program has called process.exit(0)
SAID_LIMIT = 1 << 20  # bytes; more do not fit into the socket's buffer
# V8 has an own stack limit of 1 MB; rejections that nobody handles are errors, whatever listeners a program adds.
OPTIONS = ("--unhandled-rejections=strict", "--no-warnings")

# What node runs, before and around the program. Everything that it needs after the program has begun is taken before:
# the program can replace whatever it can name. No function of the program is ever given the secret.
RUNNER = r"""
"use strict";
(() => {
  const fs = require("fs"), vm = require("vm"), Module = require("module"), assert = require("assert");
  const { writeSync } = fs, { stringify, parse } = JSON, { AssertionError } = assert;
  const { code, tests, secret } = parse(fs.readFileSync(3, "utf8"));
  const leave = process.reallyExit.bind(process), text = String;
  const AsyncFunction = (async () => {}).constructor;
  let resolved = false, drained = false;

  const say = (outcome, detail) => {
    try { writeSync(3, "\n" + secret + " " + outcome + " " + stringify(detail) + "\n"); } catch { leave(1); }
  };
  const fix = (object, name, value) =>
    Object.defineProperty(object, name, { value, writable: false, configurable: false });

  const describe = (error) => {
    try {
      const message = text(error.message).replace(/\s+/g, " ").trim();
      return (text(error.name) + (message ? ": " + message : "")).slice(0, 300);
    } catch { }
    try { return ("thrown: " + text(error)).slice(0, 300); } catch { return "something was thrown"; }
  };
  const classify = (error) => {
    try {
      const code = error.code, message = text(error.message);
      if (error instanceof AssertionError || error.name === "AssertionError") return "failed";
      if (code === "ERR_WORKER_OUT_OF_MEMORY" || /allocation failed|out of memory/i.test(message))
        return "out_of_memory";
      if (code === "EAGAIN") return "too_many_processes";
      if (code === "EFBIG" || code === "ENOSPC") return "output_limit";
    } catch { }
    return "error";
  };
  const end = (outcome, detail) => { say(outcome, detail); leave(1); };
  const fail = (error) => { end(classify(error), describe(error)); };

  // What would let a program that has not reached its end look as if it had.
  process.setUncaughtExceptionCaptureCallback(fail);
  fix(process, "setUncaughtExceptionCaptureCallback", () => { throw new Error("not in the sandbox"); });
  fix(process, "reallyExit", (status) => leave(status || 97));
  fix(process, "execve", undefined);
  for (const name of ["then", "constructor"]) fix(Promise.prototype, name, Promise.prototype[name]);
  // console.assert only prints; here it is an assertion.
  fix(console, "assert", (value, ...message) => {
    if (!value) throw new AssertionError({ message: message.map(text).join(" ") || "console.assert", actual: value });
  });
  for (const object of [assert, assert.strict, assert.AssertionError, assert.AssertionError.prototype])
    Object.freeze(object);
  process.on("beforeExit", () => {
    if (!resolved) end("error", "It ended before its tests had: a promise was never settled.");
    drained = true;
  });
  process.on("exit", () => {
    const status = process.exitCode;  // node:test sets it where a test fails
    if (drained && status) end("failed", "its tests ended with the exit status " + status);
    if (drained) say("passed", "");
  });

  const importer = vm.constants && vm.constants.USE_MAIN_CONTEXT_DEFAULT_LOADER;
  const compiled = (source) => {
    try {
      return new vm.Script(source, { filename: "code.js", importModuleDynamically: importer });
    } catch (error) {
      const place = /^code\.js:(\d+)/.exec(text(error.stack));
      end("syntax_error", describe(error) + (place ? " (code, line " + place[1] + ")" : ""));
    }
  };
  // As a function of its own: a name that the code has may be declared anew, `await` is allowed, and whatever the
  // tests do not declare is found among the names of the code. `require` and `assert` are the real ones.
  const functionOf = (source) => {
    let why;
    for (const names of [["require", "module", "exports", "assert"], ["require", "module", "exports"], []]) {
      try { return [new AsyncFunction(...names, source), names]; } catch (error) { why = error; }
    }
    end("syntax_error", describe(why) + " (tests)");
  };

  const found = Module.createRequire("/tmp/program.js");
  const kept = { __proto__: null, "assert": assert, "node:assert": assert,
                 "assert/strict": assert.strict, "node:assert/strict": assert.strict };
  const require_ = (name) => typeof name === "string" && kept[name] || found(name);
  const module_ = { exports: {}, id: ".", filename: "/tmp/program.js", loaded: false, children: [], paths: [] };
  const values = { require: Object.assign(require_, found, { main: undefined }), module: module_,
                   exports: module_.exports, assert };
  Object.assign(globalThis, { require: values.require, module: module_, exports: module_.exports });
  globalThis.__filename = "/tmp/program.js";
  globalThis.__dirname = "/tmp";
  process.argv[1] = "/tmp/program.js";

  const [judge, names] = functionOf(tests);
  const script = code === null ? null : compiled(code);
  const bound = judge.bind(undefined, ...names.map((name) => values[name]));  // `call` and spreading can be replaced
  (async () => {
    if (script) script.runInThisContext();
    await bound();
    resolved = true;
  })().then(undefined, fail);
})();
"""


def run(job: Job, settings: Settings) -> None:
    """Lets node run code, then tests; "passed" is written when it has reached their end. Does not return."""
    conclude(lambda: outcome_of(job, settings), job.secret)


def outcome_of(job: Job, settings: Settings) -> str:
    """The outcome "passed". Raises Claim for every other one."""
    libc.prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)  # the program must not look into this process, which is under its user
    texts: list[str | None] = list(texts_in(TEXTS, [job.code] if job.tests is None else [job.code, job.tests]))
    code, tests = [None, *texts][-2:]
    if not has_tests(tests or ""):
        raise Claim("no_tests", "")
    secret = os.urandom(16).hex()
    ours, theirs = socket.socketpair()
    heap = int(HEAP_SHARE * settings.memory) >> 20
    command = [settings.node, *OPTIONS, f"--max-old-space-size={max(16, heap)}", "-e", RUNNER]
    actions = [(os.POSIX_SPAWN_DUP2, theirs.fileno(), 3), (os.POSIX_SPAWN_CLOSE, TEXTS)]
    node = os.posix_spawn(settings.node, command, os.environ, file_actions=actions)
    theirs.close()
    with contextlib.suppress(ConnectionError):  # it has ended already
        ours.sendall(json.dumps({"code": code, "tests": tests, "secret": secret}).encode())
        ours.shutdown(socket.SHUT_WR)
    pid, status = 0, 0
    while pid != node:  # as the first process of its namespace, this one gets those whose parents have ended
        pid, status = os.wait()
    outcome, detail = last_word(ours, secret)
    return verdict(outcome, detail, status, settings)


def last_word(said: socket.socket, secret: str) -> tuple[str, str]:
    """The (outcome, detail) that was written last behind the secret; both "" if there is none."""
    said.setblocking(False)
    received = b""
    with contextlib.suppress(BlockingIOError, ConnectionError):
        while len(received) < SAID_LIMIT and (part := said.recv(1 << 16)):
            received += part
    lines = [line for line in received.decode("utf-8", "replace").split("\n") if line.startswith(f"{secret} ")]
    if not lines:
        return "", ""
    _, outcome, detail = lines[-1].split(" ", 2)
    return outcome, str(json.loads(detail))[:DETAIL_LIMIT]


def verdict(outcome: str, detail: str, status: int, settings: Settings) -> str:
    """The outcome "passed", from what node has said and how it has ended. Raises Claim for every other one."""
    if outcome and outcome != "passed":
        raise Claim(outcome, detail)
    if os.WIFSIGNALED(status):
        name = signal.Signals(os.WTERMSIG(status)).name
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
        if name in ("SIGABRT", "SIGTRAP", "SIGILL", "SIGSEGV") and peak > HEAP_SHARE * settings.memory / 1.25:
            raise Claim("out_of_memory", f"more than {int(HEAP_SHARE * settings.memory)} bytes of JavaScript objects")
        raise Claim("error", f"killed by {name}")
    code = os.WEXITSTATUS(status)
    if outcome == "passed" and code == 0:
        return outcome
    if outcome == "passed" and code != EXIT_CALLED:
        raise Claim("failed", f"its tests ended with the exit status {code}")  # set after the first look at it
    how = "process.exit()" if code == EXIT_CALLED else f"exit status {code}"
    raise Claim("error", f"It ended before its tests had: {how}.")


ASSERTIONS = ("assert", "throw", "expect", "should", "test(", "it(", "reject", "process.exitCode")


def has_tests(tests: str) -> bool:
    """Whether the tests have a word with which anything could be tested, outside of lines that are comments.

    A guess, and no more: unlike Python's, JavaScript's tests are not parsed.
    """
    lines = (line for line in tests.splitlines() if not line.lstrip().startswith(("//", "*", "/*")))
    text = "\n".join(lines)
    return any(word in text for word in ASSERTIONS)
