"""Who is let through to whom in a cluster, by its network policies."""

from __future__ import annotations

from typing import Any

Manifest = dict[str, Any]
Labels = dict[str, str]
NAME = "app.kubernetes.io/name"


def pod(manifests: list[Manifest], name: str) -> Manifest:
    """The template of the pods of this name."""
    (found,) = (
        one["spec"]["template"]
        for one in manifests
        if one["kind"] in ("Deployment", "StatefulSet", "Job") and one["metadata"]["name"] == name
    )
    return dict(found)


def is_reached(manifests: list[Manifest], source: str, host: str, port: int) -> bool:
    """Whether pods of a name come through to a port of a Service. Raises where it has no pods."""
    (service,) = (
        one["spec"]
        for one in manifests
        if one["kind"] == "Service" and one["metadata"]["name"] == host
    )
    (ending,) = (each for each in service["ports"] if each["port"] == port)
    target = pod(manifests, service["selector"][NAME])
    theirs = target["metadata"]["labels"]
    assert service["selector"].items() <= theirs.items()
    ports = [each for one in target["spec"]["containers"] for each in one["ports"]]
    named = {each["name"]: each["containerPort"] for each in ports}
    at = ending.get("targetPort", port)
    at = named.get(at, at)
    assert at in named.values(), f"nothing listens on {at} of {host}"
    ours = pod(manifests, source)["metadata"]["labels"]
    policies = [one["spec"] for one in manifests if one["kind"] == "NetworkPolicy"]
    leaves = _allows(policies, "egress", "to", ours, theirs, at)
    return leaves and _allows(policies, "ingress", "from", theirs, ours, at)


def _allows(
    policies: list[Manifest], way: str, ends: str, own: Labels, other: Labels, port: int
) -> bool:
    """Whether a pod with these labels may, one way; what policies allow adds up."""
    chosen = [policy for policy in policies if _selects(policy["podSelector"], own)]
    chosen = [policy for policy in chosen if way.capitalize() in policy["policyTypes"]]
    return not chosen or any(
        _names(rule, ends, other) and _takes(rule, port)
        for policy in chosen
        for rule in policy.get(way, ())
    )


def _names(rule: Manifest, ends: str, labels: Labels) -> bool:
    peers = rule.get(ends, [{"podSelector": {}}])
    return any(
        "namespaceSelector" not in peer and _selects(peer["podSelector"], labels) for peer in peers
    )


def _takes(rule: Manifest, port: int) -> bool:
    return any(each["port"] == port and "protocol" not in each for each in rule["ports"])


def _selects(selector: Manifest, labels: Labels) -> bool:
    for one in selector.get("matchExpressions", ()):
        assert one["operator"] == "In"
        if labels.get(one["key"]) not in one["values"]:
            return False
    wanted: Labels = selector.get("matchLabels", {})
    return wanted.items() <= labels.items()
