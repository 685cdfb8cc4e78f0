"""Runs the Dockerfile's steps without docker, and what comes of it as a container would run.

`python -m tools.image` (as root, with Debian's debootstrap; a minute, and 2 GB below /tmp) makes an
empty Debian, which is what `debian:bookworm-slim` is but for its documentation, and takes every
stage of the Dockerfile through its own RUN and COPY lines in it. Then it has the `shop` command
migrate, and starts all five services: as the image's user, on a root file system that is mounted
read-only, with a Postgres and with secrets from outside. What it does not show is the engine's
part: layers, the digest of the base, networks.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

import yaml

from cli import deployment_secrets, edge
from cli.database import ensure_database
from cli.postgres import Cluster, serve
from cli.probes import is_serving
from cli.topology import ALL_SERVICES, LOOPBACK, Address, free_port
from tools import dockerfile, venv
from tools.dockerfile import Stage, Step

ROOT = Path(__file__).resolve().parent.parent
SUITE = "bookworm"
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# What this machine is told about where packages are. It is in no image.
SURROUNDINGS = ("PIP_CERT", "PIP_INDEX_URL", "PIP_DEFAULT_TIMEOUT", "UV_DEFAULT_INDEX")
CERTIFICATES = ("PIP_CERT", "SSL_CERT_FILE")
START_SECONDS = 60.0


def run(*command: str | Path, env: Mapping[str, str] | None = None, quiet: bool = False) -> None:
    subprocess.run(
        [str(part) for part in command],
        check=True,
        env=None if env is None else dict(env),
        stdout=subprocess.DEVNULL if quiet else None,
    )


@contextmanager
def mounted(root: Path) -> Iterator[None]:
    """What the engine gives each container: /proc, /dev, /tmp and how others are found by name."""
    with ExitStack() as stack:
        for place, arguments in {
            "proc": ("-t", "proc", "proc"),
            "tmp": ("-t", "tmpfs", "tmpfs"),
            "dev": ("--bind", "/dev"),
        }.items():
            run("mount", *arguments, root / place)
            stack.callback(run, "umount", "--lazy", root / place)
        yield


@contextmanager
def as_here(root: Path) -> Iterator[dict[str, str]]:
    """The network of this machine, and where it finds packages, for the time of a step."""
    told = venv.uv_environment()
    environment = {name: told[name] for name in (*SURROUNDINGS, *CERTIFICATES) if name in told}
    files = ["/etc/resolv.conf", *{environment[name] for name in CERTIFICATES if name in told}]
    added = [name for name in files if not (root / name[1:]).exists()]
    for name in files:
        (root / name[1:]).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(name, root / name[1:])
    yield environment
    for name in added:
        (root / name[1:]).unlink(missing_ok=True)


def build(folder: Path, stages: list[Stage]) -> Path:
    """Take the stages through their steps, each in a folder of its own; the last one's."""
    empty = folder / SUITE
    if not empty.with_suffix(".whole").exists():
        shutil.rmtree(empty, ignore_errors=True)
        run("debootstrap", "--variant=minbase", SUITE, empty, quiet=True)
        empty.with_suffix(".whole").touch()
    roots: dict[str, Path] = {}
    for number, stage in enumerate(stages, start=1):
        print(f"FROM {stage.base} ({stage.name or 'the image'})", flush=True)
        root = roots[stage.name] = folder / f"stage-{number}"
        shutil.rmtree(root, ignore_errors=True)
        run("cp", "--archive", empty, root)
        with mounted(root):
            _take(stage, root, roots)
    return root


def _take(stage: Stage, root: Path, roots: Mapping[str, Path]) -> None:
    place, environment = Path(), {"PATH": PATH}
    for step in stage.steps:
        print(f"  {step.word} {step.text[:120]}", flush=True)
        if step.word == "WORKDIR":
            place = Path(step.text[1:])
            (root / place).mkdir(parents=True, exist_ok=True)
        elif step.word == "ENV":
            environment |= variables(step)
        elif step.word == "COPY":
            _copy(step, roots.get(step.options.get("from", ""), ROOT), root, place)
        elif step.word == "RUN":
            with as_here(root) as here:
                script = f"cd /{place} && {step.text}"
                run("chroot", root, "/bin/sh", "-c", script, env=here | environment, quiet=True)


def variables(step: Step) -> dict[str, str]:
    """What an ENV sets."""
    return dict(word.split("=", 1) for word in step.words)


def _copy(step: Step, origin: Path, root: Path, place: Path) -> None:
    """As docker does: a folder's contents, or a file by its name."""
    *sources, target = step.words
    into = root / (target[1:] if target.startswith("/") else place / target)
    ignored = None if "from" in step.options else shutil.ignore_patterns("__pycache__")
    for source in sources:
        found = origin / source.lstrip("/")
        if found.is_dir():
            shutil.copytree(found, into, symlinks=True, dirs_exist_ok=True, ignore=ignored)
        else:
            shutil.copy2(found, into / found.name if target.endswith("/") else into)


@contextmanager
def read_only(root: Path) -> Iterator[Path]:
    """The root as a container has it: it cannot be written to, but for /tmp."""
    with tempfile.TemporaryDirectory(prefix="shop-image-") as folder:
        view = Path(folder)
        run("mount", "--bind", root, view)
        try:
            run("mount", "-o", "remount,bind,ro", view)
            with mounted(view):
                yield view
        finally:
            run("umount", "--lazy", view)


