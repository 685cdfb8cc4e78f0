"""Runs the steps of PgBouncer's Dockerfile, and what comes of it, without docker: see `image`.

All services' roles go through it to a Postgres, with its file and its list of users as mounted.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import tempfile
from contextlib import ExitStack
from pathlib import Path

import asyncpg

from cli import deployment_secrets
from cli.database import connect, databases_of, ensure_database, prepare
from cli.postgres import Cluster, serve
from cli.topology import ALL_SERVICES, LOOPBACK, free_port
from tools import dockerfile
from tools.dockerfile import Stage
from tools.image import ROOT, START_SECONDS, asked, build, container, read_only, run, user_of

FILE = ROOT / "deploy" / "kubernetes" / "components" / "pgbouncer" / "pgbouncer.ini"


async def prove(stage: Stage, root: Path) -> None:
    """Go through it to a Postgres. Raises AssertionError when something does not work."""
    user, command = stage.last("USER"), stage.last("CMD")
    assert user is not None
    assert command is not None
    uid, gid = map(int, user.text.split(":"))
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="shop-image-")))
        secrets, port = folder / "secrets", free_port()
        cluster = Cluster(folder / "postgres", secrets / "postgres" / "password", free_port())
        cluster.create()
        stack.enter_context(serve(cluster, folder / "log"))
        await ensure_database(cluster.url("postgres"), "shop")
        owner = await connect(cluster.url())
        (place,) = databases_of(cluster.url()).places()
        await prepare(owner, place)
        await owner.close()
        deployment_secrets.write(
            secrets, host=LOOPBACK, port=cluster.port, pooler=f"{LOOPBACK}:{port}"
        )
        mounted = secrets / "pgbouncer"
        for path in (mounted, *mounted.iterdir()):
            os.chown(path, uid, gid)
        text = FILE.read_text()
        for there, here in {
            "host=postgres port=5432": f"host={LOOPBACK} port={cluster.port}",
            "listen_port = 6432": f"listen_port = {port}",
            "listen_addr = *": f"listen_addr = {LOOPBACK}",
        }.items():
            assert there in text
            text = text.replace(there, here)
        (folder / "ini").write_text(text)
        (folder / "ini").chmod(0o644)

        (root / "run" / "shop").mkdir(exist_ok=True)  # the engine makes what it mounts upon
        view = stack.enter_context(read_only(root))
        for source, target in {
            folder / "ini": view / "etc/pgbouncer/pgbouncer.ini",
            mounted: view / "run/shop",
        }.items():
            run("mount", "--bind", source, target)
            stack.callback(run, "umount", "--lazy", target)
        process = container(stage, view, command.words, {})
        try:
            for service in ALL_SERVICES:
                url = (secrets / service / "pooler-database-url").read_text()
                assert await _who(url) == f"shop_{service}"
            assert user_of(process.pid) == uid
        finally:
            process.send_signal(_signal(stage))
        assert process.wait(20) == 0


def _signal(stage: Stage) -> int:
    stop = stage.last("STOPSIGNAL")
    assert stop is not None
    return signal.Signals[stop.text]


async def _who(url: str) -> str:
    """Who one is in Postgres, as soon as the pooler listens."""
    async with asyncio.timeout(START_SECONDS):
        while True:
            try:
                connection = await asyncpg.connect(url)
            except OSError:
                await asyncio.sleep(0.1)
            else:
                name: str = await connection.fetchval("SELECT current_user")
                await connection.close()
                return name


def main() -> None:
    arguments = asked("tools.image_pooler", __doc__)
    (stage,) = dockerfile.read(ROOT / "deploy" / "pgbouncer" / "Dockerfile")
    root = arguments.folder / "pgbouncer"
    if not arguments.built:
        shutil.rmtree(root, ignore_errors=True)
        build(arguments.folder, [stage]).rename(root)
    asyncio.run(prove(stage, root))
    print("It lets all services through and ends: as its user, on a root that is read-only.")


if __name__ == "__main__":
    main()
