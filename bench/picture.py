"""The picture: for each quantity a bar for each server, as long as its median, with the spread of all rounds."""

from __future__ import annotations

from typing import TYPE_CHECKING
from xml.sax.saxutils import escape

from bench.report import ORDER, number, words
from bench.servers import WAYSTATION

if TYPE_CHECKING:
    from bench.ground import Sizes
    from bench.results import Quantity, Results

WIDTH = 860
LEFT, RIGHT = 170, 130
BAR, GAP, TITLE = 18, 5, 36
OURS, OTHERS, SPREAD, INK = "#2f6f9f", "#b8c4cc", "#333333", "#222222"


def draw(results: Results, sizes: Sizes) -> str:
    """An SVG of all quantities that more than one server was measured for."""
    parts: list[str] = []
    y = 0
    for quantity in results.quantities():
        if len(results.servers(quantity)) > 1:
            y = _chart(parts, y, results, quantity, sizes)
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {y + TITLE // 2}" font-family="sans-serif"'
    background = f'<rect width="{WIDTH}" height="{y + TITLE // 2}" fill="#ffffff"/>'
    return "\n".join([f'{head} font-size="12" fill="{INK}">', background, *parts, "</svg>", ""])


def _chart(parts: list[str], y: int, results: Results, quantity: Quantity, sizes: Sizes) -> int:
    servers = sorted(results.servers(quantity), key=ORDER.index)
    largest = max(max(results.values(quantity, who)) for who in servers)
    scale = (WIDTH - LEFT - RIGHT) / (largest or 1)
    better = "more is better" if quantity.more_is_better else "less is better"
    y += TITLE
    parts.append(f'<text x="12" y="{y - 10}"><tspan font-weight="bold">{escape(words(quantity.title, sizes))}</tspan>')
    parts.append(f'<tspan fill="#777777"> ({better})</tspan></text>')
    for who in servers:
        values = results.values(quantity, who)
        middle = results.median(quantity, who) or 0.0
        line = y + BAR / 2
        colour = OURS if who == WAYSTATION else OTHERS
        parts += [
            f'<text x="{LEFT - 8}" y="{line + 4:.1f}" text-anchor="end">{escape(who)}</text>',
            f'<rect x="{LEFT}" y="{y}" width="{middle * scale:.1f}" height="{BAR}" fill="{colour}"/>',
            f'<path d="M{LEFT + min(values) * scale:.1f} {line}H{LEFT + max(values) * scale:.1f}" stroke="{SPREAD}"/>',
            f'<text x="{LEFT + max(values) * scale + 8:.1f}" y="{line + 4:.1f}">{number(middle, quantity)}</text>',
        ]
        y += BAR + GAP
    return y
