"""What is read of a local file or folder that no step wrote."""

import http.server
import os
import threading

import datasets
import fsspec
import pytest

from selfalign.errors import UserError
from selfalign.runner.source import open_source
from tests.helpers import write_rows


def folder_of(folder, *files):
    """A folder with these files, each of which has one row: its own name."""
    for file in files:
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        write_rows(folder / file, [{"file": file}])
    return str(folder)


@pytest.mark.parametrize(
    "files",
    [
        ("train.jsonl", "test.jsonl"),
        ("train/0.jsonl", "dev/0.jsonl"),
        ("data/train-00000-of-00001.jsonl", "data/hard-00000-of-00001.jsonl"),
    ],
)
def test_the_rows_of_other_splits_are_not_trained_on(tmp_path, files):
    assert open_source(folder_of(tmp_path, *files)).rows["file"][:] == [files[0]]


def test_several_splits_without_one_for_training_are_named(tmp_path):
    with pytest.raises(UserError, match="has no split train; it has validation, test: name one by --split"):
        open_source(folder_of(tmp_path, "val.jsonl", "test.jsonl"))


@pytest.mark.parametrize("files", [("a.jsonl", "b.jsonl"), ("test_1.jsonl", "test_2.jsonl")])
def test_a_folder_without_several_splits_is_read_as_a_whole(tmp_path, files):
    assert open_source(folder_of(tmp_path, *files)).rows["file"][:] == [*files]


CARD = """---
configs:
- config_name: easy
  data_files: easy.jsonl
- config_name: {}
  data_files: {}.jsonl
---
Two configurations."""


def test_a_clone_with_several_configurations_is_not_read_as_one(tmp_path):
    folder = folder_of(tmp_path, "easy.jsonl", "hard.jsonl")
    (tmp_path / "README.md").write_text(CARD.format("hard", "hard"))
    with pytest.raises(UserError, match="has several configurations, easy, hard: name one by --config"):
        open_source(folder)
    assert open_source(folder, config="hard").rows["file"][:] == ["hard.jsonl"]


def test_of_several_configurations_the_default_is_read(tmp_path):
    folder = folder_of(tmp_path, "easy.jsonl", "default.jsonl")
    (tmp_path / "README.md").write_text(CARD.format("default", "default"))
    assert open_source(folder).rows["file"][:] == ["default.jsonl"]


@pytest.mark.parametrize("card", ["---\n# A title\n---\n", "---\nconfigs: [\n---\n", "# A title"])
def test_a_card_without_configurations_changes_nothing(tmp_path, card):
    folder = folder_of(tmp_path, "a.jsonl", "b.jsonl")
    (tmp_path / "README.md").write_text(card)
    assert open_source(folder).rows["file"][:] == ["a.jsonl", "b.jsonl"]


def test_what_save_to_disk_writes_is_a_dataset(tmp_path):
    datasets.Dataset.from_dict({"content": ["x"]}).save_to_disk(tmp_path)
    assert open_source(str(tmp_path)).rows["content"][:] == ["x"]


def test_what_map_leaves_in_a_saved_folder_is_not_read(tmp_path):
    datasets.Dataset.from_dict({"content": ["x"]}).save_to_disk(tmp_path)
    datasets.load_from_disk(tmp_path).map(lambda row: {"content": row["content"] + "y"})
    assert len([*tmp_path.glob("*.arrow")]) == 2 and open_source(str(tmp_path)).rows["content"][:] == ["x"]


def test_what_stands_beside_the_data_of_a_clone_is_not_read(tmp_path):
    (tmp_path / "config.json").write_text('{"file": "this one"}')
    datasets.Dataset.from_dict({"file": ["x"]}).to_parquet(tmp_path / "data.parquet")
    assert open_source(str(tmp_path)).rows["file"][:] == ["x"]


def test_what_an_editor_keeps_in_a_hidden_folder_is_not_read(tmp_path):
    files = ("seeds.jsonl", ".ipynb_checkpoints/seeds-checkpoint.jsonl")
    assert open_source(folder_of(tmp_path, *files)).rows["file"][:] == ["seeds.jsonl"]


