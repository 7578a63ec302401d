"""The table: one row per figure, with its baseline of the same run."""

import statistics

HEADER = """| figure | median | p99 | runs | baseline (median) | difference | target | met |
|---|---|---|---|---|---|---|---|"""


def p99(values: list[float]) -> float:
    """The value that one in a hundred exceeds; with fewer than a hundred values, the largest."""
    return sorted(values)[min(len(values) - 1, int(len(values) * 0.99))]


def show(number: float) -> str:
    return f"{number:.0f}" if abs(number) >= 100 else f"{number:.1f}" if abs(number) >= 10 else f"{number:.2f}"


def row(figure: str, values: list[float], unit: str, *, baseline: list[float] | None = None, ratio: bool = False,
        target: str = "", met: bool | None = None) -> str:
    """A row; `met` is None for what has no target and is there to explain another row."""
    median = statistics.median(values)
    base, difference = "", ""
    if baseline is not None:
        middle = statistics.median(baseline)
        base = f"{show(middle)} {unit}"
        difference = f"× {median / middle:.2f}" if ratio else f"{median - middle:+.2f} {unit}"
    verdict = "" if met is None else "yes" if met else "**no**"
    cells = [figure, f"{show(median)} {unit}", f"{show(p99(values))} {unit}", str(len(values)), base, difference, target, verdict]
    return "| " + " | ".join(cells) + " |"
