"""Runs squawk over the SQL of every migration: which of them would stop a running shop?"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from pathlib import Path

from cli import migrate

ROOT = Path(__file__).resolve().parent.parent
# Alembic's own table, which is made in an empty schema.
VERSION_TABLE = re.compile(r"CREATE TABLE \S+\.alembic_version \(.*?\n\);\n", re.DOTALL)


def render_all(folder: Path) -> list[Path]:
    """Write each migration as the session runs it; the files."""
    session = "".join(f"SET {name} = '{value}';\n" for name, value in migrate.SESSION.items())
    files = []
    for service in migrate.migrated_services():
        for revision in migrate.revisions(service):
            file = folder / f"{service}-{revision}.sql"
            file.write_text(session + VERSION_TABLE.sub("", migrate.render(service, revision)))
            files.append(file)
    return files


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        files = render_all(Path(folder))
        squawk = Path(sys.executable).parent / "squawk"
        config = ROOT / ".squawk.toml"
        told = subprocess.run([squawk, "--config", config, *files], cwd=folder, check=False)
    return told.returncode


if __name__ == "__main__":
    sys.exit(main())
