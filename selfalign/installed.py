"""Whether the installed packages are those of requirements.txt, for the errors that other versions of them lead to."""

from __future__ import annotations

import traceback
from pathlib import Path

from selfalign.errors import first_line

ROOT = Path(__file__).resolve().parent.parent
REQUIREMENTS = ROOT / "requirements.txt"
# What a package of another version than the code was written for raises: it has no such module, name or argument.
MISMATCH = (ImportError, AttributeError, TypeError)


def other_versions() -> list[str]:
    """Each package that is not installed as REQUIREMENTS asks for it: "trl 0.12.2 instead of 1.16.0"."""
    from importlib.metadata import PackageNotFoundError, version

    from packaging.requirements import Requirement

    others = []
    for line in REQUIREMENTS.read_text().splitlines():
        if not (text := line.split("#")[0].strip()):
            continue
        wanted = Requirement(text)
        if wanted.marker and not wanted.marker.evaluate():
            continue
        tested = str(wanted.specifier).removeprefix("==")
        try:
            found = version(wanted.name)
            if not wanted.specifier.contains(found, prereleases=True):
                others.append(f"{wanted.name} {found} instead of {tested}")
        except PackageNotFoundError:
            others.append(f"no {wanted.name} instead of {tested}")
    return others


def explained(error: BaseException) -> str | None:
    """What to say of an error that other versions of packages may have caused; None if all are as required."""
    if not isinstance(error, MISMATCH) or not (others := other_versions()):
        return None
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if Path(frame.filename).is_relative_to(ROOT)]
    at = f" in {Path(frames[-1].filename).relative_to(ROOT)}, line {frames[-1].lineno}" if frames else ""
    return (
        f"{type(error).__name__}{at} ({first_line(error)}), which may come from packages in other versions than this "
        f"was tested with: {', '.join(others)}. `pip install -r requirements.txt` installs those"
    )
