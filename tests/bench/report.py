"""The results for people, as tables and lines, and for programs, as JSON. Pure."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from tests.bench.plan import Results
from tests.bench.rounds import AGENT_SECONDS, CHUNKS, ROUND_TRIP, Round, Usage, percentile
from tests.bench.targets import slower, targets

COLUMNS = (
    "who answers",
    "at once",
    "final",
    "ack p50/p99 ms",
    "first card p50/p99 s",
    "final card p50/p99 s",
    "in ideals",
    "agents +%",
    "calls",
    "refused",
    "still s",
    "CPU ms",
    "RSS MB, before/peak/after",
    "threads",
)


def table(results: Results) -> str:
    """An answer's ideal: the agent's time, and a round trip each for the first and the last card."""
    lines = [
        f"{results.where}; an agent takes {AGENT_SECONDS:g} s in {CHUNKS} pieces, a round trip {1000 * ROUND_TRIP:g} ms"
    ]
    for paced, title in (
        (False, "An unlimited gateway"),
        (True, "A gateway that takes 20 calls of an API in a second"),
    ):
        rounds = [one for one in results.rounds if one.paced is paced]
        rows = [COLUMNS, *(_row(one, results.alone[one.at_once]) for one in rounds)]
        widths = [max(len(row[column]) for row in rows) for column in range(len(COLUMNS))]
        lines += ["", f"{title}:"]
        lines += ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    lines += ["", "In a process that has had as many before:"]
    for one in results.warm:
        before, peak, after = (
            f"{usage.rss / 2**20:.0f} MB and {usage.threads} threads" for usage in _usages(one).values()
        )
        what = f"{one.who}, {one.at_once} at once"
        lines.append(f"  {what}: {before} before, {peak} at the peak, {after} half a minute later")
    lines += ["", "One answer, by itself:"]
    for seconds, rounds in results.long.items():
        lines += [f"  {one.who}, {seconds} s: {one.calls} calls, still for {one.still:.1f} s" for one in rounds]
    lines += ["", *map(str, targets(results))]
    return "\n".join(lines)


def as_json(results: Results) -> str:
    """Times in seconds, memory in bytes."""
    rounds = [{**_figures(one), "slower_percent": slower(one, results.alone[one.at_once])} for one in results.rounds]
    warm = [_figures(one) for one in results.warm]
    long = [{"agent_seconds": seconds, **_figures(one)} for seconds, ones in results.long.items() for one in ones]
    reached = [{**target._asdict(), "is_reached": target.is_reached} for target in targets(results)]
    whole = {"where": results.where, "rounds": rounds, "warm": warm, "long": long, "targets": reached}
    return json.dumps(whole | {"alone": results.alone, "import_seconds": results.import_seconds}, indent=1)


def _figures(one: Round) -> dict[str, Any]:
    times = {"ack": one.ack, "first": one.first, "final": one.final, "runs": sorted(one.runs)}
    return {
        **{key: getattr(one, key) for key in ("who", "paced", "at_once", "answered", "total", "calls", "refused")},
        **{key: getattr(one, key) for key in ("still", "cpu", "connected_after")},
        **{f"{name}_p{percent}": percentile(of, percent) for name, of in times.items() for percent in (50, 99)},
        **{name: vars(usage) for name, usage in _usages(one).items()},
    }


def _usages(one: Round) -> dict[str, Usage]:
    return {"before": one.before, "peak": one.peak, "after": one.after.result()}


def _row(one: Round, alone: float) -> Sequence[str]:
    usages = _usages(one).values()
    ideal = alone + 2 * ROUND_TRIP
    return (
        one.who,
        str(one.at_once),
        str(one.answered),
        _both(one.ack, 1000, 0),
        _both(one.first, 1, 2),
        _both(one.final, 1, 2),
        _both(one.final, 1 / ideal, 2),
        f"{slower(one, alone):.1f}" if one.runs else "-",
        f"{one.calls / one.at_once:.1f}",
        str(one.refused),
        f"{one.still:.1f}",
        f"{1000 * one.cpu / one.at_once:.1f}",
        "/".join(f"{usage.rss / 2**20:.0f}" for usage in usages),
        "/".join(str(usage.threads) for usage in usages),
    )


def _both(ordered: Sequence[float], factor: float, digits: int) -> str:
    return "/".join(f"{factor * percentile(ordered, percent):.{digits}f}" for percent in (50, 99))
