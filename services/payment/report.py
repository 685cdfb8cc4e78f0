"""What one run of the reconciler did, and what it had to leave."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Report:
    """Counts of payments, unless they say otherwise."""

    # PaymentIntents that the walk compared with our payments, and charges that none stood for.
    walked: int = 0
    adopted: int = 0
    # Events of refunds and disputes that no webhook had told.
    heard: int = 0
    # Stripe did not answer, so that some of what happened there was not seen.
    cut_short: bool = False
    # Open ones that were looked at, those of them that changed, those that Stripe said nothing of.
    looked_at: int = 0
    settled: int = 0
    unanswered: int = 0
    # What is open after it, by the name of the status; and what is still to be given back.
    open: dict[str, int] = field(default_factory=dict)
    owed: int = 0

    @property
    def is_clear(self) -> bool:
        """Whether everything was seen, and nothing is left but what waits for customers."""
        missed = self.cut_short or self.unanswered or self.owed
        return not missed and not self.open.keys() & {"UNKNOWN", "REVIEW"}