@pytest.mark.parametrize(
    ("name", "sibling"), [("a[1].jsonl", "a1.jsonl"), ("a*.jsonl", "ab.jsonl"), ("a?.jsonl", "ac.jsonl")]
)
@pytest.mark.parametrize("place", ["", "of[2]/"])
def test_a_name_is_no_pattern(tmp_path, name, sibling, place):
    folder_of(tmp_path, place + name, place + sibling)
    assert open_source(str(tmp_path / place / name)).rows["file"][:] == [place + name]


def test_files_of_two_kinds_are_refused(tmp_path):
    (tmp_path / "a.csv").write_text("file\nx\n")
    with pytest.raises(UserError, match="holds files of csv and of json"):
        open_source(folder_of(tmp_path, "b.jsonl"))


def test_another_content_is_read_though_the_file_has_the_time_of_the_one_before(tmp_path):
    for content in ("old", "new"):
        write_rows(tmp_path / "seeds.jsonl", [{"content": content}])
        os.utime(tmp_path / "seeds.jsonl", (1e9, 1e9))
        assert open_source(str(tmp_path / "seeds.jsonl")).rows["content"][:] == [content]


def test_another_content_is_read_from_a_url_that_names_no_version_of_it(tmp_path):
    fs = fsspec.filesystem("memory")
    for content in ("old", "new"):
        fs.pipe_file(f"{tmp_path}/seeds.csv", f"content\n{content}\n".encode())
        assert open_source(f"memory://{tmp_path}/seeds.csv").rows["content"][:] == [content]


def test_a_web_server_that_does_not_say_how_long_a_file_is_can_be_read_from():
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(b"content\nx\n")

        do_HEAD = do_GET

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        assert open_source(f"http://127.0.0.1:{server.server_port}/seeds.csv").rows["content"][:] == ["x"]
        server.shutdown()


def test_a_split_of_a_folder_is_read_as_it_is_now(tmp_path):
    """And not as datasets has it in its cache, by the name of the folder."""
    for number, folder in enumerate([tmp_path / "one" / "clone", tmp_path / "other" / "clone"]):
        folder.mkdir(parents=True)
        (folder / "README.md").write_text(
            "---\nconfigs:\n- config_name: default\n  data_files:\n  - split: test\n    path: test.jsonl\n---\n"
        )
        for text in (f"old {number}", f"new {number}"):
            write_rows(folder / "test.jsonl", [{"text": text}])
            assert open_source(str(folder), split="test").rows["text"][:] == [text]
            assert open_source(f"file://{folder}", split="test").rows["text"][:] == [text]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('{"text": "half an emoji: \\ud83d"}', "surrogate pair"),
        ('{"text": "cut o', "Missing a closing quotation mark in string. in row 1"),
    ],
)
def test_what_is_wrong_with_a_line_of_json_is_said(tmp_path, line, said):
    (tmp_path / "rows.jsonl").write_text('{"text": "whole"}\n' + line)
    with pytest.raises(UserError, match=said):
        open_source(str(tmp_path / "rows.jsonl"))


def test_what_a_step_has_written_below_is_no_part_of_a_folder(tmp_path):
    folder = folder_of(tmp_path, "a.jsonl", "b.jsonl")
    before = open_source(folder)
    (tmp_path / "out" / "data").mkdir(parents=True)
    (tmp_path / "out" / "run.json").write_text('{"step": "generate_concepts", "identity": {}}')
    datasets.Dataset.from_dict({"file": ["another"]}).to_parquet(tmp_path / "out" / "data" / "train-0.parquet")
    after = open_source(folder)
    assert after.rows["file"][:] == ["a.jsonl", "b.jsonl"] and after.pin == before.pin


def test_a_file_of_that_name_that_no_step_wrote_hides_nothing(tmp_path):
    (tmp_path / "part").mkdir()
    (tmp_path / "part" / "run.json").write_text('{"run": 7}')
    write_rows(tmp_path / "part" / "rows.jsonl", [{"run": 8}])
    assert sorted(open_source(str(tmp_path)).rows["run"][:]) == [7, 8]
