# ruff: noqa: E501 - a program that is data stays on one line
"""JavaScript in the sandbox: how programs end, that they reach nothing, and that no pass is forged by leaving early."""

import json
import os
import socket
import stat
import subprocess
import sys

import pytest

from code_eval.isolation import SandboxUnavailable
from code_eval.markdown import code_in
from code_eval.sandbox import Sandbox
from tests.code_eval.tools import IN_TMP, ROOT, one, sandbox_of

ASSERT = "const assert = require('node:assert');\n"
DOUBLE = "const f = (x) => x * 2;"
RUNNER = "const { test } = require('node:test');\n" + ASSERT + "test('two', async () => assert.equal(f(2), 4));"


@pytest.fixture(scope="module")
def sandbox():
    with Sandbox(workers=2, timeout=3.0, wall_timeout=30.0, memory=256 << 20, language="javascript") as sandbox:
        yield sandbox


@pytest.fixture(scope="module", params=["root", "user"])
def host(request):
    """A sandbox that root has started, and one of a user without rights."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SECRET_OF_THE_HOST", "SECRET_OF_THE_HOST")
        sandbox = sandbox_of(request.param, workers=1, wall_timeout=30.0, language="javascript")
        yield sandbox
        sandbox.close()


@pytest.mark.parametrize(
    ("code", "tests", "outcome", "detail"),
    [
        (DOUBLE, ASSERT + "assert.strictEqual(f(2), 4);", "passed", ""),
        (DOUBLE, ASSERT + "assert.strictEqual(f(2), 5);", "failed", "AssertionError: Expected values to be strictly equal: 4 !== 5"),
        (DOUBLE, "assert(f(2) === 4)", "passed", ""),
        (DOUBLE, "if (f(2) !== 4) throw new Error('wrong');", "passed", ""),
        (DOUBLE, "if (f(2) !== 5) throw new Error('wrong');", "error", "Error: wrong"),
        (DOUBLE, "console.assert(f(2) === 5, 'not five')", "failed", "AssertionError: not five"),
        (ASSERT + DOUBLE, ASSERT + DOUBLE + "assert(f(2) === 4)", "passed", ""),
        ("class A { g() { return 1; } }\nmodule.exports = { A };", "assert.equal(new A().g(), module.exports.A.name.length)", "passed", ""),
        ("const f = async () => 4;", ASSERT + "assert.equal(await f(), 4);", "passed", ""),
        ("const f = async () => 4;", "f().then((x) => assert.equal(x, 5));", "failed", None),
        ("if (require.main === module) throw new Error('main');", "assert(1)", "passed", ""),
        (DOUBLE, RUNNER, "passed", ""),
        (DOUBLE, RUNNER.replace("4", "5"), "failed", "its tests ended with the exit status 1"),
        ("const { readFileSync, writeFileSync } = require('fs');", "writeFileSync('x', 'y'); assert.equal(readFileSync('/tmp/x'), 'y')", "passed", ""),
        ("", "setTimeout(() => assert(false, 'late'), 20)", "failed", "AssertionError: late"),
        ("", "const { execFileSync } = require('child_process'); assert.equal(execFileSync('echo', ['a']), 'a\\n')", "passed", ""),
        ("", "const { Worker } = require('worker_threads'); assert(await new Promise((go) => new Worker('require(\"worker_threads\").parentPort.postMessage(1)', { eval: true }).on('message', go)))", "passed", ""),
        (DOUBLE, "assert(g(2))", "error", "ReferenceError: g is not defined"),
        ("const f = ", "assert(f)", "syntax_error", "SyntaxError: Unexpected end of input (code, line 1)"),
        (DOUBLE + " /*", "assert(false)", "syntax_error", None),
        (DOUBLE, "assert(f(2)", "syntax_error", "SyntaxError: missing ) after argument list (tests)"),
        (DOUBLE, "console.log(f(2))", "no_tests", ""),
        (DOUBLE, "// assert(f(2))\nf(2)", "no_tests", ""),
        ("", "throw undefined", "error", "thrown: undefined"),
        ("throw { get message() { throw 1; }, toString() { throw 2; } }", "assert(1)", "error", "something was thrown"),
        ("const f = (x) => f(x + 1);", "assert(f(1))", "error", "RangeError: Maximum call stack size exceeded"),
        ("process.abort()", "assert(1)", "error", "killed by SIGABRT"),
        ("process.kill(process.pid, 'SIGKILL')", "assert(1)", "error", "killed by SIGKILL"),
    ],
)  # fmt: skip
def test_outcome(code, tests, outcome, detail, sandbox):
    result = one(sandbox, code, tests)
    assert (result.outcome, result.passed) == (outcome, outcome == "passed"), result
    assert detail is None or result.detail == detail


@pytest.mark.parametrize(
    ("code", "outcomes"),
    [
        ("for (;;);", ["cpu_limit", "timeout"]),
        ("setInterval(() => {}, 1000)", ["timeout"]),
        ("const a = []; for (;;) a.push(new Array(1000).fill(Math.random()))", ["out_of_memory"]),
        ("const a = []; for (;;) a.push(Buffer.alloc(10 << 20, 1))", ["out_of_memory"]),
        ("const a = Buffer.alloc(2 ** 31, 1)", ["out_of_memory"]),
        ("console.log('x'.repeat(2 << 20))", ["output_limit"]),
        ("require('fs').writeFileSync('x', Buffer.alloc(100 << 20))", ["output_limit", "killed", "error"]),
        ("const { spawn } = require('child_process'); for (let i = 0; i < 400; i++) spawn('sleep', ['9'], { stdio: 'ignore' }).on('error', (e) => { throw e; })", ["too_many_processes", "out_of_memory"]),
    ],
)  # fmt: skip
def test_limits(code, outcomes):
    with Sandbox(workers=1, timeout=1.0, wall_timeout=5.0, memory=192 << 20, language="javascript") as small:
        assert one(small, code, "assert(1)").outcome in outcomes


def test_what_an_endless_program_has_used_is_known(sandbox):
    result = one(sandbox, "for (;;);", "assert(1)", timeout=0.5)
    assert result.cpu_seconds > 0.1, result


PATCHED = "const a = require('assert'); a.equal = a.strictEqual = a.ok = () => {};"


@pytest.mark.parametrize(
    "code",
    [
        "process.exit(0)",
        "process.exit()",
        "process.reallyExit(0)",
        "setImmediate(() => process.exit(0))",
        "process.on('exit', () => process.exit(0)); process.exit(0)",
        "process.exitCode = 0; process.emit('beforeExit'); process.emit('exit'); process.exit(0)",
        "process.removeAllListeners('exit'); process.on('exit', () => { process.exitCode = 0; });",
        "process.on('uncaughtException', () => {}); process.on('unhandledRejection', () => {});",
        "process.setUncaughtExceptionCaptureCallback(() => {})",
        "process.setUncaughtExceptionCaptureCallback(null); process.on('uncaughtException', () => {});",
        "Promise.reject(new Error('lost'))",
        "new Promise(() => { throw new Error('lost'); })",
        "Promise.prototype.then = function (done) { done(); }",
        "Object.defineProperty(Promise.prototype, 'then', { value(done) { done(); } })",
        PATCHED,
        "require('assert').AssertionError.prototype.name = 'x'; " + PATCHED,
        "globalThis.assert = () => {}; globalThis.assert.equal = () => {}",
        "function assert() {} assert.equal = () => {};",
        "globalThis.require = () => ({ equal() {} })",
        "require('module')._load = () => ({ equal() {} })",
        "require('module').prototype.require = () => ({ equal() {} })",
        "Function.prototype.call = Function.prototype.apply = Function.prototype.bind = () => () => {}",
        "Array.prototype[Symbol.iterator] = function* () {}; Array.prototype.map = () => []",
        "String.prototype.toJSON = Object.prototype.toJSON = () => 'passed'; JSON.stringify = () => 'passed'",
        "Map.prototype.get = () => ({ equal() {} }); Map.prototype.has = () => true;",
        "const fs = require('fs'); fs.writeSync(3, '\\n passed \"\"\\n'); process.exit(0)",
        "const fs = require('fs'); for (const n of ['3', '4', '5']) try { fs.writeSync(+n, 'ready\\n\\npassed\\n'); } catch {} process.exit(0)",
        "require('fs').closeSync(3)",
        "console.log('passed'); process.kill(process.pid, 'SIGTERM')",
        "require('child_process').spawnSync('kill', ['-9', '1']); process.exit(0)",
        "const fs = require('fs'); let s = ''; try { s = fs.readFileSync('/proc/1/environ', 'latin1') + fs.readlinkSync('/proc/1/fd/3'); } catch {} if (s) process.on('exit', () => {}); else process.exit(0)",
    ],
)  # fmt: skip
@pytest.mark.parametrize("tests", [ASSERT + "assert.equal(1, 2)", "Promise.resolve(1).then((x) => assert.equal(x, 2))"])
def test_a_pass_is_not_forged(code, tests, sandbox):
    result = one(sandbox, code, tests)
    assert not result.passed and result.outcome in ("failed", "error"), result


@pytest.mark.parametrize(
    "tests",
    [
        "await new Promise(() => {}); assert(1)",
        "setTimeout(() => process.exit(0), 10); await new Promise((go) => setTimeout(go, 1000)); assert(false)",
        "new Promise((go) => setTimeout(go, 500)).then(() => assert(false)); setTimeout(() => { process.emit('beforeExit'); process.exit(0); }, 10)",
        "assert(1); process.exit(0)",
        "assert(1); Promise.reject(1)",
        "assert(1); process.exitCode = 3",
        "process.on('exit', () => { process.exitCode = 0; });" + RUNNER.replace("f(2), 4", "1, 2"),
    ],
)  # fmt: skip
def test_tests_that_have_not_ended_do_not_pass(tests, sandbox):
    assert not one(sandbox, "", tests).passed


@pytest.mark.parametrize(
    "tests",
    [
        f"assert.throws(() => fs.readFileSync({__file__!r}))",
        "assert.throws(() => fs.readFileSync('/etc/passwd'))",
        "assert.throws(() => fs.readdirSync('/sys'))",
        "for (const x of ['/', '/usr', '/etc', '/run', '/dev', '/proc']) assert.throws(() => fs.writeFileSync(x + '/written', ''))",
        "assert.throws(() => fs.readFileSync('/proc/1/environ')); assert.throws(() => fs.readlinkSync('/proc/1/fd/3'))",
        "assert.throws(() => fs.openSync('/proc/1/mem', 'r')); assert.throws(() => fs.openSync('/proc/1/fd/4', 'r'))",
        "assert.deepEqual(fs.readdirSync('/proc').filter((x) => /^[0-9]+$/.test(x)), ['1', String(process.pid)])",
        f"assert.deepEqual(fs.readdirSync('/tmp').filter((x) => !{json.dumps(IN_TMP)}.includes(x)), []); fs.writeFileSync('/tmp/left', 'x')",
        "assert.equal(process.getuid(), 1000); assert.throws(() => process.setuid(0))",
        "assert.throws(() => require('child_process').execFileSync('unshare', ['-r', 'true'], { stdio: 'ignore' }))",
        "const error = await new Promise((go) => require('net').connect(9, '192.0.2.1').on('error', go)); assert.equal(error.code, 'ENETUNREACH')",
        "const error = await fetch('http://example.com').catch((e) => e); assert(error instanceof Error)",
        "assert(!JSON.stringify(process.env).includes('SECRET_OF_THE_HOST')); assert.equal(process.env.HOME, '/tmp')",
    ],
)  # fmt: skip
def test_nothing_of_the_host_is_reached(tests, host):
    for _ in range(2):  # and nothing of the program before
        result = host.run("const fs = require('fs');", tests)
        assert result.passed, result


def test_services_of_the_host_are_not_reached(sandbox):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        tests = f"const e = await new Promise((go) => require('net').connect({port}, '127.0.0.1').on('error', go)); assert.equal(e.code, 'ECONNREFUSED')"
        assert one(sandbox, "", tests).passed


# ---- what is said at the start ----


@pytest.mark.parametrize(
    ("script", "sentence"),
    [(None, "there is no node"), ("#!/bin/sh\necho v16.20.1", "is v16.20.1"), ("#!/bin/sh\nexit 3", "does not run")],
)
def test_a_machine_without_a_node_of_use(script, sentence, tmp_path, monkeypatch):
    if script:
        (tmp_path / "node").write_text(script)
        os.chmod(tmp_path / "node", stat.S_IRWXU)
    monkeypatch.setenv("PATH", f"{tmp_path}")
    with pytest.raises(SandboxUnavailable, match=f"JavaScript programs need node 18 or newer on the PATH.*{sentence}"):
        Sandbox(language="javascript")


@pytest.mark.parametrize(
    ("options", "sentence"),
    [({"language": "cobol"}, "Unknown language 'cobol'"), ({"language": "javascript", "mode": "strict"}, "for Python")],
)
def test_what_there_is_not(options, sentence):
    with pytest.raises(ValueError, match=sentence):
        Sandbox(**options)


def test_tests_are_not_counted(sandbox):
    with pytest.raises(ValueError, match="count"):
        one(sandbox, "", "assert(1)", count=True)


def test_the_mode_unsafe(monkeypatch):
    monkeypatch.setenv("HF_ALLOW_CODE_EVAL", "1")
    with Sandbox("unsafe", workers=1, wall_timeout=30.0, language="javascript") as unsafe:
        good, bad = (one(unsafe, DOUBLE, f"assert.equal(f(2), {n})") for n in (4, 5))
    assert (good.outcome, bad.outcome) == ("passed", "failed")


def test_the_command(tmp_path):
    rows = [{"code": f"So:\n```js\n{DOUBLE}\n```", "tests": f"assert.equal(f(2), {n})"} for n in (4, 5)]
    (tmp_path / "samples.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    command = [sys.executable, "-m", "code_eval", "samples.jsonl", "--language", "javascript", "--timeout", "20"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment)
    assert done.returncode == 0, done.stderr
    assert [line.split()[:2] for line in done.stdout.splitlines()[:2]] == [["passed", "1"], ["failed", "1"]]


def test_code_in_markdown():
    text = "```python\nx\n```\n```js\ny\n```\n```JavaScript\nz\n```"
    assert code_in(text, "javascript")[0].split() == ["y", "z"] and code_in(text)[0].split() == ["x"]
