"""Checkpoints that survive a kill at any moment: what counts is marked as whole, and unmarked before it is removed."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

WHOLE = ".whole"  # a file in a checkpoint, made when all the others are on the disk


def newest_checkpoint(folder: Path) -> Path | None:
    """The last checkpoint that is whole."""
    whole = [mark.parent for mark in folder.glob(f"checkpoint-*/{WHOLE}")]
    return max(whole, key=lambda checkpoint: int(checkpoint.name.partition("-")[2]), default=None)


def keep_only(checkpoint: Path) -> None:
    """Mark a checkpoint that has been written, and only then remove the others."""
    for file in checkpoint.rglob("*"):
        if file.is_file():
            with open(file, "rb") as stream:
                os.fsync(stream.fileno())
    (checkpoint / WHOLE).touch()
    remove_all(checkpoint.parent, but=checkpoint)


def remove_all(folder: Path, but: Path | None = None) -> None:
    """Delete the checkpoints of a folder. Marks go first: what a kill leaves is not taken for a checkpoint."""
    for checkpoint in folder.glob("checkpoint-*"):
        if checkpoint != but:
            (checkpoint / WHOLE).unlink(missing_ok=True)
            shutil.rmtree(checkpoint)
