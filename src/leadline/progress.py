"""How long work shows where it stands: one callback, silent in Python, a line with the time left on a console."""

import sys
import time
from collections.abc import Callable

ProgressCallback = Callable[[str, int, int, str], None]
"""(stage, done, total, detail): called often; whoever draws it decides how often to draw."""


def silent(stage: str, done: int, total: int, detail: str) -> None:
    """The default of the Python interface."""


def duration(seconds: float) -> str:
    """42 s, 3 min 20 s, 2 h 05 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


class ConsoleProgress:
    """Writes progress to stderr: one line, rewritten, on a terminal; a line every 10 s elsewhere."""

    def __init__(self, interval: float | None = None, *, quiet: bool = False) -> None:
        self.quiet = quiet
        self.live = sys.stderr.isatty()
        self.interval = interval if interval is not None else (0.2 if self.live else 10.0)
        self.stage = ""
        self.started = self.drawn = 0.0
        self.first = 0

    def __call__(self, stage: str, done: int, total: int, detail: str) -> None:
        if self.quiet:
            return
        now = time.monotonic()
        if stage != self.stage:
            self.close()
            self.stage, self.started, self.first = stage, now, done
        elif done < total and now - self.drawn < self.interval:
            return
        self.drawn = now
        text = f"{stage}: {done:,} of {total:,}" if total else stage
        if detail:
            text += f", {detail}"
        if self.first < done < total:
            text += f", {duration((now - self.started) / (done - self.first) * (total - done))} left"
        elif 0 < total <= done:
            text += f", took {duration(now - self.started)}"
        sys.stderr.write(f"\r\x1b[2K{text}" if self.live else f"{text}\n")
        sys.stderr.flush()

    def __enter__(self) -> "ConsoleProgress":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the current line."""
        if self.live and self.stage:
            sys.stderr.write("\n")
        self.stage = ""
