"""Measure all of it, which takes about half an hour, or some rows: `python -m tests.bench [--json] [AT_ONCE ...]`.

Exits with 1 if a target is missed.
"""

from __future__ import annotations

import argparse
import sys

from tests.bench.plan import AT_ONCE, play
from tests.bench.report import as_json, table
from tests.bench.targets import targets


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__.partition("\n")[0])
    parser.add_argument("at_once", nargs="*", type=int, default=AT_ONCE, help="how many questions at once")
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
    options = parser.parse_args()
    results = play(options.at_once, with_sdk=True, say=lambda what: print(what, file=sys.stderr, flush=True))
    print(as_json(results) if options.json else table(results))
    return int(not all(target.is_reached for target in targets(results)))


if __name__ == "__main__":
    sys.exit(main())
