"""MultiPL-E in JavaScript: ten of HumanEval's problems, translated by us, in the published format, run by node."""

import json

import pytest

from code_eval.sandbox import Sandbox
from experiments import problem_tasks
from selfalign.benchmarks import load_benchmark
from selfalign.benchmarks.harness.problems import records
from selfalign.data.decontamination import sets_by_family
from selfalign.errors import UserError
from tests.benchmarks.tools import judged, problems_of
from tests.fakes.hub import LocalHub
from tests.helpers import ROOT, read_rows, run, run_well, write_rows

DATA = str(ROOT / "tests" / "fixtures" / "benchmarks" / "multipl_e_js.jsonl.gz")
ROWS = records(DATA)
NAME = "multipl-e-humaneval-js"
# What a base model would write behind the head of the function, by the number of the problem: right and wrong.
COMPLETIONS = {
    0: (
        "  return numbers.some((a, i) => numbers.some((b, j) => i !== j && Math.abs(a - b) < threshold));\n}\n",
        "  return numbers.some((a, i) => Math.abs(a - numbers[i + 1]) < threshold);\n}\n",
    ),
    5: (
        "  return numbers.flatMap((n, i) => (i ? [delimeter, n] : [n]));\n}\n",
        "  return numbers.flatMap((n) => [n, delimeter]);\n}\n",
    ),
    9: (
        "  let most = -Infinity;\n  return numbers.map((n) => (most = Math.max(most, n)));\n}\n",
        "  return numbers.map(() => Math.max(...numbers));\n}\n",
    ),
    12: (
        "  let best;\n  for (const s of strings) if (best === undefined || s.length > best.length) best = s;\n"
        "  return best;\n}\n",
        "  return strings.reduce((a, b) => (b.length > a.length ? b : a));\n}\n",
    ),
    14: (
        "  return [...string].map((_, i) => string.slice(0, i + 1));\n}\n",
        "  return [...string].map((_, i) => string.slice(0, i));\n}\n",
    ),
    16: ("  return new Set(string.toLowerCase()).size;\n}\n", "  return new Set(string).size;\n}\n"),
    24: (
        "  for (let i = n - 1; i > 0; i--) {\n    if (n % i === 0) {\n      return i;\n    }\n  }\n}\n",
        "  for (let i = n; i > 0; i--) if (n % i === 0) return i;\n}\n",
    ),
    90: (
        "  return [...new Set(lst)].sort((a, b) => a - b)[1];\n}\n",
        "  return [...new Set(lst)].sort()[1];\n}\n",  # as strings: -35 comes before -45
    ),
    95: (
        "  const keys = Object.keys(dict);\n  const all = (test) => keys.length > 0 && keys.every(test);\n"
        "  const letter = (k) => k.toLowerCase() !== k.toUpperCase();\n"
        "  return all((k) => letter(k) && k === k.toLowerCase())\n"
        "    || all((k) => letter(k) && k === k.toUpperCase());\n}\n",
        "  return Object.keys(dict).every((k) => k === k.toLowerCase());\n}\n",
    ),
    111: (
        "  const counts = {};\n"
        "  for (const word of test.split(' ').filter(Boolean)) counts[word] = (counts[word] || 0) + 1;\n"
        "  const most = Math.max(...Object.values(counts));\n"
        "  return Object.fromEntries(Object.entries(counts).filter(([, n]) => n === most));\n}\n",
        "  const counts = {};\n  for (const word of test.split(' ')) counts[word] = (counts[word] || 0) + 1;\n"
        "  return counts;\n}\n",
    ),
}
# What a model goes on with is not run: it comes after a stop token.
REST = "\nfunction test() { throw new Error('never'); }\n\nconsole.log(test());\n"


@pytest.fixture(scope="module")
def node():
    with Sandbox(workers=2, timeout=15, language="javascript") as sandbox:
        yield sandbox


@pytest.fixture(scope="module")
def published():
    benchmark = load_benchmark(NAME)
    return benchmark, benchmark.problems(DATA)


def samples(which, rest=""):
    numbers = (int(row["name"].split("_")[1]) for row in ROWS)
    return [
        {"task_id": row["name"], "completion": COMPLETIONS[number][which] + rest}
        for row, number in zip(ROWS, numbers, strict=True)
    ]


@pytest.mark.parametrize("which, share", [(0, 1.0), (1, 0.0)], ids=["right", "wrong"])
def test_right_completions_pass_and_wrong_ones_do_not(tmp_path, which, share):
    given = write_rows(tmp_path / "samples.jsonl", samples(which, REST))
    printed = run_well("benchmark", "us", tmp_path / "out", "--benchmark", NAME, "--data", DATA, "--samples", given)
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert results["scores"] == {"pass@1": share} and results["samples"] == 10
    assert f"pass@1: {100 * share:.1f} %" in printed.stdout and results["intervals"]["pass@1"]
    assert results["packages"]["node"].split(".")[0].isdigit()
    assert set(results["outcomes"]) <= ({"passed"} if share else {"failed", "error"})


