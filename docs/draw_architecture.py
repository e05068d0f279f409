"""Draw the packages and their imports: python docs/draw_architecture.py, or `make picture`.

The picture is computed from the source alone, so it cannot show a wish. A package stands one row
above the highest of those that it imports. An arrow that follows from others is left out: where
`train` imports `rollout` and `rollout` imports `terms`, none goes from `train` to `terms`.
"""

import argparse
import ast
import html
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

ROOT = Path(__file__).parents[1]
GAP, ROW_HEIGHT, BOX_HEIGHT, MARGIN = 22, 84, 34, 20
LETTER_WIDTH, PADDING = 7.6, 20
SWEEPS = 24

Graph = dict[str, set[str]]


def imports_of(source: str, package: str) -> Iterator[str]:
    """Dotted names below `package` that a module imports, wherever in it the import stands."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
            if node.module == package:
                yield from (f"{package}.{alias.name}" for alias in node.names)
            else:
                yield node.module


def read_graph(folder: Path) -> Graph:
    """Which package imports which.

    The private modules at the top level are one node, since all others may import them. The face
    of the whole is left out, since it imports everything: `__init__.py`, `__main__.py` and the
    namespaces, which are the public modules.

    Args:
        folder: of the whole package.
    """
    face = {p.stem for p in folder.glob("*.py") if not p.stem.startswith("_") or p.stem[:2] == "__"}
    modules = sorted({p.stem for p in folder.glob("*.py")} - face)
    ground = ", ".join(modules)
    packages = {p.parent.name for p in folder.glob("*/__init__.py")}
    graph: Graph = {name: set() for name in packages | ({ground} - {""})}
    for path in sorted(folder.rglob("*.py")):
        parts = path.relative_to(folder).parts
        own = parts[0] if len(parts) > 1 else ground
        if len(parts) == 1 and path.stem in face:
            continue
        for name in imports_of(path.read_text(encoding="utf-8"), folder.name):
            whole, _, rest = f"{name}.".partition(".")
            target = rest.split(".")[0]
            if whole != folder.name or not target:
                continue
            target = target if target in packages else ground if target in modules else own
            if target != own:
                graph[own].add(target)
    return graph


def rows_of(graph: Graph) -> dict[str, int]:
    """The row of each package, 0 for those that import none.

    Raises: SystemExit for packages that import each other.
    """
    rows: dict[str, int] = {}
    try:
        for name in TopologicalSorter(graph).static_order():
            rows[name] = 1 + max((rows[other] for other in graph[name]), default=-1)
    except CycleError as error:
        raise SystemExit(
            f"these packages import each other: {' <- '.join(error.args[1])}"
        ) from None
    return rows


def reduced(graph: Graph) -> Graph:
    """The arrows that do not follow from others."""
    reach: Graph = {}
    for name in TopologicalSorter(graph).static_order():
        reach[name] = graph[name].union(*(reach[other] for other in graph[name]))
    return {
        name: {one for one in targets if not any(one in reach[other] for other in targets)}
        for name, targets in graph.items()
    }


def with_bends(graph: Graph, rows: dict[str, int]) -> tuple[Graph, dict[str, int]]:
    """Arrows from row to row: one that passes rows gets a point in each of them."""
    arrows: Graph = {name: set() for name in graph}
    rows = dict(rows)
    for name in sorted(graph):
        for target in sorted(graph[name]):
            before = name
            for row in range(rows[name] - 1, rows[target], -1):
                # All arrows to one package share their points.
                bend = f"\n{target}\n{row}"
                rows[bend] = row
                arrows.setdefault(bend, set())
                arrows[before].add(bend)
                before = bend
            arrows[before].add(target)
    return arrows, rows


def width_of(name: str) -> float:
    """Of a box, or of a point that an arrow passes."""
    return 6.0 if name.startswith("\n") else LETTER_WIDTH * len(name) + PADDING


def centres_of(arrows: Graph, rows: dict[str, int]) -> dict[str, float]:
    """Where in its row each one is: near to what it imports and to what imports it."""
    importers: Graph = {name: set() for name in rows}
    for name, targets in arrows.items():
        for target in targets:
            importers[target].add(name)
    levels = [sorted(n for n in rows if rows[n] == row) for row in range(max(rows.values()) + 1)]
    centres = {name: x for level in levels for name, x in spread(level).items()}
    for sweep in range(SWEEPS):
        is_up = sweep % 2 == 0
        beside = arrows if is_up else importers
        for level in levels if is_up else reversed(levels):
            wish = {n: _mean([centres[b] for b in sorted(beside[n])], centres[n]) for n in level}
            level.sort(key=lambda name: (wish[name], name))
            shift = _mean(list(wish.values()), 0.0)
            centres |= {name: x + shift for name, x in spread(level).items()}
    return centres


def spread(level: list[str]) -> dict[str, float]:
    """Centres of a row, side by side around zero."""
    total = sum(map(width_of, level)) + GAP * (len(level) - 1)
    left, centres = -total / 2, {}
    for name in level:
        centres[name] = left + width_of(name) / 2
        left += width_of(name) + GAP
    return centres


def _mean(numbers: list[float], otherwise: float) -> float:
    return sum(numbers) / len(numbers) if numbers else otherwise


def draw(graph: Graph) -> str:
    """The picture, as SVG."""
    rows = rows_of(graph)
    arrows, rows = with_bends(reduced(graph), rows)
    centres = centres_of(arrows, rows)
    left = min(x - width_of(name) / 2 for name, x in centres.items()) - MARGIN
    right = max(x + width_of(name) / 2 for name, x in centres.items()) + MARGIN
    top = max(rows.values())
    height = top * ROW_HEIGHT + BOX_HEIGHT + 2 * MARGIN
    x = {name: round(centre - left, 1) for name, centre in centres.items()}
    y = {name: (top - row) * ROW_HEIGHT + MARGIN + BOX_HEIGHT / 2 for name, row in rows.items()}
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {right - left:.0f} {height:.0f}" '
        'font-family="monospace" font-size="12.5">',
        '<rect width="100%" height="100%" fill="white"/>',
        '<marker id="tip" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="7" markerHeight="7" '
        'orient="auto"><path d="M0 0 L8 4 L0 8 z" fill="#567"/></marker>',
    ]
    for name in sorted(arrows):
        for target in sorted(arrows[name]):
            start = y[name] + (0 if name.startswith("\n") else BOX_HEIGHT / 2)
            end = y[target] - (0 if target.startswith("\n") else BOX_HEIGHT / 2)
            middle = (start + end) / 2
            tip = "" if target.startswith("\n") else ' marker-end="url(#tip)"'
            parts.append(
                f'<path d="M{x[name]} {start} C{x[name]} {middle} {x[target]} {middle} '
                f'{x[target]} {end}" fill="none" stroke="#567"{tip}/>'
            )
    for name in sorted(graph):
        width = width_of(name)
        parts.append(
            f'<rect x="{x[name] - width / 2:.1f}" y="{y[name] - BOX_HEIGHT / 2}" rx="5" '
            f'width="{width:.1f}" height="{BOX_HEIGHT}" fill="#eef3f8" stroke="#345"/>'
            f'<text x="{x[name]}" y="{y[name] + 4.5}" text-anchor="middle">'
            f"{html.escape(name)}</text>"
        )
    return "\n".join([*parts, "</svg>", ""])


def main() -> None:
    """Write the picture."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", nargs="?", type=Path, default=ROOT / "src" / "impindiff")
    file = ROOT / "docs" / "images" / "architecture.svg"
    parser.add_argument("file", nargs="?", type=Path, default=file)
    given = parser.parse_args()
    given.file.write_text(draw(read_graph(given.folder)), encoding="utf-8")


if __name__ == "__main__":
    main()
