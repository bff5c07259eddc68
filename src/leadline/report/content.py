"""What a section of the report is made of: plain text, figures and tables. Escaping is the page template's work."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One cell of a table. shade in [0, 1] darkens it beside its number; muted: no number, with its reason."""

    text: str
    detail: str = ""
    shade: float | None = None
    muted: bool = False
    numeric: bool = False


@dataclass(frozen=True, kw_only=True)
class TableView:
    """A table as it is shown: the first cell of each row heads the row. `key` names it in the JSON.

    style: a class of report.css: `plain`, `matrix` (numbers on shades) or `dense` (many short rows).
    """

    key: str
    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    note: str = ""
    style: Literal["plain", "matrix", "dense"] = "plain"

    def to_json(self) -> dict[str, Any]:
        """Caption, columns, note and the rows as they read on the page."""
        rows = [[f"{c.text} ({c.detail})" if c.detail else c.text for c in row] for row in self.rows]
        return {"name": self.key, "caption": self.caption, "columns": self.columns, "rows": rows, "note": self.note}


@dataclass(frozen=True, kw_only=True)
class Plot:
    """A drawing: `svg` is one <svg> element made by `leadline.report.plots`, with its texts escaped."""

    kind: ClassVar[str] = "plot"
    svg: str
    alt: str
    caption: str


@dataclass(frozen=True, kw_only=True)
class Picture:
    """An image as a data: URI, shown `width` × `height` CSS px."""

    kind: ClassVar[str] = "picture"
    source: str
    width: int
    height: int
    alt: str
    caption: str = ""


@dataclass(frozen=True, kw_only=True)
class Tiles:
    """Images in rows and columns, each with its own words: rows are (title, pictures)."""

    kind: ClassVar[str] = "tiles"
    title: str
    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, tuple[Picture, ...]], ...]

    @property
    def alt(self) -> str:
        """What the JSON says in place of the images."""
        return "; ".join(picture.alt for _, pictures in self.rows for picture in pictures)


Figure = Plot | Picture | Tiles


@dataclass(frozen=True, kw_only=True)
class Finding:
    """The answer for one run: a headline and, labelled by what they are about, the sentences below it."""

    run: str
    headline: str
    sentences: tuple[tuple[str, str], ...]

    def to_json(self) -> dict[str, Any]:
        """`headline` can be quoted alone: it begins with the run's name."""
        return {"run": self.run, "headline": f"{self.run}: {self.headline}", "sentences": dict(self.sentences)}


@dataclass(frozen=True, kw_only=True)
class Section:
    """One section of the page. lead: its sentence in plain words, or the reason why there is nothing to show."""

    id: str
    title: str
    lead: str
    findings: Sequence[Finding] = ()
    figures: Sequence[Figure] = ()
    tables: Sequence[TableView] = ()
    caveats: Sequence[str] = ()

    def to_json(self) -> dict[str, Any]:
        """The section's words; images are represented by their alternative text."""
        return {
            "id": self.id,
            "title": self.title,
            "lead": self.lead,
            "findings": [finding.to_json() for finding in self.findings],
            "figures": [{"caption": f.caption, "alt": f.alt} for f in self.figures],
            "tables": [table.to_json() for table in self.tables],
            "caveats": list(self.caveats),
        }
