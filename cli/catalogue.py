"""Products to show: those of the demo, and any number made of its words."""

from __future__ import annotations

import functools
import itertools
import random
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

from services.catalog import rules

CURRENCY = "USD"
_FILE = Path(__file__).with_name("demo.toml")
_DEMO = 0x0199A000_0000_7000_8000_000000000000
_SOME_HAVE_VARIANTS = 0.3
_SOME_ARE_NAMED = 0.4
_SOME_ARE_REDUCED = 0.15
_SOME_ARE_SOLD_OUT = 0.05


@dataclass(frozen=True, slots=True)
class Choice:
    """A variant: what tells it from the others, and how many pieces there are.

    Without an `id` it gets a new one.
    """

    sku: str
    options: Mapping[str, str]
    on_hand: int
    id: UUID | None = None


@dataclass(frozen=True, slots=True)
class Item:
    """A product. Prices are in cents; `slug` and SKUs have to be unique in a catalogue.

    Without an `id` it gets a new one.
    """

    slug: str
    name: str
    description: str
    category: str
    price: int
    compare_at_price: int | None = None
    attributes: Mapping[str, str] = field(default_factory=dict)
    choices: tuple[Choice, ...] = ()
    id: UUID | None = None


@functools.cache
def words() -> dict[str, Any]:
    """The demo's file."""
    return tomllib.loads(_FILE.read_text())


def categories() -> list[tuple[str, str]]:
    """Every category with the name of its parent, "" for those at the top; parents come first."""
    found = []
    for department in words()["departments"]:
        found.append((department["name"], ""))
        found += [(category["name"], department["name"]) for category in department["categories"]]
    return found


def demo_items() -> list[Item]:
    """The products of the demo, which are the same in every shop, down to their ids.

    So the examples of the API's documentation can name them.
    """
    luck = random.Random("demo")  # noqa: S311 - stock is no secret
    items: list[Item] = []
    for category in _categories():
        for product in category["products"]:
            was = product.get("was")
            slug = rules.slug_of(product["name"])
            number = len(items) + 1
            items.append(
                Item(
                    slug=slug,
                    name=product["name"],
                    description=product["text"],
                    category=category["name"],
                    price=round(product["price"] * 100),
                    compare_at_price=None if was is None else round(was * 100),
                    attributes=product["attributes"],
                    choices=tuple(
                        Choice(
                            _sku(slug, options),
                            options,
                            luck.choice((0, 3, 8, 12, 25, 40)),
                            _demo_id(number, index),
                        )
                        for index, options in enumerate(
                            _combinations(product.get("choose", {})), start=1
                        )
                    ),
                    id=_demo_id(number),
                )
            )
    return items


def made_up_items(count: int, seed: str) -> Iterator[Item]:
    """`count` products made of the demo's words; the same for the same seed.

    Makers and collections are coined, so that some words are in every product and thousands in few,
    as in any language. Those of different seeds, which are lower-case letters and digits, can be in
    one catalogue.
    """
    luck = random.Random(seed)  # noqa: S311 - these are no secrets
    said = words()
    shelves = _categories()
    # Every draw costs, and there may be a million products.
    pick, chance = luck.choice, luck.random
    makers = said["makers"] + [_coined(luck, 2) for _ in range(min(count, 2_000))]
    collections = [_coined(luck, 3) for _ in range(min(count, 20_000))]
    for number in range(1, count + 1):
        shelf = pick(shelves)
        material, noun = pick(shelf["materials"]), pick(shelf["nouns"])
        low, high = shelf["prices"]
        price = int(low + (high - low) * chance() ** 2) * 100 + 90
        maker, collection, colour = pick(makers), pick(collections), pick(said["colours"])
        colours = luck.sample(said["colours"], 3) if chance() < _SOME_HAVE_VARIANTS else []
        name = f"{pick(said['adjectives'])} {material} {noun}"
        if chance() < _SOME_ARE_NAMED:
            name = f"{name} {collection}"
        yield Item(
            slug=f"{rules.slug_of(name)}-{seed}-{number}",
            name=name,
            description=(
                f"{noun.capitalize()} of {material} in {colour}, from the {collection} collection "
                f"by {maker}. {pick(said['notes'])} {pick(said['notes'])}"
            ),
            category=shelf["name"],
            price=price,
            compare_at_price=price * 5 // 4 if chance() < _SOME_ARE_REDUCED else None,
            attributes={"colour": colour, "maker": maker, "material": material},
            choices=tuple(
                Choice(
                    f"{seed}-{number}-{index}".upper(),
                    options,
                    0 if chance() < _SOME_ARE_SOLD_OUT else int(chance() * 200),
                )
                for index, options in enumerate(
                    _combinations({"colour": colours} if colours else {}), start=1
                )
            ),
        )


def _demo_id(product: int, variant: int = 0) -> UUID:
    """A UUIDv7 of the time when the demo was made up."""
    return UUID(int=_DEMO + (product << 16) + variant)


def _coined(luck: random.Random, syllables: int) -> str:
    """A word that sounds as if it meant something."""
    said = words()
    stem = "".join(luck.choices(said["syllables"], k=syllables))
    return f"{stem.capitalize()}{luck.choice(said['endings'])}"


def _categories() -> list[dict[str, Any]]:
    return [
        category for department in words()["departments"] for category in department["categories"]
    ]


def _sku(slug: str, options: Mapping[str, str]) -> str:
    return rules.slug_of(" ".join([slug, *options.values()])).upper()


def _combinations(choose: Mapping[str, list[str]]) -> Iterator[dict[str, str]]:
    """One of each option, in every way; nothing to choose is one way."""
    for values in itertools.product(*choose.values()):
        yield dict(zip(choose, values, strict=True))
