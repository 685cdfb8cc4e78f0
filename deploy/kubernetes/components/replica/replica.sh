#!/bin/sh
# Serves a read-only replica: a copy of the primary, made at the first start, that follows it from then on.
#
# It runs in Postgres's official image. PRIMARY is the host to follow, POSTGRES_USER and POSTGRES_PASSWORD_FILE are its
# owner's, and arguments are Postgres's own: no connections fewer than the primary has. A replica that was away for so long
# that the primary has no more of what it missed says so in its log: take its volume away, and it begins anew.
set -eu

if [ ! -s "$PGDATA/PG_VERSION" ]; then
    mkdir -p "$(dirname "$PGDATA")"
    # It appears complete or not at all.
    rm -rf "$PGDATA.unfinished"
    PGPASSWORD=$(cat "$POSTGRES_PASSWORD_FILE") pg_basebackup --pgdata="$PGDATA.unfinished" --checkpoint=fast \
        --write-recovery-conf --dbname="host=$PRIMARY port=${PRIMARY_PORT:-5432} user=$POSTGRES_USER"
    if [ -d "$PGDATA" ]; then
        rmdir "$PGDATA"
    fi
    mv "$PGDATA.unfinished" "$PGDATA"
fi
# The image's: as root, it hands the files over to the user `postgres` and goes on as them.
exec docker-entrypoint.sh postgres "$@"
