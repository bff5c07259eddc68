"""Folders of many images: read once, never held whole, measured as anonymous memory of a process of its own."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

FILES, SIDE = 20_000, 32
WHOLE = FILES * 3 * SIDE**2
PROGRAM = """
import sys, threading
from pathlib import Path
from leadline import arrays
from leadline.data import load_images

arrays.MEMORY_LIMIT = 1 << 20

def anonymous():
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith("RssAnon")).split()[1])

load_images(sys.argv[1])  # imports, and what Pillow keeps
peak, done = [0], threading.Event()

def watch():
    while not done.wait(0.01):
        peak[0] = max(peak[0], anonymous())

start = anonymous()
watcher = threading.Thread(target=watch)
watcher.start()
images = load_images(sys.argv[2])
done.set()
watcher.join()
print(len(images), int(images.pixels[0].max()), int(images.pixels[-1].max()), peak[0] - start)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="anonymous memory is read from /proc")
def test_a_folder_of_many_images_is_never_held_whole(tmp_path: Path) -> None:
    """The limit above which pixels lie on disk is lowered: benchmarks/streaming.py does the same with 100,000 faces."""
    for name in ("few", "many"):
        (tmp_path / name).mkdir()
    for shade in (10, 200):
        pixels = np.full((SIDE, SIDE, 3), shade, dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{shade}.bmp")
    for index in range(FILES):
        os.link(tmp_path / ("10.bmp" if index < FILES // 2 else "200.bmp"), tmp_path / "many" / f"{index:06d}.bmp")
    os.link(tmp_path / "10.bmp", tmp_path / "few" / "0.bmp")
    command = [sys.executable, "-c", PROGRAM, str(tmp_path / "few"), str(tmp_path / "many")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    number, first, last, peak = map(int, done.stdout.split())
    assert (number, first, last) == (FILES, 10, 200)
    names = 300 * FILES  # bytes: a file's name as it is listed and as it is kept
    assert peak < names + WHOLE // 4
