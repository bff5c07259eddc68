"""`leadline audit` on hostile input, from the command to what the user reads; what is kept when the disk is full."""

import errno
import json
import os
import resource
import shutil
import signal
import subprocess
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from selenium import webdriver

import leadline
from leadline.cli import main
from leadline.errors import LeadlineError
from leadline.runs import Run

NAME = "a\n<script>document.title='owned'</script>.png"
"""A slash ends a folder's name: the tag is closed by the names of the images in it."""
QUICK = ["--metrics", "memorization", "--set", "audit.num_panels=2", "--set", "audit.ks=1"]


def noise(folder: Path, n: int, seed: int = 0, size: int = 8) -> Path:
    """n RGB images of noise, 000.png and on."""
    folder.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (n, size, size, 3), dtype=np.uint8)
    for index, image in enumerate(pixels):
        Image.fromarray(image).save(folder / f"{index:03d}.png")
    return folder


@pytest.fixture
def images(tmp_path: Path) -> Path:
    return noise(tmp_path / "images", 4, seed=1)


@pytest.fixture
def training(tmp_path: Path) -> str:
    return f"folder:{noise(tmp_path / 'training', 24)}"


Audit = Callable[..., tuple[int, str, str]]


@pytest.fixture
def audit(capsys: pytest.CaptureFixture[str], images: Path, training: str, tmp_path: Path) -> Audit:
    """(exit code, stdout, stderr) of an audit of `images` against `training` in `tmp_path/out`."""

    def run(*words: str, samples: Path = images, train: str = training, out: Path = tmp_path / "out") -> Any:
        with pytest.raises(SystemExit) as ended:
            main(["audit", str(samples), "--train", train, "--out", str(out), *words])
        said = capsys.readouterr()
        return ended.value.code or 0, said.out, said.err

    return run


# --- images


def test_files_that_are_no_images_are_refused_by_name_then_left_out_by_name(
    audit: Audit, images: Path, tmp_path: Path
) -> None:
    (images / "\x1b[2J.png").write_bytes(b"")
    code, out, err = audit(*QUICK)
    assert (code, out) == (2, "")
    assert (
        "leadline: error: images: 1 of 5 images could not be decoded, 20.0%, and at most 1.0% may be "
        "(--set data.max_unreadable_share): \\x1b[2J.png: no image in one of the formats PNG, JPEG"
    ) in err
    code, out, err = audit(*QUICK, "--set", "data.max_unreadable_share=0.2")
    assert code == 0
    assert "images: 1 of 5 images could not be decoded and are left out: \\x1b[2J.png: no image in one of" in err
    assert "\x1b" not in err
    header = json.loads((tmp_path / "out" / "run.json").read_text())
    assert header["samples"]["n"] == 4
    assert header["samples"]["notes"]["unreadable"]["count"] == 1
    assert "\\x1b[2J.png: no image" in (tmp_path / "out" / "report.html").read_text()


def test_unusual_images_are_measured_and_what_was_done_is_on_the_page(
    audit: Audit, images: Path, tmp_path: Path
) -> None:
    plain = Image.open(images / "000.png")
    plain.convert("1").save(images / "onebit.png")
    plain.convert("CMYK").save(images / "cmyk.jpg")
    plain.convert("P").save(images / "palette.gif", save_all=True, append_images=[plain.convert("P")])
    Image.fromarray(np.zeros((8, 8), np.uint16)).save(images / "deep.png")
    Image.new("RGB", (2000, 1500)).save(images / "huge.png")
    code, _, _ = audit(*QUICK)
    assert code == 0
    said = (
        "RGB (from PIL's modes 1 1, CMYK 1, I;16 1, P 1, RGB 5), 2 sizes from 8×8 to 2000×1500 resized (Lanczos) to 8×8"
    )
    assert json.loads((tmp_path / "out" / "run.json").read_text())["samples"]["notes"]["conversion"] == said
    assert "8×8 to 2000×1500 resized (Lanczos) to 8×8" in (tmp_path / "out" / "report.html").read_text()


@pytest.mark.browser
def test_a_hostile_file_name_is_text_on_the_page(
    audit: Audit, images: Path, tmp_path: Path, browser: webdriver.Chrome
) -> None:
    hostile = (images / NAME).parent
    hostile.mkdir()
    for index, file in enumerate(sorted(images.glob("*.png"))):
        file.rename(hostile / f"script>{index}.png")
    (hostile / "b\n<img src=x onerror=alert(1)>.png").write_bytes(b"")
    code, _, _ = audit(*QUICK, "--set", "data.max_unreadable_share=0.5", train=f"imagefolder:{images}")
    assert code == 0
    browser.get_log("browser")
    browser.get((tmp_path / "out" / "report.html").as_uri())
    assert browser.execute_script("return document.scripts.length") == 0
    assert browser.execute_script("return document.querySelectorAll('img[src=x]').length") == 0
    assert browser.title.startswith("audit of images")
    assert browser.get_log("browser") == []
    words = browser.execute_script(
        "return document.body.innerText + [...document.images].map(i => i.alt + (i.title || '')).join(' ')"
    )
    assert "<script>document.title='owned'<" in words
    assert "b\\n<img src=x onerror=alert(1)>.png" in words


