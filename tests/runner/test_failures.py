"""When something goes wrong with disks, folders, files and rows: one clear sentence, and what was written stays."""

import asyncio
import errno
import os
import resource
import sys
from dataclasses import replace

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fsspec.core import url_to_fs
from fsspec.implementations.memory import MemoryFileSystem

from selfalign.errors import RowOpen, UserError
from selfalign.runner import flow, step, writer
from selfalign.runner.source import Source, open_source, read_input
from selfalign.runner.step import EXIT_OPEN, run_step
from selfalign.runner.table import Table
from tests.helpers import WRITE_ERRORS, Unwritable, read_rows, run_json, write_rows
from tests.runner.doubling import COLUMNS, Options, double, double_all, noting, options


@pytest.fixture(autouse=True)
def small_parts(monkeypatch):
    monkeypatch.setattr(writer, "PART_ROWS", 10)


def test_a_disk_that_is_full_stops_the_run_and_keeps_what_is_written(tmp_path, capsys):
    """Stands for a full disk: the operating system refuses to let a file grow. (capsys keeps messages off the disk.)"""

    def fills_up(row):
        if row["number"] == 25:
            resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))
        return double(row)

    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        with pytest.raises(UserError, match=r"train-0000000020.* can't be written: .* written before is kept"):
            double_all(tmp_path, 50, fills_up)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert len(read_rows(tmp_path / "out")) == 20
    begun = []
    double_all(tmp_path, 50, noting(begun))
    assert len(begun) == 30 and len(read_rows(tmp_path / "out")) == 50
    assert not list((tmp_path / "out" / "data").glob(".*")), "no half-written file is left"


@pytest.mark.parametrize("error", WRITE_ERRORS, ids=repr)
def test_a_standard_error_that_cannot_be_written_ends_no_run(tmp_path, monkeypatch, error):
    """The bar is drawn with each row, and cleared at the end."""

    async def slow(row):
        await asyncio.sleep(0.001)
        return double(row)

    monkeypatch.setattr(step, "BAR_DELAY", 1e-9)
    monkeypatch.setattr(step, "LOG_SECONDS", 0.0)
    monkeypatch.setattr(sys, "stderr", Unwritable(error))
    assert double_all(tmp_path, 50, slow, window=8)["complete"]
    with pytest.raises(SystemExit) as stop:
        double_all(tmp_path, 50, lambda row: {}, output=str(tmp_path / "open"))
    assert stop.value.code == EXIT_OPEN, "what warns of the open rows"


def test_what_ends_a_worker_is_raised_though_it_is_no_exception(tmp_path):
    """As a panic of a library in Rust."""

    class Panic(BaseException):
        pass

    async def panics(row):
        if row["number"] == 25:
            raise Panic("index out of bounds")
        return double(row)

    with pytest.raises(Panic, match="index out of bounds"):
        double_all(tmp_path, 50, panics, window=4)
    assert len(read_rows(tmp_path / "out")) >= 20


@pytest.mark.parametrize("output", ["/proc/self/out", "{folder}/file"])  # /proc is read-only for root too
def test_a_folder_that_cannot_be_written(tmp_path, output):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(UserError, match=r"/\w+ can't be written: "):
        double_all(tmp_path, 5, output=output.format(folder=tmp_path))
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize("file", ["run.json", "README.md", "data/train-0000000000-abc.parquet"])
def test_a_file_that_was_half_written_when_the_run_was_killed_is_removed(tmp_path, file):
    half = (tmp_path / "out" / file).with_name(f".{file.rpartition('/')[2]}.0-of-1.part")
    half.parent.mkdir(parents=True)
    half.write_text("{")
    assert double_all(tmp_path, 5)["complete"] and not half.exists()


