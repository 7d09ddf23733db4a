"""Checkpoints that survive a kill at any moment: what counts is marked as whole, and unmarked before it is removed."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

WHOLE = ".whole"  # a file in a checkpoint, made when all the others are on the disk


def checkpoints_in(folder: Path) -> list[Path]:
    """The folders of all checkpoints, whole or not."""
    return list(folder.glob("checkpoint-*"))


def newest_checkpoint(folder: Path) -> Path | None:
    """The last checkpoint that is whole."""
    whole = [checkpoint for checkpoint in checkpoints_in(folder) if is_whole(checkpoint)]
    return max(whole, key=lambda checkpoint: int(checkpoint.name.partition("-")[2]), default=None)


def is_whole(checkpoint: Path) -> bool:
    return (checkpoint / WHOLE).exists()


def keep_only(checkpoint: Path) -> None:
    """Mark a checkpoint that has been written, and only then remove the others."""
    for file in checkpoint.rglob("*"):
        if file.is_file():
            with open(file, "rb") as stream:
                os.fsync(stream.fileno())
    (checkpoint / WHOLE).touch()
    for other in checkpoints_in(checkpoint.parent):
        if other != checkpoint:
            remove(other)


def remove(checkpoint: Path) -> None:
    """Delete a checkpoint. Its mark goes first: after a kill halfway, what is left is not taken for a checkpoint."""
    (checkpoint / WHOLE).unlink(missing_ok=True)
    shutil.rmtree(checkpoint)
