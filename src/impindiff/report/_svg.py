"""Matplotlib figures as part of the page: inline SVG in the page's own colours and fonts.

A figure is drawn with stand-in colours that no one would choose; in its SVG they become the CSS
variables of the same name, so that a figure follows the reader's light or dark mode. Output is
deterministic: no date, no random ids, and ids that differ from figure to figure.
"""

import io
import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import matplotlib
from markupsafe import Markup
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

NUM_SERIES = 8
_NAMES = ("ink", "muted", "hairline", "shade", *(f"series-{k}" for k in range(NUM_SERIES)))
COLOURS = {name: f"#0101{number:02x}" for number, name in enumerate(_NAMES, start=1)}

_NO_METADATA = dict.fromkeys(("Date", "Creator", "Format", "Type"))
_SETTINGS: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "impindiff",
    # Labels come from the user's files: a dollar sign in them is a dollar sign.
    "text.parse_math": False,
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": COLOURS["hairline"],
    "axes.labelcolor": COLOURS["muted"],
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.titlesize": 9,
    "grid.color": COLOURS["hairline"],
    "grid.linewidth": 0.6,
    "lines.linewidth": 1.6,
    "lines.solid_capstyle": "round",
    "text.color": COLOURS["muted"],
    "xtick.color": COLOURS["hairline"],
    "ytick.color": COLOURS["hairline"],
    "xtick.labelcolor": COLOURS["muted"],
    "ytick.labelcolor": COLOURS["muted"],
    "xtick.minor.size": 0,
    "ytick.minor.size": 0,
}


@dataclass(frozen=True)
class Legend:
    """What a line is: its colour by name, dashed or not, and its label."""

    colour: str
    label: str
    dashed: bool = False


@dataclass(frozen=True)
class Plot:
    """A figure of the page; its legend and caption are HTML, which escapes what users named."""

    svg: Markup
    alt: str
    caption: str
    legend: list[Legend]


def render(name: str, draw: Callable[[Figure], None], width: float, height: float) -> Markup:
    """Draw on a figure of this size [inches], return its SVG element; `name` prefixes its ids."""
    stream = io.StringIO()
    with matplotlib.rc_context(), warnings.catch_warnings():
        # A `matplotlibrc`, which matplotlib looks for in the current folder first, may be anyone's.
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_SETTINGS)
        # The browser sets the text: a letter that matplotlib's own font lacks does no harm.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure = Figure(figsize=(width, height), layout="constrained")
        FigureCanvasSVG(figure)
        figure.patch.set_visible(False)
        draw(figure)
        for axes in figure.axes:
            axes.patch.set_visible(False)
        figure.savefig(stream, format="svg", metadata=_NO_METADATA)
    svg = stream.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r'(<svg[^>]*?) width="[^"]*" height="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r'\bid="', f'id="{name}-', svg)
    svg = re.sub(r'(xlink:href="#|url\(#)', rf"\g<1>{name}-", svg)
    svg = svg.replace("<svg ", '<svg aria-hidden="true" ', 1)
    for colour, stand_in in COLOURS.items():
        svg = svg.replace(stand_in, f"var(--{colour})")
    return Markup(svg)
