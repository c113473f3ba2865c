"""Writing files so that a kill, a full disk or a second process never leaves half of one under its final name."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from interp.errors import StoreError

__all__ = ["atomic", "slug"]


@contextmanager
def atomic(path: str | Path) -> Iterator[Path]:
    """Write a file completely or not at all.

    Parameters
    ----------
    path : str or Path
        Where the file shall stand; folders above it are made.

    Yields
    ------
    Path
        A name beside it, with the same suffix, to write to. It replaces ``path`` when the block ends, and is removed
        when the block fails.

    Raises
    ------
    StoreError
        If the file cannot be written (a full disk, a folder that may not be written to).

    Examples
    --------
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> with atomic(folder / "notes.txt") as partial:
    ...     _ = partial.write_text("whole")
    >>> [file.name for file in folder.iterdir()]
    ['notes.txt']
    """
    path = Path(path)
    partial = path.with_name(f".{path.stem}.{os.getpid()}.part{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield partial
        partial.replace(path)
    except OSError as error:
        with suppress(OSError):  # there may be no such folder at all
            partial.unlink(missing_ok=True)
        raise StoreError(f"cannot write {path}: {error.strerror or error}.") from error
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def slug(item: object) -> str:
    """A text, or several in a tuple, as part of a file's name.

    Examples
    --------
    >>> slug("genre=jazz"), slug(("piano", "flute")), slug("L3.resid"), slug("?")
    ('genre_jazz', 'piano-flute', 'L3_resid', 'unnamed')
    """
    text = "-".join(map(str, item)) if isinstance(item, tuple) else str(item)
    return re.sub(r"(?:[^\w-]|_)+", "_", text).strip("_") or "unnamed"
