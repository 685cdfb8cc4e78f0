"""What a new shop begins with: an administrator and some products."""

from __future__ import annotations

import secrets

from cli import accounts, catalogue, seed
from cli.data_folder import Admin, DataFolder
from cli.database import Databases, connect

EMAIL = "admin@shop.example"


async def load(folder: DataFolder, databases: Databases) -> None:
    """Make the administrator and the products, unless they are there."""
    await _make_admin(folder, databases.services["users"])
    url = databases.services["catalog"]
    connection = await connect(url)
    try:
        has_products = await connection.fetchval("SELECT EXISTS (SELECT FROM catalog.products)")
    finally:
        await connection.close()
    if not has_products:
        await seed.load(url, catalogue.demo_items())


async def _make_admin(folder: DataFolder, url: str) -> None:
    admin = folder.read_admin()
    if await accounts.find_user(url, EMAIL if admin is None else admin.email) is not None:
        return
    if admin is None:
        admin = Admin(EMAIL, secrets.token_urlsafe(12))
        folder.write_admin(admin)  # first, so that no account ever has a password nobody knows
    await accounts.create_admin(url, admin.email, admin.password)
