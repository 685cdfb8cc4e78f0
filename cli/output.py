"""What several programs print, in one stream: each line with the name of the program before it."""

from __future__ import annotations

import asyncio
import itertools
import os
import sys
from typing import TextIO

from rich.console import Console

_COLOURS = ("cyan", "green", "magenta", "yellow", "blue", "bright_cyan", "bright_green")
_PAUSE_SECONDS = 0.02
_LONGEST_LINE = 1 << 20


class Output:
    """Where programs write; a reader that goes away stops nobody."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stdout
        self.console = Console(file=self._stream, highlight=False, soft_wrap=True)
        self._coloured = self.console.is_terminal and not self.console.no_color
        self._next_colour = itertools.cycle(_COLOURS)
        self._colours: dict[str, str] = {}
        self._closed = False

    def lines(self, name: str) -> Lines:
        """Where the program of this name writes."""
        return Lines(self, self._prefix(name))

    def say(self, name: str, text: str) -> None:
        """A line about the program of this name."""
        self.write((self._prefix(name) + text + "\n").encode())

    def print(self, *content: object) -> None:
        """Anything that rich can print."""
        try:
            self.console.print(*content)
        except BrokenPipeError:
            self._closed = True

    def write(self, text: bytes) -> None:
        if self._closed:
            return
        try:
            self._stream.flush()
            self._stream.buffer.write(text)
            self._stream.buffer.flush()
        except BrokenPipeError:
            self._closed = True

    def _prefix(self, name: str) -> str:
        plain = f"{name:>9} | "
        if not self._coloured:
            return plain
        colour = self._colours.setdefault(name, next(self._next_colour))
        with self.console.capture() as capture:
            self.console.print(plain, style=colour, end="")
        return capture.get()


class Lines:
    """Cuts what a program writes into lines."""

    def __init__(self, output: Output, prefix: str) -> None:
        self._output = output
        self._prefix = prefix.encode()
        self._rest = b""

    def feed(self, chunk: bytes) -> None:
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        if len(self._rest) > _LONGEST_LINE:
            lines.append(self._rest)
            self._rest = b""
        if lines:
            self._output.write(b"".join(self._prefix + line + b"\n" for line in lines))

    def end(self) -> None:
        if self._rest:
            self.feed(b"\n")

    async def copy(self, reading: int) -> None:
        """Write what comes from a pipe until everybody has closed the other end.

        Not asyncio's own pipe: it makes `wait` wait for everybody who has inherited the other end.
        """
        stream = asyncio.StreamReader()
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(stream), os.fdopen(reading, "rb", 0)
        )
        try:
            while chunk := await stream.read(1 << 16):
                self.feed(chunk)
                # To be woken for each line costs as much as writing it.
                transport.pause_reading()
                await asyncio.sleep(_PAUSE_SECONDS)
                transport.resume_reading()
        finally:
            self.end()
            transport.close()
