"""Pieces of a self-contained HTML page: no script, no external file, text always escaped."""

from __future__ import annotations

import base64
import math
from collections.abc import Iterable, Sequence
from html import escape

CSS = """
:root { --ink: #1c2024; --soft: #5c656e; --line: #dfe3e6; --accent: #0b5fa5; --good: #1a7a3c;
  --bad: #b3261e }
* { box-sizing: border-box }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: #fff;
  max-width: 1100px; margin: 0 auto; padding: 24px 20px 48px }
h1 { font-size: 28px; line-height: 1.2; margin: 8px 0 4px; overflow-wrap: anywhere }
h2 { font-size: 19px; margin: 40px 0 8px; padding-top: 12px; border-top: 1px solid var(--line) }
h3 { font-size: 15px; margin: 24px 0 8px }
p { margin: 6px 0; max-width: 80ch } p.soft { max-width: none }
.soft, figcaption { color: var(--soft); font-size: 13px }
.banner { background: #b3261e; color: #fff; font-weight: 700; font-size: 22px; line-height: 1.3;
  padding: 14px 18px; border-radius: 4px; margin-bottom: 16px; print-color-adjust: exact;
  -webkit-print-color-adjust: exact }
.big { display: flex; flex-wrap: wrap; gap: 12px 32px; margin: 20px 0 }
.big b { display: block; font-size: 46px; line-height: 1.1; font-weight: 600; color: var(--soft);
  font-variant-numeric: tabular-nums }
.big div:first-child b { color: var(--accent) }
.ends { color: var(--soft); font-size: 13px } td { white-space: nowrap }
td.text { white-space: normal }
.scroll { overflow-x: auto; max-width: 100% }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: 14px }
th, td { padding: 4px 12px 4px 0; border-bottom: 1px solid var(--line); text-align: right;
  vertical-align: top }
tbody th { text-align: left; font-weight: 400; padding-left: 22px; text-indent: -22px;
  min-width: 130px }
.text { min-width: 200px }
thead th { font-weight: 600; border-bottom: 2px solid var(--ink); vertical-align: bottom }
thead th:first-child, .text { text-align: left }
tr { break-inside: avoid }
.chip { display: inline-block; width: 12px; height: 12px; border: 1px solid #555;
  margin-right: 8px; vertical-align: -1px; print-color-adjust: exact;
  -webkit-print-color-adjust: exact }
figure { margin: 12px 0 } figure > img { max-width: 100%; height: auto; display: block }
figure.large img { max-width: 100%; height: auto; display: block }
.cards { display: grid; gap: 14px;
  grid-template-columns: repeat(auto-fill, minmax(min(320px, 100%), 1fr)) }
.card { display: grid; grid-template-columns: 136px 1fr; gap: 10px; margin: 0; font-size: 12px;
  line-height: 1.4; break-inside: avoid }
.card img { width: 136px; height: auto; border: 1px solid var(--line) }
.card img.px { image-rendering: pixelated }
.card figcaption { font-size: 12px; color: var(--ink); overflow-wrap: anywhere }
.card ul { list-style: none; margin: 0; padding: 0 } .card li { padding-left: 14px;
  text-indent: -14px }
.maps { break-inside: avoid; margin: 0 0 22px }
.maps > div { display: grid; grid-template-columns: repeat(var(--columns), 1fr); gap: 8px;
  font-size: 12px }
.maps img { width: 100%; height: auto; display: block; border: 1px solid #777;
  image-rendering: pixelated; print-color-adjust: exact; -webkit-print-color-adjust: exact }
.maps figcaption { margin-top: 6px; color: var(--ink) } .maps figcaption b { font-weight: 600 }
.legend { list-style: none; margin: 6px 0 14px; padding: 0; display: flex; flex-wrap: wrap;
  gap: 2px 18px; font-size: 13px } .maps .legend { margin: 2px 0 0; font-size: 12px }
.chip.ignored { background: repeating-linear-gradient(45deg, #777 0 2px, #ccc 2px 5px) !important }
.good { color: var(--good) } .bad { color: var(--bad) }
code, pre { font: 12px/1.45 ui-monospace, monospace; overflow-wrap: anywhere }
pre { background: #f5f6f7; padding: 10px 12px; overflow-x: auto; white-space: pre-wrap }
summary { cursor: pointer; color: var(--accent) }
@media (max-width: 700px) { body { padding: 14px 12px 32px } h1 { font-size: 23px }
  .big b { font-size: 36px } .banner { font-size: 18px }
  .maps > div { grid-template-columns: repeat(2, 1fr) } }
@media print { body { font-size: 11pt; padding: 0; max-width: none } h2, h3 { break-after: avoid }
  .ends { color: var(--soft); font-size: 13px } td { white-space: nowrap }
td.text { white-space: normal }
.scroll { overflow: visible } figure.large img { min-width: 0 !important } }
"""


