"""What a browser can be made to send: from a page whose name was bound to this machine (DNS rebinding), from another
site, from nowhere (``Origin: null``); and what it asks before it lets a page do so (CORS)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from badinputs import BODY, World
from routes import METHODS, Route, every_route
from s3raw import Answer, Sender
from test_s3_auth import without_ids

READS = ("GET", "HEAD")

#: Whose page it may be: headers as browsers send them.
FOREIGN = {
    "another site": [("Origin", "https://evil.example"), ("Sec-Fetch-Site", "cross-site")],
    "another site, no Sec-Fetch-Site": [("Origin", "http://evil.example")],
    "another site, no Origin": [("Sec-Fetch-Site", "cross-site")],
    "another host of the same site": [("Sec-Fetch-Site", "same-site")],
    "a word that is still to be invented": [("Sec-Fetch-Site", "somewhere")],
    "a sandboxed frame, a file, a redirect": [("Origin", "null")],
    "an empty Origin": [("Origin", "")],
    "a form": [("Origin", "null"), ("Content-Type", "text/plain"), ("Sec-Fetch-Mode", "navigate")],
    "a form of another site": [("Origin", "https://evil.example"), ("Content-Type", "multipart/form-data; boundary=b")],
    "our address in another scheme": [("Origin", "ftp://{host}")],
    "another port": [("Origin", "http://127.0.0.1:1")],
    "our address in another's name": [("Origin", "http://{host}.evil.example")],
    "our address as a user's name": [("Origin", "http://{host}@evil.example")],
}

#: What a rebound name looks like, and what tries to look like ours.
REBOUND = [
    "evil.example",
    "evil.example:{port}",
    "localhost.evil.example",
    "127.0.0.1.evil.example",
    "127.1x",
    "0x7f.1",
]


def filled(fields: list[tuple[str, str]], host: str) -> list[tuple[str, str]]:
    return [(name, value.replace("{host}", host)) for name, value in fields]


def s3_and_v1(world: World) -> list[Route]:
    """Every route that can do something; what operators ask is below."""
    routes = every_route(world.bucket, "kept")
    return [route for route in routes if route.tree in ("s3", "root", "v1") and route.method != "OPTIONS"]


def each(sender: Sender, routes: list[Route], fields: list[tuple[str, str]], judge: Callable[[Answer], bool]) -> None:
    """Ask them all over one connection at a time."""
    wire = sender.connect()
    for route in routes:
        wire.send(sender.request(route.method, route.target, fields))
        answer = wire.answer(route.method)
        assert judge(answer), (route, fields, answer)
        if answer.headers.get("connection") == "close":
            wire.close()
            wire = sender.connect()
    wire.close()


def denied(answer: Answer) -> bool:
    return answer.status == 403 and (not answer.body or b"AccessDenied" in answer.body)


def let_in(answer: Answer) -> bool:
    return answer.status not in (401, 403)


@pytest.mark.parametrize("who", FOREIGN)
def test_no_write_of_an_open_server_is_for_another_site(world: World, who: str) -> None:
    writes = [route for route in s3_and_v1(world) if route.method not in READS]
    assert len(writes) > 400
    each(world.open, writes, filled(FOREIGN[who], world.open.host), denied)
    world.check()


def test_no_second_origin_hides_behind_our_own(world: World) -> None:
    own, foreign = ("Origin", f"http://{world.open.host}"), ("Origin", "https://evil.example")
    same, cross = ("Sec-Fetch-Site", "same-origin"), ("Sec-Fetch-Site", "cross-site")
    for fields in ([own, foreign], [foreign, own], [same, cross], [cross, same], [own, same, cross]):
        answer = world.open.ask("PUT", f"{world.path}/k", fields, b"x")
        assert (answer.status, answer.code) == (400, "InvalidRequest"), fields
    world.check()


@pytest.mark.parametrize("host", REBOUND)
def test_nothing_of_an_open_server_is_for_a_page_that_rebound_its_name(world: World, host: str) -> None:
    name = host.replace("{port}", world.open.host.rpartition(":")[2])
    own = [("Host", name), ("Origin", f"http://{name}"), ("Sec-Fetch-Site", "same-origin")]
    each(world.open, s3_and_v1(world), own, denied)
    world.check()


def test_the_same_requests_of_our_own_pages_are_let_in(world: World) -> None:
    """The tests above can fail: it is the headers that they are about."""
    host = world.open.host
    writes = [route for route in s3_and_v1(world) if route.target.count("kept") and route.method == "PUT"]
    for fields in (
        [],
        [("Origin", f"http://{host}")],
        [("Sec-Fetch-Site", "same-origin")],
        [("Sec-Fetch-Site", "none")],
    ):
        each(world.open, writes, fields, let_in)
    assert world.open.ask("GET", f"{world.path}/kept").body == b""  # one of them was PutObject
    assert world.open.ask("PUT", f"{world.path}/kept", body=BODY).status == 200


def test_reads_of_another_site_are_answered_and_no_page_may_look_at_them(world: World) -> None:
    """Browsers send them for images and links too. Whether a page gets to see the answer, these headers would say."""
    fields = FOREIGN["another site"]
    answer = world.open.ask("GET", f"{world.path}/kept", fields)
    assert (answer.status, answer.body) == (200, BODY)
    for sender in (world.open, world.signed):
        for method, target in (("GET", f"{world.path}/kept"), ("HEAD", world.path), ("GET", f"{world.path}/missing")):
            headers = sender.ask(method, target, fields).headers
            assert not [name for name in headers if name.startswith("access-control-")]


@pytest.mark.parametrize("fields", [[("Host", "evil.example")], []], ids=["rebound", "own name"])
def test_what_operators_ask_is_not_for_a_page_that_rebound_its_name(
    world: World, fields: list[tuple[str, str]]
) -> None:
    for sender in (world.open, world.unsigned):
        metrics = sender.ask("GET", "/metrics", fields)
        ready = sender.ask("GET", "/-/ready", fields)
        if fields:
            assert denied(metrics)
            assert ready.body == b"ready\n"
        else:
            assert metrics.status == 200
            assert ready.body.startswith(b"{")


def test_a_server_of_any_name_takes_no_writes_of_other_sites_either(make_server: Any) -> None:
    sender = Sender(make_server("--server-name", "*").endpoint)
    assert sender.ask("PUT", "/s3/bucket", [("Host", "any.example")]).status == 200
    for fields in FOREIGN.values():
        mine = [("Host", "any.example"), *filled(fields, "any.example")]
        assert denied(sender.ask("PUT", "/s3/bucket/k", mine, b"x")), fields
    own = [("Host", "any.example"), ("Origin", "https://any.example")]
    assert sender.ask("PUT", "/s3/bucket/k", own, b"x").status == 200


# CORS: what AWS answers where a bucket has no configuration


def preflight(origin: str | None = "https://evil.example", method: str | None = "PUT") -> list[tuple[str, str]]:
    fields = [("Origin", origin), ("Access-Control-Request-Method", method)]
    return [(name, value) for name, value in fields if value is not None]


@pytest.mark.parametrize("method", ["GET", "PUT", None])
def test_a_preflight_is_refused_and_tells_nothing(world: World, method: str | None) -> None:
    for sender in (world.open, world.unsigned, world.signed):
        answers = [
            without_ids(sender.ask("OPTIONS", target, preflight(method=method)))
            for target in (
                f"{world.path}/kept",
                f"{world.path}/missing",
                world.path,
                "/s3/no-such-bucket",
                "/s3",
                "/a/b",
            )
        ]
        assert answers[0].code == "AccessForbidden"
        assert answers[0].status == 403
        assert answers[0].element("Message") == "CORSResponse: CORS is not enabled for this bucket."
        assert answers[0].element("Method") == (method or "OPTIONS")
        resources = {a.body.partition(b"<Resource>")[2].partition(b"</Resource>")[0] for a in answers}
        assert len(resources) in (1, len(answers))  # at most what was asked for is named
        assert len({a.body.replace(b"/s3", b"").partition(b"<Resource>")[0] for a in answers}) == 1
        assert not [name for a in answers for name in a.headers if name.startswith("access-control-")]
    world.check()


def test_a_preflight_without_an_origin_is_a_bad_request(world: World) -> None:
    for sender in (world.open, world.unsigned):
        answer = sender.ask("OPTIONS", f"{world.path}/kept", preflight(origin=None))
        assert (answer.status, answer.code) == (400, "BadRequest")
        assert answer.element("Message") == "Insufficient information. Origin request header needed."


def test_a_preflight_does_nothing_whatever_its_query_says(world: World) -> None:
    for target in (f"{world.path}/kept?uploads", f"{world.path}?delete", f"{world.path}?cors", f"{world.path}/%FF"):
        assert world.open.ask("OPTIONS", target, preflight(), b"<Delete/>").code == "AccessForbidden"
    world.check()


def test_every_method_is_among_those_that_are_tried() -> None:
    """httptools has no list of llhttp's methods: this is what it takes."""
    from aisobj.errors import S3Error  # noqa: PLC0415
    from aisobj.web.head import parse_head  # noqa: PLC0415
    from aisobj.web.limits import Limits  # noqa: PLC0415

    for method in METHODS:
        parse_head(f"{method} / HTTP/1.1\r\nHost: x\r\n\r\n".encode(), Limits())
    with pytest.raises(S3Error):
        parse_head(b"FOO / HTTP/1.1\r\nHost: x\r\n\r\n", Limits())
