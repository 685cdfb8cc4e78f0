"""A shop of one process on FastAPI and SQLAlchemy's ORM, as its documentation would have it.

Pydantic checks what comes and writes what goes, a pool keeps connections, relationships are loaded
by `selectinload`, an order is one transaction that locks its variants in the order of their ids.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Annotated, Any
from uuid import UUID

import jwt
from fastapi import Depends, FastAPI, HTTPException, Query
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import ARRAY, ForeignKey, select, tuple_
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    joinedload,
    mapped_column,
    relationship,
    selectinload,
)
from sqlalchemy.types import TIMESTAMP, Uuid
from uuid_utils.compat import uuid7

engine = create_async_engine(
    os.environ["PEER_DATABASE_URL"].replace("postgresql://", "postgresql+asyncpg://"),
    pool_size=10,
    max_overflow=0,
    connect_args={"server_settings": {"search_path": "fastapi", "jit": "off"}},
)
new_session = async_sessionmaker(engine, expire_on_commit=False)


class Base(DeclarativeBase):
    type_annotation_map = {datetime: TIMESTAMP(timezone=True), dict[str, Any]: JSONB}  # noqa: RUF012


class User(Base):
    __tablename__ = "users"
    id: Mapped[UUID] = mapped_column(primary_key=True)
    email: Mapped[str]


class Product(Base):
    __tablename__ = "products"
    id: Mapped[UUID] = mapped_column(primary_key=True)
    slug: Mapped[str]
    name: Mapped[str]
    description: Mapped[str]
    category_ids: Mapped[list[UUID]] = mapped_column(ARRAY(Uuid))
    attributes: Mapped[dict[str, Any]]
    media: Mapped[list[dict[str, Any]]] = mapped_column(JSONB)
    default_variant_id: Mapped[UUID]
    create_time: Mapped[datetime]
    update_time: Mapped[datetime]
    variants: Mapped[list[Variant]] = relationship(order_by="Variant.id", lazy="raise")


class Variant(Base):
    __tablename__ = "variants"
    id: Mapped[UUID] = mapped_column(primary_key=True)
    product_id: Mapped[UUID] = mapped_column(ForeignKey(Product.id))
    sku: Mapped[str]
    options: Mapped[dict[str, Any]]
    price: Mapped[int]
    currency: Mapped[str]
    weight_grams: Mapped[int]
    on_hand: Mapped[int]
    reserved: Mapped[int]
    product: Mapped[Product] = relationship(lazy="raise", viewonly=True)

    @property
    def available(self) -> int:
        return self.on_hand - self.reserved


class Order(Base):
    __tablename__ = "orders"
    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid7)
    number: Mapped[str] = mapped_column(default=lambda: secrets.token_hex(5).upper())
    user_id: Mapped[UUID]
    email: Mapped[str]
    status: Mapped[str] = mapped_column(default="AWAITING_PAYMENT")
    currency: Mapped[str]
    total: Mapped[int]
    shipping_address: Mapped[dict[str, Any]]
    create_time: Mapped[datetime] = mapped_column(default=lambda: datetime.now(UTC))
    lines: Mapped[list[OrderLine]] = relationship(lazy="raise")


class OrderLine(Base):
    __tablename__ = "order_lines"
    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid7)
    order_id: Mapped[UUID] = mapped_column(ForeignKey(Order.id))
    variant_id: Mapped[UUID]
    product_name: Mapped[str]
    sku: Mapped[str]
    options: Mapped[dict[str, Any]]
    quantity: Mapped[int]
    unit_price: Mapped[int]


class Out(BaseModel):
    model_config = ConfigDict(from_attributes=True)


class VariantOut(Out):
    id: UUID
    sku: str
    options: dict[str, str]
    price: int
    currency: str
    weight_grams: int
    available: int


class ProductOut(Out):
    id: UUID
    slug: str
    name: str
    description: str
    category_ids: list[UUID]
    attributes: dict[str, str]
    media: list[dict[str, str]]
    default_variant_id: UUID
    variants: list[VariantOut]
    create_time: datetime
    update_time: datetime


class ProductsOut(BaseModel):
    products: list[ProductOut]
    next_page_token: str


class ItemIn(BaseModel):
    variant_id: UUID
    quantity: int = Field(ge=1, le=999)


class AddressIn(BaseModel):
    region_code: str = Field(pattern="^[A-Z]{2}$")
    address_lines: list[Annotated[str, Field(max_length=200)]] = Field(max_length=5)


class OrderIn(BaseModel):
    items: list[ItemIn] = Field(min_length=1, max_length=100)
    shipping_address: AddressIn


class LineOut(Out):
    id: UUID
    variant_id: UUID
    product_name: str
    sku: str
    options: dict[str, str]
    quantity: int
    unit_price: int


class OrderOut(Out):
    id: UUID
    number: str
    user_id: UUID
    email: str
    status: str
    currency: str
    total: int
    shipping_address: AddressIn
    create_time: datetime
    lines: list[LineOut]


async def session() -> AsyncIterator[AsyncSession]:
    async with new_session() as opened:
        yield opened


Session = Annotated[AsyncSession, Depends(session)]
Credentials = Annotated[HTTPAuthorizationCredentials, Depends(HTTPBearer())]


async def signed_in(credentials: Credentials, session: Session) -> User:
    try:
        claims = jwt.decode(credentials.credentials, os.environ["PEER_SECRET"], ["HS256"])
    except jwt.InvalidTokenError:
        raise HTTPException(401, "The token is not valid.") from None
    user = await session.get(User, UUID(claims["sub"]))
    if user is None:
        raise HTTPException(401, "The user is no more.")
    return user


app = FastAPI()


@app.get("/api/products/{id}/")
async def get_product(id: UUID, session: Session) -> ProductOut:
    wanted = select(Product).where(Product.id == id).options(selectinload(Product.variants))
    product = await session.scalar(wanted)
    if product is None:
        raise HTTPException(404, "There is no such product.")
    return ProductOut.model_validate(product)


@app.get("/api/products/")
async def list_products(
    session: Session,
    page_size: Annotated[int, Query(ge=1, le=1000)] = 50,
    page_token: str = "",
) -> ProductsOut:
    wanted = select(Product).options(selectinload(Product.variants))
    if page_token:
        name, _, id = page_token.rpartition("|")
        wanted = wanted.where(tuple_(Product.name, Product.id) > tuple_(name, UUID(id)))
    ordered = wanted.order_by(Product.name, Product.id).limit(page_size + 1)
    found = (await session.scalars(ordered)).all()
    page = found[:page_size]
    token = f"{page[-1].name}|{page[-1].id}" if len(found) > page_size else ""
    return ProductsOut(
        products=[ProductOut.model_validate(one) for one in page], next_page_token=token
    )


@app.post("/api/orders/", status_code=201)
async def create_order(
    order: OrderIn, session: Session, user: Annotated[User, Depends(signed_in)]
) -> OrderOut:
    quantities = {item.variant_id: item.quantity for item in order.items}
    wanted = select(Variant).where(Variant.id.in_(quantities)).order_by(Variant.id)
    locked = wanted.options(joinedload(Variant.product)).with_for_update(of=Variant)
    variants = (await session.scalars(locked)).all()
    if len(variants) < len(quantities):
        raise HTTPException(404, "There is no such variant.")
    for variant in variants:
        if variant.available < quantities[variant.id]:
            raise HTTPException(409, f"{variant.sku} is out of stock.")
        variant.reserved += quantities[variant.id]
    placed = Order(
        user_id=user.id,
        email=user.email,
        currency=variants[0].currency,
        total=sum(variant.price * quantities[variant.id] for variant in variants),
        shipping_address=order.shipping_address.model_dump(),
        lines=[
            OrderLine(
                variant_id=variant.id,
                product_name=variant.product.name,
                sku=variant.sku,
                options=variant.options,
                quantity=quantities[variant.id],
                unit_price=variant.price,
            )
            for variant in variants
        ],
    )
    session.add(placed)
    await session.commit()
    return OrderOut.model_validate(placed)
