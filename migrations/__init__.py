"""How each service's schema came to be: one Alembic history per service, one environment for all.

    <service>/versions/0001_first.py     revision = "0001", by hand or by `shop migrate --write`
    env.py                               what Alembic runs, for every service alike
    script.py.mako                       what a new migration starts as
    online.py                            operations that do not stop a running shop
    kit_tables.py                        the tables that every service has

Migrations only go forward.
"""
