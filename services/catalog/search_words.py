"""What is known of the words of a search: which there are, how common, and at which prices."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY

from services.catalog.search_lists import LAST_CHARACTER, bind, number
from services.catalog.search_rules import MOST_COMPLETIONS
from services.catalog.tables import spellings, vocabulary
from services.kit.db import Statement


def _shares(common: sa.CTE, lexeme: Any, similar: Any) -> sa.FromClause:
    """What share of products have a word, words that begin so, or similar ones: common ones only.

    Each `everywhere` and in `names`; with the least share, and how many words are known as common.
    """
    word, share = common.c.word.collate("C"), common.c.share
    kinds = {
        "share": word == lexeme,
        "begun": sa.func.starts_with(word, lexeme),
        "meant": word == sa.any_(similar),
    }
    columns = []
    for scope, is_of in (("everywhere", ~common.c.in_names), ("names", common.c.in_names)):
        columns += [
            sa.func.sum(share).filter(is_of, which).label(f"{scope}_{kind}")
            for kind, which in kinds.items()
        ]
        columns += [
            sa.func.min(share).filter(is_of).label(f"{scope}_least"),
            sa.func.count().filter(is_of).label(f"{scope}_named"),
        ]
    return sa.select(*columns).lateral()


def _words() -> Statement:
    """The words of the search `q`, with what is known of them.

    See `search_rules.terms`, `search_rules.bounds` (where `bounded`), `search_costs.shares`.
    """
    found = sa.func.unnest(sa.func.catalog.words(bind("q"))).table_valued(
        sa.column("lexeme", sa.Text), sa.column("positions", ARRAY(sa.SmallInteger)), "weights"
    )
    lexeme = found.c.lexeme.collate("C")
    is_word = spellings.c.spelling == spellings.c.word
    begins = (vocabulary.c.word >= lexeme) & (vocabulary.c.word < lexeme.concat(LAST_CHARACTER))
    completions = (
        sa.select(vocabulary.c.word)
        .where(begins)
        .order_by(vocabulary.c.word)
        .limit(number(MOST_COMPLETIONS + 1))
    )
    variations = sa.func.array_append(
        sa.func.catalog.rests(found.c.lexeme, type_=ARRAY(sa.Text)), found.c.lexeme
    )
    near = sa.select(spellings.c.word).where(spellings.c.spelling == sa.any_(variations))
    known = sa.select(
        found.c.lexeme,
        found.c.positions,
        sa.exists().where(is_word, spellings.c.spelling == lexeme).label("known"),
        lexeme.regexp_match(sa.literal_column("'^[[:alpha:]]'")).label("lettered"),
        sa.func.array(completions.scalar_subquery(), type_=ARRAY(sa.Text)).label("completions"),
        sa.func.array(
            near.distinct().limit(number(100)).scalar_subquery(), type_=ARRAY(sa.Text)
        ).label("similar"),
    )
    words = known.cte("words").prefix_with("MATERIALIZED")
    shares = sa.func.catalog.word_shares().table_valued(
        sa.column("word", sa.Text), sa.column("share", sa.Float), sa.column("in_names", sa.Boolean)
    )
    common = sa.select(shares).cte("common").prefix_with("MATERIALIZED")
    of_word = _shares(common, words.c.lexeme.collate("C"), words.c.similar)
    own = vocabulary.alias()
    others = sa.func.array_cat(words.c.completions, words.c.similar, type_=ARRAY(sa.Text))
    of_others = (
        sa.select(
            sa.func.min(vocabulary.c.cheapest).label("other_cheapest"),
            sa.func.max(vocabulary.c.dearest).label("other_dearest"),
            sa.func.min(vocabulary.c.first_name).label("other_first_name"),
        )
        .where(bind("bounded", sa.Boolean), vocabulary.c.word == sa.any_(others))
        .lateral()
    )
    products_known = (
        sa.select(sa.column("reltuples"))
        .select_from(sa.table("pg_class", schema="pg_catalog"))
        .where(sa.column("oid") == sa.literal_column("'catalog.products'::regclass"))
        .scalar_subquery()
    )
    return Statement(
        sa.select(
            words,
            of_word,
            own.c.cheapest,
            own.c.dearest,
            own.c.first_name,
            of_others,
            products_known.label("products"),
        )
        .select_from(words.outerjoin(own, own.c.word == words.c.lexeme.collate("C")))
        .join(of_word, sa.true())
        .join(of_others, sa.true())
    )


WORDS = _words()
