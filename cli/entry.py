"""Where the `shop` command begins."""

from __future__ import annotations

import signal


def main() -> None:
    """Run the command.

    While modules are loaded there is nothing to clean up, so Ctrl-C ends the process at once. As an
    exception it could come up in one of the import system's callbacks, which lose it.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from cli.main import app

    app()
