"""A Postgres that follows another one on this machine, for tests and the failover drill."""

from __future__ import annotations

import os
import subprocess
from dataclasses import replace
from pathlib import Path

from cli.postgres import Cluster
from cli.postgres_binaries import find_binaries, find_tool, major_version
from cli.programs import StartError
from cli.topology import free_port

# What a primary has to be told to be followed, whatever kind it is.
FOLLOWED = {"wal_level": "replica", "max_wal_senders": "4", "synchronous_commit": "on"}
NAME = "standby"


def follow(primary: Cluster, data: Path) -> Cluster:
    """A copy of a running primary, to be served as its standby under the name `standby`.

    Raises StartError.
    """
    program = find_tool("pg_basebackup", at_least=major_version(find_binaries()))
    made = subprocess.run(
        [
            str(program),
            f"--pgdata={data}",
            f"--dbname={primary.url('postgres')}",
            "--checkpoint=fast",
            "--write-recovery-conf",
            *([] if primary.durable else ["--no-sync"]),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    if made.returncode != 0:
        raise StartError(f"No copy of {primary.data} could be made:\n{made.stderr.rstrip()}")
    owner = primary.data.stat()
    for each in (data, *data.rglob("*")):
        os.chown(each, owner.st_uid, owner.st_gid)
    told = FOLLOWED | {"cluster_name": NAME}
    return replace(primary, data=data, port=free_port(), settings=told)
