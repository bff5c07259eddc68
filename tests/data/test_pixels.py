"""The store of decoded pixels: memory or disk, and no image decoded twice."""

from collections.abc import Iterator, Sequence

import numpy as np
from PIL import Image

from leadline.data.convert import Converter
from leadline.data.pixels import PixelStore
from leadline.data.source import Readable, Source, Unreadable


def test_only_new_images_are_decoded_after_a_failure() -> None:
    decoded: list[int] = []

    def read(indices: Sequence[int]) -> Iterator[Readable]:
        for i in indices:
            decoded.append(i)
            yield Unreadable("broken") if i in (0, 5) else Image.new("L", (2, 2), i)

    store = PixelStore(Source(name="x", ids=[str(i) for i in range(10)], read=read), Converter("x"))
    assert store.read([5, 3, 0, 8, 3]) is None
    assert store.unreadable == {0: "broken", 5: "broken"}
    assert store.num_tried == 4
    pixels = store.read([8, 3, 6, 7, 3])
    assert pixels is not None
    assert pixels[:, 0, 0, 0].tolist() == [8, 3, 6, 7, 3]
    assert decoded == [0, 3, 5, 8, 6, 7]


def test_values_without_a_meaning_count_as_unreadable() -> None:
    def read(indices: Sequence[int]) -> Iterator[Readable]:
        return (Image.fromarray(np.full((2, 2), i, dtype=np.float32)) for i in indices)

    store = PixelStore(Source(name="x", ids=["a", "b", "c"], read=read), Converter("x"))
    assert store.read([0, 1, 2]) is None
    assert list(store.unreadable) == [2]
    assert "outside 0 to 1" in store.unreadable[2]
