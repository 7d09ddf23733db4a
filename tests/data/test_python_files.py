"""Where step 1 finds Python files."""

import pytest

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
