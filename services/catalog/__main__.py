"""Wires the catalogue together and serves it: `python -m services.catalog`."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Literal

from services.catalog import search_meetings, search_statistics, sweeper
from services.catalog.handlers import CatalogService
from services.catalog.stock_handlers import StockService
from services.catalog.tables import metadata
from services.kit import clients, process, tasks
from services.kit.auth import AccessTokens, Authenticator, Keys, ServiceCredential
from services.kit.db import Database
from services.kit.replica import Replica
from services.kit.server import Server
from services.kit.settings import ServiceSettings, setting
from shop.catalog.v1 import catalog_pb2_grpc, stock_pb2_grpc
from shop.users.v1 import users_pb2, users_pb2_grpc

# How often idempotency keys that are too old are removed.
KEYS_SECONDS = 600.0


@dataclass(frozen=True, kw_only=True)
class Settings(ServiceSettings):
    """What the catalogue can be told, beside what every service can be."""

    service: Literal["catalog"] = "catalog"
    users_address: str = setting(description="where the users service is: host:port, or several")
    replica_database_url: str = setting(
        "", description="a read-only replica, for who browses; empty: none", secret=True
    )
    replica_seconds: float = setting(
        2.0, gt=0, le=4, description="how far behind a replica may be that is read"
    )


def build(settings: Settings, database: Database) -> Server:
    """The service, ready to start."""
    credential = ServiceCredential(settings.service, *settings.service_secrets())
    users = users_pb2_grpc.AuthServiceStub(
        clients.connect(
            settings.users_address, credential, idempotent=["shop.users.v1.AuthService/GetJwks"]
        )
    )
    keys = Keys(lambda: users.GetJwks(users_pb2.GetJwksRequest()))
    auth = Authenticator(AccessTokens(keys, issuer=settings.issuer), credential)
    # What staff write of goods is not a customer's, and a SKU may well look like a card number.
    catalog = Server.of(settings, auth, ready=database.ready, refuse_card_numbers=False)
    replica = Replica.of(
        database,
        settings.replica_database_url,
        metadata,
        connections=settings.database_connections,
        most_seconds=settings.replica_seconds,
    )
    products = CatalogService(database, replica)
    catalog.add(
        catalog_pb2_grpc.add_CatalogServiceServicer_to_server,
        products,
        GetProduct=products.recall_product,
    )
    catalog.add(stock_pb2_grpc.add_StockServiceServicer_to_server, StockService(database))

    expiry = partial(sweeper.free_expired, database)
    catalog.background("token keys", keys.refresh_forever)
    catalog.background("shelf", products.shelf.forever)
    refresh = tasks.every(search_statistics.SECONDS_BETWEEN, products.statistics.refresh)
    catalog.background("statistics", refresh)
    learn = partial(search_meetings.follow, database, products.statistics)
    catalog.background("meetings", tasks.every(search_statistics.SECONDS_BETWEEN, learn))
    catalog.background("replica", replica.follow)
    catalog.background("expiry", tasks.every(sweeper.SECONDS_BETWEEN, expiry))
    catalog.background("old keys", tasks.every(KEYS_SECONDS, database.forget_old_keys))
    return catalog


if __name__ == "__main__":
    process.run(Settings, metadata, build)
