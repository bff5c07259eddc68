"""Files that are there whole or not at all, whenever the process is killed."""

import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from leadline.errors import LeadlineError


class NotWritten(LeadlineError, OSError):
    """A file that the system would not write: no room, no permission. What was there before is still there."""


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """A temporary path beside `path`, flushed to disk and renamed to it when the block ends without an error.

    Raises NotWritten when the system does not write it.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with _named(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield temporary
            with temporary.open("rb") as written:
                os.fsync(written.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """A temporary folder beside `path`, renamed to it when the block ends without an error; an old one is replaced.

    Raises NotWritten when the system does not write it.
    """
    with _named(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent))
        try:
            yield temporary
            temporary.chmod(0o755)
            if path.exists():
                shutil.rmtree(path)
            temporary.replace(path)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Say which file an error of the system is about: a full disk does not."""
    try:
        yield
    except NotWritten:
        raise
    except OSError as error:
        raise NotWritten(
            f"{path} could not be written ({error.strerror or error}): make room there, or choose another place "
            "(--out); what was complete is kept"
        ) from error


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text atomically."""
    with atomic_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock on `path`; the system lets go of it when the process dies.

    Raises LeadlineError at once when another process holds it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise LeadlineError(
                f"{path.parent} is in use by another leadline process: wait for it, or choose another folder (--out)"
            ) from None
        yield


def link_or_copy(source: str, target: str) -> str:
    """A file a second time: a hard link, or a copy where the file system has none. As `shutil.copy2` is called."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
    return target


def file_digest(path: Path) -> str:
    """SHA-256 of a file, read in parts."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def inside(folder: Path, name: str) -> Path:
    """`folder / name`, refused when it leads out of the folder (an absolute name, `..`, a link) or nowhere at all."""
    try:
        path = (folder / name).resolve()
    # A null byte; a link that leads to itself.
    except (ValueError, RuntimeError) as error:
        raise LeadlineError(f"{name!r} is no name of a file in {folder}: {error}") from None
    if not path.is_relative_to(folder.resolve()):
        raise LeadlineError(f"{name!r} leads out of the folder {folder}: it was left unread")
    return folder / name
