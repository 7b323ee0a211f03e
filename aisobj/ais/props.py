"""A bucket's properties in AIStore's form (``cmn/api.go``, ``Bprops``), there and back.

What this server does not do is there all the same, switched off, so that AIStore's clients find the document they
know. Switching it on is refused; a property that AIStore does not have either is unknown.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from aisobj.ais.errors import not_implemented
from aisobj.checksums import CHECKSUM_TYPES
from aisobj.errors import S3Error
from aisobj.model import Bucket, BucketProps

#: AIStore's name -> field of :class:`~aisobj.model.BucketProps`. All but checksum.type are booleans.
SETTABLE: Mapping[str, str] = {
    "checksum.type": "checksum_type",
    "checksum.validate_cold_get": "validate_cold_get",
    "checksum.validate_warm_get": "validate_warm_get",
    "checksum.validate_obj_move": "validate_obj_move",
    "checksum.enable_read_range": "enable_read_range",
    "versioning.enabled": "versioning_enabled",
    "versioning.validate_warm_get": "versioning_validate_warm_get",
}

_READ_ONLY = frozenset({"provider", "bid", "created", "renamed"})

#: Every permission: this server knows none but "may come in" (``api/apc/access.go``, ``AccessAll``).
_ALL_ACCESS = str(2**64 - 1)


def to_json(bucket: Bucket) -> dict[str, Any]:
    """The ``Bprops`` document."""
    props = bucket.props
    return {
        "provider": "ais",
        "backend_bck": {"name": "", "provider": ""},
        "write_policy": {"data": "", "md": ""},
        "checksum": {
            "type": props.checksum_type,
            "validate_cold_get": props.validate_cold_get,
            "validate_warm_get": props.validate_warm_get,
            "validate_obj_move": props.validate_obj_move,
            "enable_read_range": props.enable_read_range,
        },
        "versioning": {
            "enabled": props.versioning_enabled,
            "validate_warm_get": props.versioning_validate_warm_get,
            "synchronize": False,
        },
        "ec": {"enabled": False, "objsize_limit": 0, "data_slices": 1, "parity_slices": 1},
        "mirror": {"enabled": False, "copies": 1},
        "lru": {"enabled": False, "dont_evict_time": "0s", "capacity_upd_time": "0s"},
        "access": _ALL_ACCESS,
        "features": "0",
        "bid": str(int.from_bytes(bucket.id[:8], "big")),
        "created": str(bucket.created),
    }


def change(bucket_json: Mapping[str, Any], props: BucketProps, wanted: object) -> BucketProps:
    """``props`` with what ``wanted``, a partial ``Bprops``, says.

    :param bucket_json: of :func:`to_json`; what differs from it and cannot be set is refused.
    :raises S3Error: InvalidRequest (unknown or read-only property, a bad value), NotImplemented.
    """
    if not isinstance(wanted, dict):
        raise S3Error("InvalidRequest", "invalid bucket properties: expecting a JSON object")
    current = dict(flatten(bucket_json))
    changes: dict[str, str | bool] = {}
    for name, value in flatten(wanted):
        field = SETTABLE.get(name)
        if field is not None:
            changes[field] = _checked(name, value)
        elif name in _READ_ONLY:
            raise S3Error("InvalidRequest", f'property "{name}" is readonly')
        elif name not in current:
            raise S3Error("InvalidRequest", f"unknown property {json.dumps(name)}")
        elif value != current[name]:
            raise not_implemented(f'setting the property "{name}"')
    return msgspec.structs.replace(props, **changes)


def reset(props: BucketProps, default: BucketProps) -> BucketProps:
    """AIStore's properties as those of a new bucket. S3's versioning status is none of them."""
    return msgspec.structs.replace(default, versioning_status=props.versioning_status)


def flatten(document: Mapping[str, Any], prefix: str = "", depth: int = 2) -> Iterator[tuple[str, Any]]:
    """``{"checksum": {"type": "md5"}}`` -> ``checksum.type``, ``md5``; null says nothing.

    :param depth: of objects within each other that are looked into; no property is deeper.
    """
    for name, value in document.items():
        if isinstance(value, dict) and depth:
            yield from flatten(value, f"{prefix}{name}.", depth - 1)
        elif value is not None:
            yield prefix + name, value


def _checked(name: str, value: object) -> str | bool:
    if name == "checksum.type":
        if value not in CHECKSUM_TYPES:
            known = " ".join(CHECKSUM_TYPES)
            raise S3Error("InvalidRequest", f"invalid checksum type {_shown(value)} (expecting [{known}])")
        return str(value)
    if not isinstance(value, bool):
        raise S3Error("InvalidRequest", f'invalid value {_shown(value)} for property "{name}": expecting a boolean')
    return value


def _shown(value: object) -> str:
    return "of several" if isinstance(value, (list, dict)) else json.dumps(value)