# --- sets


def test_floats_that_are_no_numbers_are_refused_with_their_place(tmp_path: Path) -> None:
    samples = np.zeros((3, 1, 8, 8), np.float32) - 0.5
    samples[1, 0, 0, 0] = np.nan
    with pytest.raises(LeadlineError, match=r"1 of 3 images hold values that are not finite \(first: image 1\)"):
        leadline.measure(samples, np.zeros((9, 1, 8, 8), np.uint8))


def found(folder: Path, name: str, **params: Any) -> Any:
    audit = Run.open(folder).audit()
    assert audit is not None
    return audit.find(name, **params)


def test_one_sample_has_a_number_without_an_interval(audit: Audit, images: Path, tmp_path: Path) -> None:
    for file in sorted(images.iterdir())[1:]:
        file.unlink()
    assert audit(*QUICK)[0] == 0
    (nearest,) = found(tmp_path / "out", "nearest_distance", set="samples")
    assert (nearest.n, nearest.lower, nearest.value > 0) == (1, None, True)


def test_samples_that_are_the_training_set_are_all_copies_and_that_is_said(
    audit: Audit, images: Path, tmp_path: Path
) -> None:
    assert audit(*QUICK, train=f"folder:{images}")[0] == 0
    (nearest,) = found(tmp_path / "out", "nearest_distance", set="samples")
    assert (nearest.value, nearest.params["identical_to_training"]) == (0, 4)
    (copies,) = found(tmp_path / "out", "nearest_copy_rate", set="samples", rule="d1/d2", space="pixels")
    assert copies.value == 1.0
    assert "Identical to a training image: 4 images." in (tmp_path / "out" / "report.html").read_text()


def test_one_class_alone_has_no_bias_and_the_reason_names_the_flag(audit: Audit, tmp_path: Path) -> None:
    noise(tmp_path / "pets" / "cat", 12)
    code, _, _ = audit("--metrics", "bias", train=f"imagefolder:{tmp_path / 'pets'}")
    assert code == 0
    reasons = {str(m.reason) for m in found(tmp_path / "out", "share") if m.value is None}
    assert any("--labeler DATA" in reason for reason in reasons)
    assert "--labeler DATA" in (tmp_path / "out" / "report.html").read_text()


def test_without_held_out_images_the_baseline_says_how_to_get_it(audit: Audit, tmp_path: Path) -> None:
    assert audit(*QUICK)[0] == 0
    baselines = list(found(tmp_path / "out", "nearest_distance", set="held_out"))
    assert baselines
    assert all("no held-out real images: give images" in str(m.reason) for m in baselines)
    assert found(tmp_path / "out", "nearest_distance", set="samples")[0].value is not None


# --- permissions


@contextmanager
def nobody(*folders: Path) -> Iterator[None]:
    """No right to read `folders`, for root neither: the process becomes another user's for the block."""
    root = os.geteuid() == 0
    modes = {folder: folder.stat().st_mode for folder in folders}
    for folder in folders:
        folder.chmod(0o000)
    if root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)
        for folder, mode in modes.items():
            folder.chmod(mode)


@pytest.fixture
def public() -> Iterator[Path]:
    """A folder that every user may write to, unlike pytest's own."""
    folder = Path(tempfile.mkdtemp(prefix="leadline-"))
    folder.chmod(0o777)
    yield folder
    shutil.rmtree(folder)


def test_a_folder_that_may_not_be_read_is_named(audit: Audit, public: Path) -> None:
    samples, pets = noise(public / "samples", 2), public / "pets"
    noise(pets / "cat", 6)
    locked = noise(pets / "dog", 6, seed=1)
    # Everything that is imported late is imported now: another user may not even see Python's own folder.
    assert audit(*QUICK, samples=samples, train=f"folder:{samples}", out=public / "first")[0] == 0
    with nobody(locked):
        code, out, err = audit(*QUICK, samples=samples, train=f"imagefolder:{pets}", out=public / "out")
    assert (code, out) == (2, "")
    assert f"leadline: error: the folder {locked} cannot be read (Permission denied): allow it (chmod)" in err
    with nobody(samples):
        code, out, err = audit(*QUICK, samples=samples, train=f"folder:{pets}", out=public / "out")
    assert (code, out) == (2, "")
    assert str(samples) in err
    assert "Permission denied" in err
    assert "Traceback" not in err


