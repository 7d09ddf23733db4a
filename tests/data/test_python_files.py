"""Where step 1 finds Python files."""

import os

import pytest

from selfalign.data.javascript_seeds import open_javascript_files
from selfalign.data.python_files import open_python_files, origin_of
from selfalign.errors import UserError


def test_a_site_packages_folder_is_read_when_it_is_the_input_and_skipped_below_it(tmp_path):
    inside = tmp_path / "lib" / "site-packages"
    inside.mkdir(parents=True)
    (inside / "a.py").touch(), (tmp_path / "lib" / "b.py").touch()
    assert open_python_files(str(inside)).rows["path"][:] == ["a.py"]
    assert open_python_files(str(tmp_path / "lib")).rows["path"][:] == ["b.py"]


def test_a_folder_whose_files_are_all_skipped_is_refused(tmp_path):
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "a.py").touch()
    with pytest.raises(UserError, match="no Python files"):
        open_python_files(str(tmp_path))


@pytest.mark.parametrize(("open_files", "ending"), [(open_python_files, ".py"), (open_javascript_files, ".js")])
def test_a_file_whose_name_is_not_utf8_is_left_out_with_a_warning(tmp_path, capsys, open_files, ending):
    for name in (b"a", b"caf\xe9"):
        (tmp_path / os.fsdecode(name + ending.encode())).touch()
    assert open_files(str(tmp_path)).rows["path"][:] == ["a" + ending]
    assert "left out because their names are not UTF-8: 1" in capsys.readouterr().err


def test_installed_packages_come_with_name_version_and_licence():
    assert origin_of("pyflakes")["repository"].startswith("pyflakes@")
    assert origin_of("no_such_package") == {"repository": None, "license": None}


def test_a_folder_of_repositories_names_each_of_them(tmp_path):
    for path in ("one/.git/config", "one/src/a.py", "two/.git", "two/b.py", "loose/c.py"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).touch()
    rows = open_python_files(str(tmp_path)).rows
    found = {row["path"]: row["repository"] for row in rows}
    assert found == {"one/src/a.py": "one", "two/b.py": "two", "loose/c.py": tmp_path.name}
