"""All targets by name; a module for each family."""

from __future__ import annotations

from collections.abc import Mapping

from fuzzing.target import Target
from fuzzing.targets import (
    bodies,
    conditions,
    documents,
    heads,
    listings,
    metadata,
    names,
    native,
    plain_requests,
    queries,
    signatures,
    stored,
    users,
)

TARGETS: Mapping[str, Target] = {
    target.name: target
    for family in (
        documents, signatures, bodies, heads, plain_requests, conditions, names, queries, metadata, listings, native,
        stored, users,
    )
    for target in family.TARGETS
}  # fmt: skip