def test_a_place_that_may_not_be_written_is_named_before_anything_is_measured(audit: Audit, public: Path) -> None:
    samples = noise(public / "samples", 2)
    assert audit(*QUICK, samples=samples, train=f"folder:{samples}", out=public / "first")[0] == 0
    closed = public / "closed"
    closed.mkdir()
    with nobody(closed):
        code, _, err = audit(*QUICK, samples=samples, train=f"folder:{samples}", out=closed / "out")
    assert code == 2
    assert f"leadline: error: {closed / 'out'}" in err
    assert "Permission denied" in err
    assert "measuring" not in err


# --- a full disk


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 KiB."""
    place = tmp_path / "disk"
    place.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(place)]
    done = subprocess.run(words, capture_output=True, text=True) if shutil.which("mount") else None
    if done is None or done.returncode:
        pytest.skip(f"no right to mount a small file system: {done.stderr.strip() if done else 'no mount'}")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def fill(place: Path, leave: int) -> Path:
    """A file that takes all room but `leave` bytes."""
    free = os.statvfs(place).f_bavail * os.statvfs(place).f_frsize
    filler = place / "filler"
    filler.write_bytes(bytes(max(0, free - leave)))
    return filler


def test_on_a_full_disk_what_was_measured_is_printed(audit: Audit, small_disk: Path) -> None:
    # Room for run.json, none for the images of the panels beside it.
    filler = fill(small_disk, leave=16 << 10)
    code, out, err = audit(*QUICK, "--set", "audit.num_panels=24", out=small_disk / "out")
    assert (code, out) == (2, "")
    assert "leadline: error: the audit is done but could not be saved; what it measured:" in err
    assert "\nnearest_distance [" in err
    assert f"{small_disk / 'out'}/" in err
    assert "could not be written (No space left on device): make room there, or choose another place (--out)" in err
    assert Run.open(small_disk / "out").audit() is None
    filler.unlink()
    assert audit(*QUICK, "--set", "audit.num_panels=24", out=small_disk / "out")[0] == 0
    assert Run.open(small_disk / "out").header.status == "complete"


def test_a_disk_that_is_full_from_the_start_is_named_before_anything_is_measured(
    audit: Audit, small_disk: Path
) -> None:
    (small_disk / "out").mkdir()
    fill(small_disk, leave=0)
    code, _, err = audit(*QUICK, out=small_disk / "out")
    assert code == 2
    assert f"{small_disk / 'out' / 'run.json'} could not be written (No space left on device)" in err
    assert "measuring" not in err


@contextmanager
def files_up_to(size: int) -> Iterator[None]:
    """No file of this process may grow beyond `size` bytes: what a quota does, on every file system."""
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)


def test_a_file_that_may_not_grow_is_named_and_the_numbers_are_printed(audit: Audit, tmp_path: Path) -> None:
    with files_up_to(6000):
        code, out, err = audit(*QUICK)
    assert (code, out) == (2, "")
    assert f"could not be written ({os.strerror(errno.EFBIG)})" in err
    assert "the audit is done but could not be saved; what it measured:\n" in err
    assert "\nnearest_distance [" in err
    assert f"leadline: error: {tmp_path}" not in err
    assert not list(tmp_path.glob("out/.*.tmp"))


def test_a_cache_that_cannot_be_written_costs_a_warning_and_not_the_audit(
    audit: Audit, images: Path, tmp_path: Path
) -> None:
    """A file stands where the cache's folder would be."""
    (tmp_path / ".cache").write_text("in the way")
    noise(tmp_path / "pets" / "cat", 12, seed=2)
    noise(tmp_path / "pets" / "dog", 12, seed=3)
    noise(tmp_path / "labelled" / "cat", 12, seed=4)
    noise(tmp_path / "labelled" / "dog", 12, seed=5)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        code, _, err = audit(
            "--metrics", "bias", "--set", "audit.labeler_epochs=1", "--labeler", f"imagefolder:{tmp_path / 'labelled'}",
            train=f"imagefolder:{tmp_path / 'pets'}",
        )  # fmt: skip
    assert code == 0
    assert "leadline: warning: the labeler could not be kept for the next audit, this one goes on: " in err
    assert f"leadline: warning: the cache {tmp_path / '.cache'} could not be written" in err
    assert found(tmp_path / "out", "share", set="samples")[0].value is not None


def test_a_file_in_the_place_of_the_audits_folder_is_named(audit: Audit, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("mine")
    code, out, err = audit(*QUICK)
    assert (code, out) == (2, "")
    assert f"leadline: error: {tmp_path / 'out'}: File exists: see the permissions and the room there" in err
    assert (tmp_path / "out").read_text() == "mine"
