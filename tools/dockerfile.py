"""Reads a Dockerfile: the part of its language that ours is written in."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

_VARIABLE = re.compile(r"\$\{(\w+)\}")
KNOWN = frozenset(
    ("FROM", "ARG", "RUN", "COPY", "WORKDIR", "ENV", "USER", "STOPSIGNAL", "CMD", "EXPOSE", "LABEL")
)


@dataclass(frozen=True, slots=True)
class Step:
    """One instruction: its word, its text, and the options (`--from=build`) before it."""

    word: str
    text: str
    options: Mapping[str, str] = field(default_factory=dict)

    @property
    def words(self) -> list[str]:
        """The text as a list: written as JSON, or as a shell would split it."""
        if self.text.startswith("["):
            listed: list[str] = json.loads(self.text)
            return listed
        return shlex.split(self.text)


@dataclass(slots=True)
class Stage:
    """What is between two FROMs."""

    name: str
    base: str
    steps: list[Step] = field(default_factory=list)

    def last(self, word: str) -> Step | None:
        """The instruction of this word that holds in the end."""
        return next((step for step in reversed(self.steps) if step.word == word), None)


def read(path: Path) -> list[Stage]:
    """The stages. Raises ValueError for an instruction that is not known here."""
    stages: list[Stage] = []
    arguments: dict[str, str] = {}
    for step in _steps(path.read_text()):
        if step.word == "ARG":
            name, _, value = step.text.partition("=")
            arguments[name] = value
        elif step.word == "FROM":
            base, *named = _VARIABLE.sub(lambda found: arguments[found[1]], step.text).split()
            stages.append(Stage(named[1] if named else "", base))
        else:
            stages[-1].steps.append(step)
    return stages


def _steps(text: str) -> list[Step]:
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    found = []
    for line in "\n".join(lines).replace("\\\n", " ").splitlines():
        word, _, rest = line.partition(" ")
        if word not in KNOWN:
            raise ValueError(f"{word} is not understood here")
        options = {}
        while (rest := rest.lstrip()).startswith("--") and word != "RUN":
            option, _, rest = rest.partition(" ")
            name, _, value = option.removeprefix("--").partition("=")
            options[name] = value
        found.append(Step(word, " ".join(rest.split()), options))
    return found
