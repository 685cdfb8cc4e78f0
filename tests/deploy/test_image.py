"""The Dockerfile: what `make image-check` runs, and what it must not hold. See tools/image.py."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tools import dockerfile, image

ROOT = Path(__file__).resolve().parents[2]
STAGES = dockerfile.read(ROOT / "Dockerfile")
BUILD, FINAL = STAGES


def test_the_image_runs_as_nobody_in_particular() -> None:
    user = FINAL.last("USER")
    assert user is not None
    assert re.fullmatch(r"[1-9]\d{4}:[1-9]\d{4}", user.text)


def test_everything_that_is_installed_is_pinned_by_hash() -> None:
    installs = re.findall(r"pip install ([^&]+)", " ".join(step.text for step in BUILD.steps))
    assert len(installs) == 3
    for arguments in installs:
        assert "--require-hashes" in arguments or "--no-deps --no-build-isolation" in arguments
    assert not any("pip install" in step.text for step in FINAL.steps)


def test_nothing_gets_in_that_the_image_does_not_copy() -> None:
    copied = {
        source
        for step in BUILD.steps
        if step.word == "COPY"
        for source in step.words[:-1]
        if "from" not in step.options
    }
    allowed = {
        line.removeprefix("!")
        for line in (ROOT / ".dockerignore").read_text().splitlines()
        if line.startswith("!")
    }
    assert copied == allowed
    assert all((ROOT / name).exists() for name in copied)


def test_a_command_is_one_process_that_gets_the_signals() -> None:
    command = FINAL.last("CMD")
    assert command is not None
    assert command.text.startswith("[")


class TestReading:
    def test_lines_that_go_on_options_and_lists(self, tmp_path: Path) -> None:
        file = tmp_path / "Dockerfile"
        file.write_text(
            "# a remark\nARG BASE=debian\nFROM ${BASE} AS build\nRUN a \\\n    && b --c\n"
            'FROM ${BASE}\nCOPY --from=build /a /b\nENV A=1 \\\n    B="2 3"\nCMD ["x", "y"]\n'
        )
        build, final = dockerfile.read(file)
        assert (build.name, build.base) == ("build", "debian")
        assert build.steps[0].text == "a && b --c"
        assert final.steps[0].options == {"from": "build"}
        assert final.steps[0].words == ["/a", "/b"]
        assert image.variables(final.steps[1]) == {"A": "1", "B": "2 3"}
        assert final.steps[2].words == ["x", "y"]

    def test_what_is_not_understood_is_not_passed_over(self, tmp_path: Path) -> None:
        file = tmp_path / "Dockerfile"
        file.write_text("FROM debian\nONBUILD RUN a\n")
        with pytest.raises(ValueError, match="ONBUILD"):
            dockerfile.read(file)