def test_shards_without_an_executor(tmp_path):
    with pytest.raises(UserError, match="--shards and --workers need --executor"):
        double_all(tmp_path, 5, shards=4)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("damage", [lambda c: c[: len(c) // 2], lambda c: b"", lambda c: c[:-8] + bytes(8)])
def test_a_damaged_part_is_named_and_the_others_stay(tmp_path, damage):
    double_all(tmp_path, 30)
    first, second, _ = sorted((tmp_path / "out" / "data").glob("train-*"))
    second.write_bytes(damage(second.read_bytes()))
    with pytest.raises(UserError, match=f"{second.name} is damaged.*move it away, and its rows will be done again"):
        double_all(tmp_path, 30)
    assert pq.read_table(first).num_rows == 10
    second.unlink()
    double_all(tmp_path, 30)
    assert len(read_rows(tmp_path / "out")) == 30


def test_a_part_that_is_there_twice_is_said(tmp_path):
    double_all(tmp_path, 30)
    part = sorted((tmp_path / "out" / "data").glob("train-*"))[0]
    part.with_name(part.name[:-20] + "0" * 12 + ".parquet").write_bytes(part.read_bytes())
    with pytest.raises(UserError, match="hold the same rows: move one of them away"):
        double_all(tmp_path, 30)


OTHERS = ["", "no JSON", "[1, 2]", "3", '{"scripts": {}}', '{"identity": 3}', '{"identity": [1]}', "[" * 100_000]


@pytest.mark.parametrize("content", OTHERS, ids=range(len(OTHERS)))
def test_a_run_json_that_no_step_wrote_is_refused(tmp_path, content):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "run.json").write_text(content)
    with pytest.raises(UserError, match=r"the run\.json in .*out is damaged or was not written by a step"):
        double_all(tmp_path, 5)
    assert (tmp_path / "out" / "run.json").read_text() == content and not list((tmp_path / "out").rglob("*.parquet"))


@pytest.mark.parametrize(
    ("name", "split", "said"),
    [
        ("truncated.parquet", "train", r"truncated.parquet can't be read \(split train\): "),
        ("empty.jsonl", "train", "empty.jsonl has no rows in split train"),
        ("one.jsonl", "test", 'Unknown split "test"'),
        ("out", "test", 'Unknown split "test"'),
        ("latin.jsonl", "train", "latin.jsonl is not UTF-8 text: convert it"),
        ("latin.csv", "train", "latin.csv is not UTF-8 text: convert it"),
    ],
)
def test_an_input_that_cannot_be_read_is_said(tmp_path, name, split, said):
    pq.write_table(pa.table({"id": ["a"]}), tmp_path / "whole.parquet")
    (tmp_path / "truncated.parquet").write_bytes((tmp_path / "whole.parquet").read_bytes()[:-10])
    (tmp_path / "empty.jsonl").touch()
    (tmp_path / "latin.jsonl").write_bytes('{"id": "é"}\n'.encode("latin-1"))
    (tmp_path / "latin.csv").write_bytes("id\né\n".encode("latin-1"))
    write_rows(tmp_path / "one.jsonl", [{"id": "a"}])
    double_all(tmp_path, 5)
    with pytest.raises(UserError, match=said):
        open_source(str(tmp_path / name), split=split)


def test_rows_that_cannot_be_read_are_said(tmp_path):
    text = pa.StringArray.from_buffers(2, pa.array([0, 1, 2], pa.int32()).buffers()[1], pa.py_buffer(b"a\xff"))
    pq.write_table(pa.table({"id": text, "number": [1, 2]}), tmp_path / "in.parquet")
    with pytest.raises(UserError, match=r"in\.parquet can't be read in rows 0 to 1: 'utf-8' codec"):
        double_all(tmp_path, open_source(str(tmp_path / "in.parquet")))


def test_a_null_where_a_step_needs_something_is_counted_and_left_out(tmp_path):
    rows = [{"id": "a", "number": 1, "error": None}, {"id": "b", "number": None, "error": None}]
    source = write_rows(tmp_path / "in.jsonl", [*rows, {"id": "c", "number": None, "error": "known"}])
    needed = read_input(options(tmp_path, input=str(source)), "id", "number")
    double_all(tmp_path, needed, lambda row: row | {"double": 0})
    assert run_json(tmp_path / "out")["counts"] == {"null_number": 1}
    assert [row["id"] for row in read_rows(tmp_path / "out")] == ["a", "c"]


def test_a_part_whose_write_fails_though_it_is_stored_is_not_stored_twice(tmp_path, monkeypatch):
    """The store's answer is lost. Rows that come meanwhile, from the other workers, are in the next part."""

    async def slow(row):
        await asyncio.sleep(0.001 * (row["number"] % 3))
        return double(row)

    def loses_an_answer(self, path, content, **more):
        store(self, path, content, **more)
        if "train-" in path and not lost:
            lost.append(path)
            raise OSError("the answer took too long")

    store, lost = MemoryFileSystem.pipe_file, []
    monkeypatch.setattr(MemoryFileSystem, "pipe_file", loses_an_answer)
    url = f"memory://{tmp_path}/out"
    with pytest.raises(UserError, match="can't be written: the answer took too long"):
        double_all(tmp_path, 50, slow, window=8, output=url)
    begun = []
    assert double_all(tmp_path, 50, noting(begun), output=url)["rows_out"] == 50
    assert len(begun) < 40 and sorted(open_source(url).rows["number"]) == list(range(50))


@pytest.mark.parametrize("unlisted", ["out", "out/data"])
@pytest.mark.parametrize("number", [errno.EIO, errno.EACCES, errno.ESTALE])
def test_a_folder_that_cannot_be_listed_is_not_taken_for_an_empty_one(tmp_path, monkeypatch, unlisted, number):
    def fails(path):
        if str(path) == str(tmp_path / unlisted):
            raise OSError(number, os.strerror(number), path)
        return scandir(path)

    double_all(tmp_path, 30)
    scandir = os.scandir
    with monkeypatch.context() as patched, pytest.raises(UserError, match=f"can't be .*: {os.strerror(number)}"):
        patched.setattr(os, "scandir", fails)
        double_all(tmp_path, 50)
    begun = []
    double_all(tmp_path, 50, noting(begun))
    assert begun == list(range(30, 50)), "and its lock was given back"


@pytest.mark.parametrize("scheme", ["file", "memory"])
def test_somebody_elses_files_are_found_however_deep(tmp_path, scheme):
    fs, root = url_to_fs(f"{scheme}://{tmp_path}/out")
    fs.makedirs(f"{root}/images/of/cats", exist_ok=True)
    fs.pipe_file(f"{root}/images/of/cats/tabby.png", b"")
    with pytest.raises(UserError, match=r"out contains images/of/cats/tabby\.png, which this step did not write"):
        double_all(tmp_path, 5, output=f"{scheme}://{tmp_path}/out")


def test_a_row_of_a_megabyte_passes(tmp_path):
    rows = datasets.Dataset.from_list([{"id": str(i), "number": i, "text": "x" * (i * 500_000)} for i in range(3)])
    double_all(tmp_path, Source("numbers", {"fingerprint": "n"}, rows, {}))
    assert [len(row["text"]) for row in read_rows(tmp_path / "out")] == [0, 500_000, 1_000_000]


@pytest.mark.parametrize(
    "bad", [{"double": "a string"}, {"double": 1 << 70}, {"double": {"a": 1}}, {"other": 1}], ids=str
)
def test_a_result_that_cannot_be_stored_stays_open_alone(tmp_path, capsys, bad):
    with pytest.raises(SystemExit) as stop:
        double_all(tmp_path, 30, lambda row: row | bad if row["number"] == 13 else double(row))
    assert stop.value.code == EXIT_OPEN and "can't be stored" in capsys.readouterr().err
    assert [row["number"] for row in read_rows(tmp_path / "out")] == [i for i in range(30) if i != 13]
    double_all(tmp_path, 30)
    assert len(read_rows(tmp_path / "out")) == 30


def test_rows_that_fail_alike_have_one_reason_and_all_are_told(tmp_path, capsys):
    """The bar does not count them, either: it would end at 100 %."""
    reasons = ["a", "b", "c", "d", "d"]

    def fails(row):
        if row["number"] < 5:
            raise RowOpen(reasons[row["number"]])
        return row | {"double": f"text {row['number']}"}

    with pytest.raises(SystemExit):
        double_all(tmp_path, 8, fails)
    said = capsys.readouterr().err
    assert "3 rows are still open: its result can't be stored: its double is a value of str that is no int64" in said
    assert "2 rows are still open: d" in said and "2 rows are still open for 2 other reasons" in said
    assert "100%" not in said


def test_a_folder_with_brackets_in_its_name_is_no_pattern(tmp_path):
    (tmp_path / "runs[v2]").mkdir()
    assert double_all(tmp_path / "runs[v2]", 30)["rows_done"] == 30


def test_passwords_of_urls_are_neither_written_nor_said(tmp_path, capsys, monkeypatch):
    pq.write_table(pa.table({"id": ["a"], "number": [1]}), tmp_path / "in.parquet")
    with_password = lambda url, **_: url_to_fs(url.replace("user:secret@", "").partition("?")[0])  # noqa: E731
    monkeypatch.setattr("fsspec.core.url_to_fs", with_password)
    wanted = Options(
        input=f"file://user:secret@{tmp_path}/in.parquet?token=secret",
        output=f"file://user:secret@{tmp_path}/out",
        executor_options=("token=secret", 'env={"A": "secret"}', "partition=cpu"),
    )
    run_step(wanted, Table(read_input(wanted, "id"), double, COLUMNS))
    written = [(tmp_path / "out" / name).read_text() for name in ("run.json", "README.md")]
    assert not [text for text in written if "secret" in text]
    assert "partition=cpu" in run_json(tmp_path / "out")["command"]
    with pytest.raises(UserError) as refusal:
        run_step(replace(wanted, factor=3), Table(read_input(wanted, "id"), double, COLUMNS))
    assert "secret" not in str(refusal.value) + "".join(capsys.readouterr())


@pytest.mark.parametrize("scheme", ["file", "memory"])
def test_an_fsspec_url_is_written_resumed_and_read(tmp_path, scheme):
    url, begun = f"{scheme}://{tmp_path}/out", []
    double_all(tmp_path, 50, output=url, max_samples=20)
    run = double_all(tmp_path, 50, noting(begun), output=url)
    assert begun == list(range(20, 50)) and run["rows_out"] == 50 and run["complete"]
    source = open_source(url)
    assert sorted(source.rows["number"]) == list(range(50)) and source.run["rows_out"] == 50
    with pytest.raises(UserError, match="factor was 2, is 3"):
        double_all(tmp_path, 50, output=url, factor=3)


def test_what_is_done_is_written_though_no_other_row_is(tmp_path, monkeypatch):
    monkeypatch.setattr(writer, "PART_SECONDS", 0.1)
    monkeypatch.setattr(flow, "WRITING_SECONDS", 0.05)

    async def function(row):
        while row["number"] == 4 and not list(tmp_path.glob("out/data/*.parquet")):
            await asyncio.sleep(0.01)  # for ever, if the rows before it wait for this one
        return double(row)

    assert double_all(tmp_path, 5, function, window=8)["complete"]
    assert len(list(tmp_path.glob("out/data/*.parquet"))) == 2