def container(
    stage: Stage, view: Path, command: list[str], told: Mapping[str, str]
) -> subprocess.Popen[bytes]:
    """The image's process: its user, its folder, its variables and those it is told."""
    user, folder, settings = stage.last("USER"), stage.last("WORKDIR"), stage.last("ENV")
    assert user is not None
    script = f'cd {folder.text if folder else "/"} && exec "$@"'
    return subprocess.Popen(
        [
            "/usr/sbin/chroot",
            f"--userspec={user.text}",
            str(view),
            "/bin/sh",
            "-c",
            script,
            "-",
            *command,
        ],
        env={"PATH": PATH, **(variables(settings) if settings else {}), **told},
    )


async def prove(stage: Stage, root: Path) -> None:
    """Migrate and serve from the image. Raises AssertionError when something does not work."""
    user = stage.last("USER")
    assert user is not None
    uid, gid = map(int, user.text.split(":"))
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="shop-image-")))
        secrets = folder / "secrets"
        cluster = Cluster(folder / "postgres", secrets / "postgres" / "password", free_port())
        cluster.create()
        stack.enter_context(serve(cluster, folder / "log"))
        await ensure_database(cluster.url("postgres"), "shop")
        deployment_secrets.write(secrets, host=LOOPBACK, port=cluster.port)
        for path in (secrets, *secrets.rglob("*")):
            os.chown(path, uid, gid)
        view = stack.enter_context(read_only(root))
        run("mount", "--bind", secrets, view / "secrets")
        stack.callback(run, "umount", "--lazy", view / "secrets")

        refused = container(stage, view, ["touch", "/shop/written"], {}).wait()
        assert refused != 0, "the root file system can be written to"
        owner = {"SHOP_DATABASE_URL_FILE": "/secrets/owner/database-url"}
        assert container(stage, view, ["shop", "migrate"], owner).wait() == 0, "shop migrate"
        assert container(stage, view, ["shop", "verify"], owner).wait() == 0, "shop verify"
        configure(stage, view, folder / "configuration", (uid, gid))
        addresses = {name: Address(LOOPBACK, free_port()) for name in ALL_SERVICES}
        processes = {
            name: container(
                stage, view, ["python", "-m", f"services.{name}"], surroundings(name, addresses)
            )
            for name in ALL_SERVICES
        }
        try:
            await serving(addresses)
            for name, address in addresses.items():
                probe = ["python", "-m", "cli.probes", str(address)]
                assert container(stage, view, probe, {}).wait() == 0, name
                assert user_of(processes[name].pid) == uid, name
        finally:
            for process in processes.values():
                process.terminate()
        ends = {name: process.wait(20) for name, process in processes.items()}
        assert set(ends.values()) == {0}, ends


def configure(stage: Stage, view: Path, folder: Path, owner: tuple[int, int]) -> None:
    """Make the edge's configuration as its container does, with traces; Envoy has to take it."""
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    told = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318"}
    folder.mkdir()
    os.chown(folder, *owner)
    run("mount", "--bind", folder, view / "configuration")
    try:
        command = compose["configuration"]["command"]
        assert container(stage, view, command, told).wait() == 0, "shop edge"
    finally:
        run("umount", "--lazy", view / "configuration")
    envoy = [edge.envoy_binary(), "--mode", "validate", *compose["edge"]["command"]]
    subprocess.run(envoy, cwd=folder, check=True)


def surroundings(service: str, addresses: Mapping[str, Address]) -> dict[str, str]:
    """What a service's container is told, as in docker-compose.yml."""
    folder = f"/secrets/{service}"
    return {
        "SHOP_ENV": "production",
        "SHOP_LISTEN": str(addresses[service]),
        f"SHOP_{service.upper()}_DATABASE_URL_FILE": f"{folder}/database-url",
        "SHOP_SERVICE_SECRET_FILE": f"{folder}/service-secret",
        "SHOP_USERS_SIGNING_KEYS": f"{folder}/keys",
        "SHOP_SMTP_URL": "smtp://127.0.0.1:1025",
        "SHOP_STRIPE_SECRET_KEY": "sk_test_sandbox",
        "SHOP_STRIPE_WEBHOOK_SECRET_FILE": f"{folder}/stripe-webhook-secret",
        **{f"SHOP_{name.upper()}_ADDRESS": str(where) for name, where in addresses.items()},
    }


def user_of(pid: int) -> int:
    """Who a process runs as."""
    return Path(f"/proc/{pid}").stat().st_uid


async def serving(addresses: Mapping[str, Address]) -> None:
    """Wait until all of them answer."""
    async with asyncio.timeout(START_SECONDS):
        for address in addresses.values():
            while not await is_serving(address):  # noqa: ASYNC110 - it is another process
                await asyncio.sleep(0.2)


def asked(program: str, about: str) -> argparse.Namespace:
    """What the command line says. Ends the program where it cannot work."""
    parser = argparse.ArgumentParser(prog=program, description=about.split("\n", maxsplit=1)[0])
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir(), "shop-image"))
    parser.add_argument("--built", action="store_true", help="use what an earlier run has built")
    arguments = parser.parse_args()
    if os.geteuid() != 0 or shutil.which("debootstrap") is None:
        raise SystemExit("This needs root, and debootstrap: apt-get install debootstrap")
    arguments.folder.mkdir(parents=True, exist_ok=True)
    return arguments


def main() -> None:
    arguments = asked("tools.image", __doc__)
    stages = dockerfile.read(ROOT / "Dockerfile")
    folder = arguments.folder
    root = folder / f"stage-{len(stages)}" if arguments.built else build(folder, stages)
    size = subprocess.run(["du", "-smx", root], capture_output=True, text=True, check=True)
    print(f"The image holds {size.stdout.split()[0]} MB.", flush=True)
    asyncio.run(prove(stages[-1], root))
    print("It migrates, serves and ends: as its user, on a root file system that is read-only.")


if __name__ == "__main__":
    main()
