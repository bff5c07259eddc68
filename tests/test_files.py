"""Files that are whole or not there, locks that die with their process, names that stay in their folder."""

import hashlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from leadline.errors import LeadlineError
from leadline.files import atomic_file, atomic_folder, file_digest, inside, link_or_copy, locked, write_text


@contextmanager
def process(code: str, *arguments: Path | str) -> Iterator[subprocess.Popen[str]]:
    """A Python process that runs `code`, once it has printed its first line; killed in the end."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as started:
        try:
            assert started.stdout is not None
            assert started.stdout.readline() == "ready\n"
            yield started
        finally:
            started.kill()


def killed(started: "subprocess.Popen[str]") -> None:
    """End the process as a power cut would: no handler and no `finally` runs."""
    os.kill(started.pid, signal.SIGKILL)
    assert started.wait(timeout=20) == -signal.SIGKILL


HALF_A_FILE = """
import sys, time
from pathlib import Path
from leadline.files import atomic_file
with atomic_file(Path(sys.argv[1])) as temporary:
    with temporary.open("w") as file:
        file.write("half")
        file.flush()
        print("ready", flush=True)
        time.sleep(60)
"""

HALF_A_FOLDER = """
import sys, time
from pathlib import Path
from leadline.files import atomic_folder
with atomic_folder(Path(sys.argv[1])) as temporary:
    (temporary / "half").write_text("half")
    print("ready", flush=True)
    time.sleep(60)
"""

HOLD_THE_LOCK = """
import sys, time
from pathlib import Path
from leadline.files import locked
with locked(Path(sys.argv[1])):
    print("ready", flush=True)
    time.sleep(60)
"""


def test_a_file_is_there_when_the_block_has_ended(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.txt"
    with atomic_file(path) as temporary:
        temporary.write_text("whole")
        assert not path.exists()
        assert temporary.parent == path.parent
        written = temporary.stat().st_ino
    assert path.read_text() == "whole"
    # Renamed, which happens at once, and not copied, which could be cut off.
    assert path.stat().st_ino == written
    assert list(path.parent.iterdir()) == [path]


def test_an_exception_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")

    def fail() -> None:
        with atomic_file(path) as temporary:
            temporary.write_text("half")
            raise RuntimeError("stopped")

    with pytest.raises(RuntimeError, match="stopped"):
        fail()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("old", [None, "old"])
def test_a_kill_leaves_no_half_file(tmp_path: Path, old: str | None) -> None:
    path = tmp_path / "a.txt"
    if old is not None:
        path.write_text(old)
    with process(HALF_A_FILE, path) as writer:
        killed(writer)
    assert (path.read_text() if path.exists() else None) == old
    # What the killed one left behind does not stand in the way of the next.
    write_text(path, "whole")
    assert path.read_text() == "whole"


def test_a_kill_leaves_no_half_folder(tmp_path: Path) -> None:
    path = tmp_path / "model"
    path.mkdir()
    (path / "old").write_text("old")
    with process(HALF_A_FOLDER, path) as writer:
        killed(writer)
    assert [file.name for file in path.iterdir()] == ["old"]
    with atomic_folder(path) as temporary:
        (temporary / "new").write_text("new")
    assert [file.name for file in path.iterdir()] == ["new"]


def test_an_exception_leaves_the_old_folder(tmp_path: Path) -> None:
    path = tmp_path / "model"
    with atomic_folder(path) as temporary:
        (temporary / "old").write_text("old")

    def fail() -> None:
        with atomic_folder(path) as temporary:
            (temporary / "half").write_text("half")
            raise RuntimeError("stopped")

    with pytest.raises(RuntimeError, match="stopped"):
        fail()
    assert [file.name for file in path.iterdir()] == ["old"]
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_can_be_read_by_others(tmp_path: Path) -> None:
    """`mkdtemp` alone would keep the group out."""
    with atomic_folder(tmp_path / "model"):
        pass
    assert (tmp_path / "model").stat().st_mode & 0o777 == 0o755


def test_text_is_utf_8(tmp_path: Path) -> None:
    write_text(tmp_path / "a.txt", "η = 0 — naïve\n")
    assert (tmp_path / "a.txt").read_bytes() == "η = 0 — naïve\n".encode()


def test_the_second_process_is_refused_until_the_first_is_killed(tmp_path: Path) -> None:
    lock = tmp_path / "run" / ".lock"
    with process(HOLD_THE_LOCK, lock) as holder:
        message = f"{lock.parent} is in use by another leadline process: wait for it, or choose another folder"
        with pytest.raises(LeadlineError, match=message), locked(lock):
            pytest.fail("the lock is another's")
        killed(holder)
        with locked(lock):
            assert lock.exists()


def test_a_lock_is_free_after_its_block_however_that_ends(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="stopped"), locked(tmp_path / ".lock"):
        raise RuntimeError("stopped")
    with locked(tmp_path / ".lock"), pytest.raises(LeadlineError, match="in use"), locked(tmp_path / ".lock"):
        pytest.fail("held already")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A folder beside a secret, with links to it, to a file of its own and to themselves."""
    folder = tmp_path / "home"
    (folder / "sub").mkdir(parents=True)
    (folder / "a.txt").write_text("a")
    (tmp_path / "secret.txt").write_text("secret")
    (tmp_path / "home-too").mkdir()
    (folder / "out").symlink_to(tmp_path)
    (folder / "in").symlink_to(folder / "a.txt")
    (folder / "circle").symlink_to(folder / "circle")
    return folder


@pytest.mark.parametrize("name", ["a.txt", "sub/../a.txt", "in", "not there yet"])
def test_a_name_inside_is_taken(home: Path, name: str) -> None:
    assert inside(home, name) == home / name


@pytest.mark.parametrize(
    "name", ["../secret.txt", "sub/../../secret.txt", "/etc/passwd", "out/secret.txt", "..", "../home-too", "out"]
)
def test_a_name_that_leads_out_is_refused(home: Path, name: str) -> None:
    with pytest.raises(LeadlineError, match="leads out of the folder .*: it was left unread"):
        inside(home, name)


def test_an_absolute_name_of_a_file_inside_is_that_file(home: Path) -> None:
    assert inside(home, str(home / "a.txt")) == home / "a.txt"


CIRCLE = pytest.param(
    "circle", marks=pytest.mark.skipif(sys.version_info >= (3, 13), reason="is refused when it is opened")
)


@pytest.mark.parametrize("name", ["a\0.txt", CIRCLE])
def test_a_name_of_no_file_is_refused(home: Path, name: str) -> None:
    """Not a plain ValueError or RuntimeError, which would end the reading of a table for one bad cell."""
    with pytest.raises(LeadlineError, match="is no name of a file in"):
        inside(home, name)


def test_the_digest_is_of_the_content(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"abc")
    assert file_digest(tmp_path / "file") == hashlib.sha256(b"abc").hexdigest()


def test_a_file_is_linked_where_that_works_and_copied_where_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "source"
    source.write_text("content")
    assert link_or_copy(str(source), str(tmp_path / "link")) == str(tmp_path / "link")
    assert (tmp_path / "link").stat().st_ino == source.stat().st_ino

    def refused(*_: object) -> None:
        raise OSError("Invalid cross-device link")

    monkeypatch.setattr(os, "link", refused)
    link_or_copy(str(source), str(tmp_path / "copy"))
    assert (tmp_path / "copy").read_text() == "content"
    assert (tmp_path / "copy").stat().st_ino != source.stat().st_ino
