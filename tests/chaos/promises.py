"""`make promises`: the tests of payments and of sign-ins, as large as what is promised of them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence

TESTS = ("tests/payment", "tests/e2e/test_login_flood.py")
# See `tests.sizes`, and how often each point of a crash is tried.
WHOLE = {"SHOP_TEST_WHOLE": "1", "SHOP_TEST_ROUNDS": "20"}


def keep(arguments: Sequence[str] = ()) -> int:
    """Run them, and answer pytest's exit status. It takes about a quarter of an hour."""
    command = [sys.executable, "-m", "pytest", "-n0", *TESTS, *arguments]
    return subprocess.run(command, env=os.environ | WHOLE, check=False).returncode


if __name__ == "__main__":
    sys.exit(keep(sys.argv[1:]))
