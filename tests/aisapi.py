"""AIStore's native API over the wire."""

from __future__ import annotations

import json
from typing import Any

import pytest
from s3fixtures import fresh_name
from s3raw import Answer, Sender


class Api:
    """Action messages to one server."""

    def __init__(self, raw: Sender) -> None:
        self.raw = raw

    def act(self, method: str, target: str, action: str, value: Any = None, accept: str = "") -> Answer:
        headers = [("content-type", "application/json"), *([("accept", accept)] if accept else [])]
        message = json.dumps({"action": action, "name": "", "value": value}).encode()
        return self.raw.ask(method, target, headers, message, length=len(message))

    def ask(self, method: str, target: str, body: bytes = b"", **headers: str) -> Answer:
        fields = [(name.replace("_", "-"), value) for name, value in headers.items()]
        return self.raw.ask(method, target, fields, body)

    def create(self, props: Any = None) -> str:
        name = fresh_name()
        assert self.act("POST", f"/v1/buckets/{name}?provider=ais", "create-bck", props).status == 200
        return name

    def props(self, bucket: str) -> dict[str, Any]:
        answer = self.ask("HEAD", f"/v1/buckets/{bucket}")
        assert answer.status == 200
        found: dict[str, Any] = json.loads(answer.headers["ais-bucket-props"])
        return found

    def put(self, bucket: str, *keys: str) -> None:
        for key in keys:
            assert self.ask("PUT", f"/v1/objects/{bucket}/{key}", key.encode()).status == 200

    def names(self, bucket: str, **message: Any) -> list[str]:
        answer = self.act("GET", f"/v1/buckets/{bucket}", "list", message)
        assert answer.status == 200, answer
        return [entry["name"] for entry in json.loads(answer.body)["entries"]]


@pytest.fixture(scope="module")
def api(raw: Sender) -> Api:
    return Api(raw)


def error(answer: Answer) -> tuple[int, str, str]:
    """Status, type and message, after a look at the rest of the document."""
    assert answer.headers["content-type"] == "application/json"
    document = json.loads(answer.headers.get("hdr-error") or answer.body)
    assert document["status"] == answer.status
    assert set(document) == {"tcode", "message", "method", "url_path", "remote_addr", "caller", "node", "status"}
    return answer.status, document["tcode"], document["message"]
