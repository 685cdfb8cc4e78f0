"""Makes .venv from the hash-pinned requirements; needs nothing but Python's standard library.

With the name of another file of requirements it adds those.

`make` runs this before anything else. It can be interrupted at any moment and started again, and
two of them at once do not meet: the stamp is written last and says which requirements, which Python
and which folder the environment was made for.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
STAMP = VENV / ".ready"
REQUIREMENTS = ["requirements.txt", "requirements-tracing.txt", "requirements-dev.txt"]
LISTED = [part for name in REQUIREMENTS for part in ("-r", name)]
INPUTS = ["requirements-uv.txt", *REQUIREMENTS, "pyproject.toml", "tools/venv.py"]
PIP_INSTALL = [str(VENV / "bin" / "python"), "-m", "pip", "install", "-qq"]
EDITABLE = ["--no-deps", "--no-build-isolation", "--editable", "."]
CODE = ["services", "cli", "sandbox", "generated", "migrations"]
# What runs without docstrings (`cli.programs.LEAN_PYTHON`): importing it compiles just that for it.
SERVICES = sorted(main.parent.name for main in ROOT.glob("services/*/__main__.py"))
SERVING = (
    "cli.fork_server",
    "sandbox.stripe.__main__",
    *(f"services.{name}.__main__" for name in SERVICES),
)

# What a user may have told pip, in uv's words. uv does not read pip's variables.
UV_NAMES = {
    "PIP_INDEX_URL": "UV_DEFAULT_INDEX",
    "PIP_EXTRA_INDEX_URL": "UV_INDEX",
    "PIP_FIND_LINKS": "UV_FIND_LINKS",
    "PIP_NO_INDEX": "UV_NO_INDEX",
    "PIP_CERT": "SSL_CERT_FILE",
    "PIP_DEFAULT_TIMEOUT": "UV_HTTP_TIMEOUT",
}


def wanted_stamp() -> str:
    """What the environment depends on: the inputs' text, this interpreter and this folder."""
    digest = hashlib.sha256()
    for name in INPUTS:
        digest.update((ROOT / name).read_bytes())
    return f"{digest.hexdigest()} {sys.version.split()[0]} {VENV}\n"


def is_ready() -> bool:
    return STAMP.is_file() and STAMP.read_text() == wanted_stamp()


def uv_environment() -> dict[str, str]:
    """The environment for uv: pip's settings under uv's names, where uv was not told itself."""
    environment = dict(os.environ)
    for pip_name, uv_name in UV_NAMES.items():
        if pip_name in os.environ:
            environment.setdefault(uv_name, os.environ[pip_name])
    if "UV_FIND_LINKS" not in os.environ and "PIP_FIND_LINKS" in os.environ:
        environment["UV_FIND_LINKS"] = ",".join(os.environ["PIP_FIND_LINKS"].split())
    environment["VIRTUAL_ENV"] = str(VENV)
    return environment


def run(*command: str | Path, env: dict[str, str] | None = None) -> None:
    subprocess.run([str(part) for part in command], cwd=ROOT, env=env, check=True)


def install_with_uv() -> None:
    """Seconds where pip takes half a minute."""
    uv = VENV / "bin" / "uv"
    environment = uv_environment()
    run(*PIP_INSTALL, "--require-hashes", "-r", "requirements-uv.txt")
    run(uv, "pip", "install", "--quiet", "--require-hashes", *LISTED, env=environment)
    run(uv, "pip", "install", "--quiet", *EDITABLE, env=environment)


def install_with_pip() -> None:
    run(*PIP_INSTALL, "--require-hashes", *LISTED)
    run(*PIP_INSTALL, *EDITABLE)


def make() -> None:
    finished_for = STAMP.read_text().split(maxsplit=1) if STAMP.exists() else []
    if finished_for[1:] != wanted_stamp().split(maxsplit=1)[1:]:
        # Never finished, made with another Python, or moved here from another folder.
        run(sys.executable, "-m", "venv", "--clear", VENV)
    STAMP.unlink(missing_ok=True)
    try:
        install_with_uv()
    except (subprocess.CalledProcessError, OSError) as failure:
        print(f"uv could not install ({failure}); trying pip", file=sys.stderr, flush=True)
        install_with_pip()
    code = [name for name in CODE if (ROOT / name).is_dir()]
    site = next((VENV / "lib").glob("python*/site-packages"))
    run(VENV / "bin" / "python", "-m", "compileall", "-q", "-j", "0", site, *code)
    run(VENV / "bin" / "python", "-OO", "-c", f"import {', '.join(SERVING)}")
    STAMP.write_text(wanted_stamp())


def add(requirements: str) -> None:
    """Install what only some commands need into the environment that is there."""
    listed = ["--require-hashes", "-r", requirements]
    try:
        run(VENV / "bin" / "uv", "pip", "install", "--quiet", *listed, env=uv_environment())
    except (subprocess.CalledProcessError, OSError):
        run(*PIP_INSTALL, *listed)


def main() -> None:
    if sys.version_info < (3, 11):  # noqa: UP036 - what runs this is not the environment's Python
        sys.exit(
            f"The shop needs Python 3.11 or newer; {sys.executable} is {sys.version.split()[0]}.\n"
            "Name another one: make PYTHON=python3.12 ..."
        )
    with (ROOT / ".venv.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if is_ready():
            os.utime(STAMP)
            return
        started = time.monotonic()
        print("Making .venv ...", file=sys.stderr, flush=True)
        make()
        print(f"Made .venv in {time.monotonic() - started:.0f} s", file=sys.stderr)


if __name__ == "__main__":
    try:
        if sys.argv[1:]:
            add(sys.argv[1])
        else:
            main()
    except subprocess.CalledProcessError as failure:
        sys.exit(f"Could not make .venv: {failure}")
