"""One self-contained HTML page: text, tables and pictures of a run, readable on a screen, in the dark and on paper.

Sections are small objects with a `html()`; a stage puts together those it needs. Everything that is not written here is escaped.
"""

from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Protocol

from fuse_examples.imaging.oai_example.evaluation.whole_files import write_whole


class Block(Protocol):
    """A part of the page."""

    def html(self) -> str:
        """Return the part as HTML, escaped."""


@dataclass(frozen=True)
class Paragraph:
    """A paragraph of text; `kind` "note" sets it apart."""

    text: str
    kind: str = ""

    def html(self) -> str:
        """Return a <p>."""
        return f'<p class="{escape(self.kind)}">{escape(self.text)}</p>' if self.kind else f"<p>{escape(self.text)}</p>"


@dataclass(frozen=True)
class Facts:
    """Names and what they are, in two columns."""

    items: Mapping[str, str]

    def html(self) -> str:
        """Return a <dl>."""
        rows = "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in self.items.items())
        return f"<dl>{rows}</dl>"


@dataclass(frozen=True)
class Table:
    """A table; the first column names the row, the others are right-aligned if `numbers`."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    caption: str = ""
    numbers: bool = True

    def html(self) -> str:
        """Return a <table> that scrolls by itself where it is wider than the page."""
        caption = f"<caption>{escape(self.caption)}</caption>" if self.caption else ""
        head = "".join(f'<th scope="col">{escape(name)}</th>' for name in self.header)
        body = "".join(self._row(row) for row in self.rows)
        kind = ' class="numbers"' if self.numbers else ""
        return f'<div class="scroll"><table{kind}>{caption}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'

    @staticmethod
    def _row(row: Sequence[str]) -> str:
        first, *others = row
        cells = "".join(f"<td>{escape(cell)}</td>" for cell in others)
        return f'<tr><th scope="row">{escape(first)}</th>{cells}</tr>'


@dataclass(frozen=True)
class Picture:
    """A PNG inside the page.

    Attributes:
        png: the file's bytes.
        alt: what it shows, for those who do not see it.
        caption: the line below it.
        width: the widest it is shown, in CSS pixels.
    """

    png: bytes
    alt: str
    caption: str = ""
    width: int = 960

    def html(self) -> str:
        """Return a <figure>."""
        caption = f"<figcaption>{escape(self.caption)}</figcaption>" if self.caption else ""
        source = f"data:image/png;base64,{b64encode(self.png).decode('ascii')}"
        return f'<figure style="max-width:{self.width}px"><img src="{source}" alt="{escape(self.alt)}">{caption}</figure>'


@dataclass(frozen=True)
class Row:
    """Blocks side by side where the page is wide enough."""

    blocks: Sequence[Block]

    def html(self) -> str:
        """Return a <div> of blocks."""
        return f'<div class="row">{"".join(block.html() for block in self.blocks)}</div>'


@dataclass(frozen=True)
class Folded:
    """Long text behind a line that opens it; printed in full."""

    summary: str
    text: str

    def html(self) -> str:
        """Return a <details> with preformatted text."""
        return f"<details><summary>{escape(self.summary)}</summary><pre>{escape(self.text)}</pre></details>"


@dataclass(frozen=True)
class Section:
    """A heading and its blocks."""

    title: str
    blocks: Sequence[Block]

    def html(self) -> str:
        """Return a <section>."""
        return f"<section><h2>{escape(self.title)}</h2>{''.join(block.html() for block in self.blocks)}</section>"


@dataclass(frozen=True)
class Report:
    """The page."""

    title: str
    subtitle: str = ""
    sections: Sequence[Section] = field(default_factory=tuple)

    def html(self) -> str:
        """Return the whole document; it refers to nothing outside itself."""
        body = "\n".join(section.html() for section in self.sections)
        subtitle = f'<p class="subtitle">{escape(self.subtitle)}</p>' if self.subtitle else ""
        return (
            '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
            '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
            "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; img-src data:; style-src 'unsafe-inline'\">\n"
            '<meta name="color-scheme" content="light dark">\n<link rel="icon" href="data:,">\n'
            f"<title>{escape(self.title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>\n"
            f"<header><h1>{escape(self.title)}</h1>{subtitle}</header>\n{body}\n</main>\n</body>\n</html>\n"
        )

    def write(self, path: Path) -> None:
        """Write the page, whole or not at all."""
        write_whole(path, self.html())


STYLE = """
:root { --ink: #1d2125; --faint: #5c6670; --line: #d5dae0; --paper: #ffffff; --page: #f4f6f8; --accent: #0b5cab; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e9ec; --faint: #a3adb8; --line: #39424c; --paper: #1b2127; --page: #12161a; --accent: #7db8f2; }
}
* { box-sizing: border-box; }
html { background: var(--page); color: var(--ink); font: 16px/1.55 system-ui, "Segoe UI", "Liberation Sans", "DejaVu Sans", sans-serif; }
body { margin: 0; }
main { max-width: 1040px; margin: 0 auto; padding: 2rem 1.25rem 4rem; }
header { border-bottom: 3px solid var(--accent); margin-bottom: 1.5rem; }
h1 { font-size: 1.7rem; line-height: 1.25; margin: 0 0 .25rem; overflow-wrap: anywhere; }
h2 { font-size: 1.2rem; margin: 0 0 .75rem; }
section { background: var(--paper); border: 1px solid var(--line); border-radius: 8px; padding: 1.1rem 1.25rem; margin: 0 0 1.25rem; }
p { margin: .5rem 0; max-width: 75ch; }
.subtitle { color: var(--faint); margin: 0 0 1rem; }
.note { border-left: 4px solid var(--accent); padding: .1rem 0 .1rem .75rem; color: var(--faint); font-size: .93rem; }
.headline { font-size: 1.25rem; max-width: none; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .3rem 1.25rem; margin: 0; }
dt { color: var(--faint); }
dd { margin: 0; overflow-wrap: anywhere; }
.scroll { overflow-x: auto; margin: .75rem 0; }
table { border-collapse: collapse; min-width: 60%; }
caption { text-align: left; color: var(--faint); font-size: .93rem; padding-bottom: .4rem; }
th, td { padding: .35rem .8rem; border-bottom: 1px solid var(--line); text-align: left; vertical-align: top; }
thead th { border-bottom: 2px solid var(--faint); white-space: nowrap; }
tbody th { font-weight: 500; }
table.numbers td, table.numbers thead th:not(:first-child) { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; }
figure { margin: .9rem 0; }
img { width: 100%; height: auto; display: block; border-radius: 6px; }
figcaption { color: var(--faint); font-size: .93rem; margin-top: .35rem; }
.row { display: flex; flex-wrap: wrap; gap: 0 1.25rem; }
.row > figure { flex: 1 1 340px; }
summary { cursor: pointer; color: var(--accent); }
pre { overflow-x: auto; font: .85rem/1.45 ui-monospace, "Liberation Mono", "DejaVu Sans Mono", monospace; }
@media (max-width: 600px) { dl { grid-template-columns: 1fr; gap: 0; } dd { margin-bottom: .5rem; } }
@media print {
  :root { --ink: #000; --faint: #444; --line: #bbb; --paper: #fff; --page: #fff; --accent: #000; }
  html { font-size: 10.5pt; }
  main { max-width: none; padding: 0; }
  section { border: 0; padding: 0; border-radius: 0; }
  figure, tr { break-inside: avoid; }
  img { width: auto; max-width: 100%; max-height: 105mm; }
  .row > figure { flex: 0 1 47%; }
  .scroll { overflow: visible; }
  th, td { padding: .25rem .5rem; }
  table { font-size: .88em; }
  h2 { break-after: avoid; }
  pre { white-space: pre-wrap; overflow-wrap: anywhere; }
  details::details-content { content-visibility: visible; block-size: auto; }
  @page { margin: 16mm; }
}
"""