def test_the_hub_has_a_configuration_for_each_variant(tmp_path):
    """An endpoint is asked, whose answers end at the stop tokens, with the benchmark's own decoding."""
    card = "---\nconfigs:\n" + "".join(
        f"- config_name: {name}-js\n  data_files:\n  - split: test\n    path: {name}-js/test.jsonl\n"
        for name in ("humaneval", "mbpp")
    )
    rows = {
        "humaneval": ROWS[:2],
        "mbpp": [row | {"name": row["name"].replace("HumanEval", "mbpp")} for row in ROWS[2:]],
    }
    files = {f"{n}-js/test.jsonl": "".join(json.dumps(r) + "\n" for r in some).encode() for n, some in rows.items()}
    given = write_rows(tmp_path / "samples.jsonl", [s | {"task_id": f"mbpp{s['task_id'][9:]}"} for s in samples(0)[2:]])
    with LocalHub() as hub:
        commit = hub.add("nuprl/MultiPL-E", {"README.md": f"{card}---\n".encode()} | files)
        environment = hub.environment(tmp_path / "home") | {"HF_HUB_OFFLINE": "0"}
        options = ("--benchmark", "multipl-e-mbpp-js", "--samples", given)
        run_well("benchmark", "us", tmp_path / "out", *options, env=environment)
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert results["passed"] == 8 and results["data"]["nuprl/MultiPL-E"] == commit


def test_a_model_is_asked_with_the_stop_tokens_of_the_rows(tmp_path, endpoint):
    data = write_rows(tmp_path / "two.jsonl", ROWS[:2])
    options = ("--benchmark", NAME, "--data", data, "--max-new-tokens", "8")
    run_well("benchmark", endpoint, tmp_path / "out", *options)
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert results["decoding"]["stop"] == ROWS[0]["stop_tokens"]
    assert results["samples"] == 40 and results["decoding"]["temperature"] == 0.2
    assert {row["prompt"] for row in read_rows(tmp_path / "out")} == {row["prompt"].strip() for row in ROWS[:2]}


def test_a_completion_is_one_script_with_the_tests(node, published):
    benchmark, problems = published
    right = COMPLETIONS[0][0]
    cases = [
        (problems[0], f"{right}const assert = require('assert');\nassert(true);\n", "completion"),
        (problems[0], right.removesuffix("}\n"), "completion"),  # cut off by the limit of tokens
        (problems[0], f"{right}process.exit(0);\n", "completion"),
        (problems[0], f"{right}module.exports = has_close_elements;\n", "completion"),
    ]
    assert [result.outcome for result in judged(node, benchmark, cases)] == ["error", "syntax_error", "error", "passed"]


def test_chat_answers_with_the_whole_function_or_its_rest_pass(node, published):
    benchmark, problems = published
    problem, right = problems[0], COMPLETIONS[0][0]
    whole = f"{problem.prompt}{right}\nconsole.log(has_close_elements([1, 2], 3));\n"
    answers = [
        f"```js\n{whole}```",
        f"Install it:\n\n```bash\nnpm i\n```\n\n```javascript\n{whole}```\n\nDone.",
        f"```\n{right}```",
        f"{benchmark.chat_prefix}{whole}",
        whole,
    ]
    cases = [(problem, answer, "chat") for answer in answers] + [(problem, whole, "solution")]
    assert {result.outcome for result in judged(node, benchmark, cases)} == {"passed"}
    wrong = [(problem, f"```js\n{problem.prompt}{COMPLETIONS[0][1]}```", "chat"), (problem, "I can't.", "chat")]
    assert not any(result.passed for result in judged(node, benchmark, wrong))


def test_other_languages_are_refused_in_a_sentence(tmp_path):
    with pytest.raises(UserError, match="no benchmark multipl-e-humaneval-rs: the sandbox runs JavaScript"):
        load_benchmark("multipl-e-humaneval-rs")
    with pytest.raises(UserError, match="problems in rs: the sandbox runs JavaScript"):
        problems_of(tmp_path, NAME, ROWS[0] | {"language": "rs"})


@pytest.mark.parametrize(
    "options, path, said",
    [
        (("--python", "python3"), None, "--python is for benchmarks in Python"),
        ((), "/nowhere", "JavaScript programs need node 18 or newer on the PATH, and there is no node."),
    ],
)
def test_what_cannot_run_is_said_before_anything_is_written(tmp_path, options, path, said):
    given = write_rows(tmp_path / "samples.jsonl", samples(0))
    arguments = ("us", tmp_path / "out", "--benchmark", NAME, "--data", DATA, "--samples", given, *options)
    result = run("benchmark", *arguments, env={"PATH": path} if path else None)
    assert result.returncode == 2 and len(result.stderr.splitlines()) == 1 and said in result.stderr
    assert not (tmp_path / "out").exists()


def test_its_problems_are_kept_out_as_those_that_it_translates():
    assert {"humaneval", "mbpp"} <= {*sets_by_family()} and "multipl-e" not in sets_by_family()


def test_its_problems_are_no_tasks_in_python(tmp_path):
    options = problem_tasks.Options(output=str(tmp_path), benchmarks=(NAME,), benchmark_data=(f"{NAME}={DATA}",))
    with pytest.raises(UserError, match="not in Python"):
        problem_tasks.main(options)
