"""What Prometheus would read."""

from __future__ import annotations

from prometheus_client import REGISTRY


def sample(name: str, **labels: str) -> float:
    """The value of a sample; 0 for one that is not there yet."""
    return REGISTRY.get_sample_value(name, labels) or 0.0
