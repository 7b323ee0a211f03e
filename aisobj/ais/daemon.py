"""What AIStore's clients ask about the cluster: a map of one node, its health, and jobs, of which there are none.

Source: AIStore ``core/meta/smap.go``, ``core/meta/snode.go``; the calls of the Python SDK 2.0.0.
"""

from __future__ import annotations

import xxhash

from aisobj.ais.base import Call, NativeResource
from aisobj.ais.errors import NODE_ID, not_implemented
from aisobj.errors import S3Error

#: ``cos.MLCG32``: the seed of the digest by which AIStore's clients choose a target.
_SEED = 1103515245


async def daemon(call: Call) -> None:
    """``GET daemon?what=smap``."""
    what = call.query.get("what") or ""
    if what != "smap":
        raise not_implemented(f'what="{what[:80]}"')
    call.send_json(_smap(call))


async def cluster(call: Call) -> None:
    """``GET cluster?what=``: the map again, or the jobs."""
    what = call.query.get("what") or ""
    await call.message()
    if what == "smap":
        call.send_json(_smap(call))
    elif what in ("status_all", "running_all"):
        call.send_json([])
    else:
        raise not_implemented(f'what="{what[:80]}"')


async def health(call: Call) -> None:
    """200, unless nothing can be written."""
    if call.store.read_only:
        raise S3Error("ServiceUnavailable")
    call.send()


def _smap(call: Call) -> dict[str, object]:
    """``Smap``: one node that is proxy and target, reached as the client has reached it."""
    request = call.request
    authority = (request.header(b"host") or b"").decode("latin-1")
    scheme = "https" if request.secure else "http"
    host, _, port = authority.rpartition(":") if not authority.endswith("]") else (authority, "", "")
    net = {
        "node_hostname": host or authority,
        "daemon_port": port if host else "",
        "direct_url": f"{scheme}://{authority}",
    }
    node = {
        "daemon_id": NODE_ID,
        "public_net": net,
        "intra_control_net": net,
        "intra_data_net": net,
        "flags": 0,
        "id_digest": xxhash.xxh64(NODE_ID.encode(), seed=_SEED).intdigest(),
    }
    proxy = {**node, "daemon_type": "proxy"}
    return {
        "tmap": {NODE_ID: {**node, "daemon_type": "target"}},
        "pmap": {NODE_ID: proxy},
        "proxy_si": proxy,
        "version": "1",
        "uuid": NODE_ID,
        "creation_time": "",
    }


class DaemonResource(NativeResource):
    """``/v1/daemon``."""

    label = "V1Daemon"
    handlers = {b"GET": daemon}


class ClusterResource(NativeResource):
    """``/v1/cluster``."""

    label = "V1Cluster"
    handlers = {b"GET": cluster}


class HealthResource(NativeResource):
    """``/v1/health``."""

    label = "V1Health"
    handlers = {b"GET": health, b"HEAD": health}
