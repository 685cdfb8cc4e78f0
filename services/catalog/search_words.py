"""What is known of the words of a search: which there are, and at which prices."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY

from services.catalog.search_lists import LAST_CHARACTER, bind, number
from services.catalog.search_rules import MOST_COMPLETIONS
from services.catalog.tables import spellings, vocabulary
from services.kit.db import Statement


def _words() -> Statement:
    """The words of the search `q`, with what is known of them.

    See `search_rules.terms`, `search_rules.bounds` (where `bounded`).
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
    return Statement(
        sa.select(
            words,
            own.c.cheapest,
            own.c.dearest,
            own.c.first_name,
            of_others,
        )
        .select_from(words.outerjoin(own, own.c.word == words.c.lexeme.collate("C")))
        .join(of_others, sa.true())
    )


WORDS = _words()
