"""perf/, whose benchmarks measure us beside peers, which may be missing."""

import sys
from pathlib import Path

import pytest

from perf import code_eval, serving
from tests.verdicts.evalplus import theirs


@pytest.mark.parametrize("requests", [4, 12, 0])
def test_as_many_samples_are_asked_for_as_the_table_says(requests):
    with pytest.raises(SystemExit, match=f"--requests {requests} is not a multiple of --samples 8"):
        serving.main(serving.Options(model="any", requests=(16, requests)))


@pytest.mark.parametrize("command", [["/no/such/folder/vllm", "serve"], ["false"]], ids=["not there", "ends"])
def test_a_server_that_is_not_installed_is_said_in_a_sentence(command):
    with pytest.raises(SystemExit, match=f"this server does not start.*: {command[0]}"), serving.started(command, 1):
        pass


def test_a_python_that_is_not_there_is_said_in_a_sentence():
    with pytest.raises(SystemExit, match="EvalPlus failed: /no/python: No such file or directory"):
        theirs("/no/python", "humanevalplus", "data", Path("samples"), [], 1)


def test_a_metric_that_is_not_there_is_said_before_the_others_are_measured(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["code_eval.py", "--code-eval", "/no/code_eval.py"])
    with pytest.raises(SystemExit):
        code_eval.main()
    assert "--code-eval /no/code_eval.py is not a file" in capsys.readouterr().err
