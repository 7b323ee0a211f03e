"""Canonical forms against their definition, and the time they take."""

from __future__ import annotations

import time
from urllib.parse import quote, quote_from_bytes, unquote_plus, unquote_to_bytes

from hypothesis import given, settings
from hypothesis import strategies as st

from aisobj import signing

# --- canonical forms ---


def reference_query(query: str) -> bytes:
    pairs = []
    for piece in query.split("&"):
        if piece:
            name, _, value = piece.partition("=")
            pairs.append(
                tuple(quote(unquote_plus(part, "latin-1"), safe="", encoding="latin-1") for part in (name, value))
            )
    return "&".join(f"{name}={value}" for name, value in sorted(pairs)).encode()


@given(st.text("aZ09-._~ +/%&=?:\x00\xff2Ff5", max_size=30))
@settings(max_examples=500, deadline=None)
def test_any_query_is_canonical_as_by_definition(query: str) -> None:
    pairs = signing.canonical_pairs(query.encode("latin-1"))
    assert signing.canonical_query(pairs) == reference_query(query)
    for name, value in pairs:
        assert signing.decode(name) == unquote_plus(name.decode(), "latin-1").encode("latin-1")
        assert quote_from_bytes(signing.decode(value), safe="").encode() == value


@given(st.text("aZ09-._~ +/%&=?:\x00\xff2Ff5", max_size=30))
@settings(max_examples=300, deadline=None)
def test_any_path_is_canonical_as_by_definition(path: str) -> None:
    canonical = signing.canonical_path(path.encode("latin-1"))
    assert signing.canonical_path(canonical) == canonical
    # With the slash that is left escaped taken for one, it is UriEncode of what the path stands for.
    decoded = unquote_to_bytes(path.encode("latin-1"))
    assert canonical.replace(b"%2F", b"/") == quote_from_bytes(decoded, safe="/").encode()


def test_a_hostile_target_takes_time_in_proportion_to_its_length() -> None:
    """A nested quantifier would take for ever; 64 KiB is more than a head may have."""
    began = time.monotonic()
    for hostile in (b"a" * 65536 + b"%", b"%41" * 20000, b"a=" * 32768, b"%2F" * 20000 + b"!", b"=&" * 32768):
        signing.canonical_path(hostile)
        signing.canonical_query(signing.canonical_pairs(hostile))
    assert time.monotonic() - began < 5
