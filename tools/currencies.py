"""Writes services/kit/currencies.py, the decimals of currencies, from the package iso4217.

`--check` fails when the table is not what the package says. Services read the table: to parse the
registration authority's XML took 2 MB of each, at each start.
"""

from __future__ import annotations

import argparse
import textwrap
from collections import defaultdict
from pathlib import Path

import iso4217

TABLE = Path(__file__).resolve().parent.parent / "services" / "kit" / "currencies.py"
HEAD = '''\
"""How many decimals a currency has (ISO 4217, as published {published}).

Written by `make protos` from the package iso4217: change nothing here. Funds, metals and test codes
have none, and are left out.
"""

from __future__ import annotations

_BY_PLACES = {{
'''
TAIL = """\
}
PLACES = {code: places for places, codes in _BY_PLACES.items() for code in codes.split()}
"""


def table() -> str:
    """The module's text."""
    codes = defaultdict(list)
    for currency in iso4217.Currency:
        if currency.exponent is not None:
            codes[currency.exponent].append(currency.code)
    lines = [HEAD.format(published=iso4217.__published__)]
    for places, some in sorted(codes.items()):
        first, *others = textwrap.wrap(" ".join(sorted(some)), 84)
        if others:
            rows = "".join(f'        "{line} "\n' for line in [first, *others[:-1]])
            lines.append(f'    {places}: (\n{rows}        "{others[-1]}"\n    ),\n')
        else:
            lines.append(f'    {places}: "{first}",\n')
    return "".join([*lines, TAIL])


def main() -> None:
    parser = argparse.ArgumentParser(prog="tools.currencies", description=__doc__.split("\n")[0])
    parser.add_argument("--check", action="store_true", help="fail when the table is not fresh")
    if not parser.parse_args().check:
        TABLE.write_text(table())
    elif TABLE.read_text() != table():
        raise SystemExit("Stale; run `make protos` and commit: services/kit/currencies.py")


if __name__ == "__main__":
    main()
