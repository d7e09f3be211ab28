"""One self-contained HTML page: text, tables and pictures of a run, readable on a screen, in the dark and on paper.

Sections are small objects with a `html()`; a stage puts together those it needs. Everything that is not written here is escaped, and the
page's own policy lets nothing run but its script and nothing load from elsewhere.
"""

from base64 import b64encode
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from html import escape
from pathlib import Path
from typing import Any, Protocol, TypeVar

from fuse_examples.imaging.oai_example.evaluation.report_style import SCRIPT, STYLE
from fuse_examples.imaging.oai_example.evaluation.whole_files import write_whole

MOST_BYTES = 10_000_000
"""Size that a page stays under; the last plots are left out where it would not."""
_KINDS = {b"\x89PNG": "png", b"\xff\xd8\xff": "jpeg", b"RIFF": "webp"}


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
    """An image inside the page.

    Attributes:
        png: the file's bytes: PNG, JPEG or WebP.
        alt: what it shows, for those who do not see it.
        caption: the line below it.
        width: the widest it is shown, in CSS pixels.
        kind: "plot" for dark ink on white, which is turned over in the dark, "scan" for what must keep its grey values.
        file: its name where it is also a file beside the page.
    """

    png: bytes
    alt: str
    caption: str = ""
    width: int = 960
    kind: str = "plot"
    file: str = ""

    def html(self) -> str:
        """Return a <figure>."""
        caption = f"<figcaption>{escape(self.caption)}</figcaption>" if self.caption else ""
        image = f'<img src="{data_address(self.png)}" alt="{escape(self.alt)}">'
        return f'<figure class="{escape(self.kind)}" style="max-width:{self.width}px">{image}{caption}</figure>'


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
        return f'<details><summary>{escape(self.summary)}</summary><pre tabindex="0">{escape(self.text)}</pre></details>'


@dataclass(frozen=True)
class Subsection:
    """A heading below a section's and its blocks."""

    title: str
    blocks: Sequence[Block]

    def html(self) -> str:
        """Return a heading and what follows it."""
        return f'<div class="part"><h3>{escape(self.title)}</h3>{"".join(block.html() for block in self.blocks)}</div>'


@dataclass(frozen=True)
class Section:
    """A heading and its blocks; the page's list of contents leads to it."""

    title: str
    blocks: Sequence[Block]
    anchor: str = ""

    def html(self) -> str:
        """Return a <section>."""
        identifier = f' id="{escape(self.anchor)}"' if self.anchor else ""
        return f"<section{identifier}><h2>{escape(self.title)}</h2>{''.join(block.html() for block in self.blocks)}</section>"


@dataclass(frozen=True)
class Report:
    """The page."""

    title: str
    subtitle: str = ""
    sections: Sequence[Section] = field(default_factory=tuple)

    def html(self) -> str:
        """Return the whole document; it refers to nothing outside itself."""
        named = [replace(section, anchor=f"section-{number}") for number, section in enumerate(self.sections, start=1)]
        body = "\n".join(section.html() for section in named)
        subtitle = f'<p class="subtitle">{escape(self.subtitle)}</p>' if self.subtitle else ""
        contents = "".join(f'<li><a href="#{section.anchor}">{escape(section.title)}</a></li>' for section in named)
        return (
            '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
            '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
            f'<meta http-equiv="Content-Security-Policy" content="{_policy()}">\n'
            '<meta name="color-scheme" content="light dark">\n<link rel="icon" href="data:,">\n'
            f"<title>{escape(self.title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>\n"
            f"<header><h1>{escape(self.title)}</h1>{subtitle}</header>\n"
            f'<nav aria-label="Contents"><ul>{contents}</ul></nav>\n{body}\n</main>\n<script>{SCRIPT}</script>\n</body>\n</html>\n'
        )

    def write(self, path: Path, most_bytes: int = MOST_BYTES) -> None:
        """Write the page, whole or not at all; of plots that would make it larger than `most_bytes` only a line is left, the last first."""
        report, text = self, self.html()
        while len(text.encode()) > most_bytes and (last := _last_plot(report.sections)) is not None:
            report = replace(report, sections=[_without(section, last) for section in report.sections])
            text = report.html()
        write_whole(path, text)


def data_address(content: bytes) -> str:
    """Return an image's bytes as an address that needs no network."""
    kind = next((kind for start, kind in _KINDS.items() if content.startswith(start)), "png")
    return f"data:image/{kind};base64,{b64encode(content).decode('ascii')}"


def _policy() -> str:
    allowed = b64encode(sha256(SCRIPT.encode()).digest()).decode("ascii")
    return f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{allowed}'"


def _pictures(blocks: Sequence[Any]) -> Iterator[Picture]:
    for block in blocks:
        if isinstance(block, Picture):
            yield block
        yield from _pictures(getattr(block, "blocks", ()))


def _last_plot(sections: Sequence[Section]) -> Picture | None:
    return next(iter(reversed(list(_pictures(sections)))), None)


Part = TypeVar("Part")


def _without(block: Part, picture: Picture) -> Part:
    """The block with a line in the place of one picture."""
    blocks = getattr(block, "blocks", None)
    if blocks is None:
        return block
    line = f"{picture.caption or picture.alt} Left out to keep this page small{f'; see {picture.file}' if picture.file else ''}."
    changed = [Paragraph(line, "note") if one is picture else _without(one, picture) for one in blocks]
    return replace(block, blocks=changed)  # type: ignore[type-var]  # what has blocks is a dataclass