def document(title: str, sections: Iterable[str]) -> str:
    """A whole page."""
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{CSS}</style>\n</head>\n<body>\n"
        + "\n".join(section for section in sections if section)
        + "\n</body>\n</html>\n"
    )


def number(value: float, count: bool = False) -> str:
    """A figure to four decimals, or a count; the exact value is the element's `value`."""
    if math.isnan(value):
        return "–"
    text = f"{value:,.0f}" if count else f"{value:.4f}"
    return f'<data value="{value!r}">{text}</data>'


def chip(colour: str) -> str:
    """A small square in the colour of a class."""
    return f'<span class="chip" style="background:{escape(colour)}"></span>'


def ranged(value: float, ends: Sequence[float] | None, count: bool = False) -> str:
    """A figure with its interval in brackets, if it has one."""
    if ends is None or any(end is None or math.isnan(end) for end in ends):
        return number(value, count)
    low, high = ends
    return f'{number(value, count)} <span class="ends">[{low:.3f}, {high:.3f}]</span>'


def scroll(content: str, label: str) -> str:
    """A box that scrolls sideways where the screen is narrower than its content."""
    return f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(label)}">' + (
        f"{content}</div>"
    )


def table(
    head: Sequence[str],
    rows: Iterable[Sequence[str]],
    text: Sequence[int] = (),
    label: str = "table",
) -> str:
    """A table of cells that are HTML already; the first column names the row.

    It scrolls in its own box where the screen is narrower.

    Args:
        head: names of the columns.
        rows: cells.
        text: columns that hold text, aligned to the left.
        label: what the table has, for those who do not see it.
    """

    def cells(tag: str, row: Sequence[str], first: int) -> str:
        left = ' class="text"'
        scope = ' scope="col"' if tag == "th" else ""
        return "".join(
            f"<{tag}{scope}{left if i in text else ''}>{cell}</{tag}>"
            for i, cell in enumerate(row, first)
        )

    body = "\n".join(
        f'<tr><th scope="row">{row[0]}</th>{cells("td", row[1:], 1)}</tr>' for row in rows
    )
    top = f"<thead><tr>{cells('th', head, 0)}</tr></thead>\n" if any(head) else ""
    return scroll(f"<table>\n{top}<tbody>\n{body}\n</tbody>\n</table>", label)


def image(data: bytes, media: str, alt: str, attributes: str = "") -> str:
    """A picture that is part of the page."""
    source = f"data:{media};base64,{base64.b64encode(data).decode()}"
    return f'<img src="{source}" alt="{escape(alt)}"{attributes}>'


def figure(data: bytes, alt: str, caption: str) -> str:
    """A drawing (PNG) with its caption; on a narrow screen it scrolls, so that its text is read."""
    width = int.from_bytes(data[16:20], "big")  # of the header
    drawn = image(data, "image/png", alt, f' style="min-width:{min(round(0.75 * width), 2400)}px"')
    return (
        f'<figure class="large">{scroll(drawn, "drawing")}\n'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )
