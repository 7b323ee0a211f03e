"""Who may do what: every route of the server x every kind of credential. The rule is stated once, in ``RULES``.

The routes are read from the code (``routes``), so that what is added there is in the matrix; a tree or a path that no
rule is given for turns these tests red.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable
from typing import Any

import pytest
from badinputs import World
from credential_kinds import COVERED_BY_V2, KINDS, Kind, People
from routes import METHODS, OURS, UNKNOWN, Route, every_route, leaves, s3_routes, trees, v1_children
from s3raw import Answer, User, Wire
from server import CREDENTIALS

from aisobj.errors import ERRORS
from aisobj.protocol.operations import OPERATIONS
from aisobj.s3.bucket import BucketResource
from aisobj.s3.object import ObjectResource
from aisobj.s3.service import ServiceResource

#: What must be so of an answer: "" if it is.
Judge = Callable[[Answer, Route, Kind], str]


def signed_only(answer: Answer, route: Route, kind: Kind) -> str:
    """Whoever signs rightly is let in; nobody else is, and all that anyone else learns is what is wrong with the
    signature: AIStore's clients take 401 for "who are you?"."""
    if not kind.code:
        return "" if not refuses(answer) else "is refused"
    status = ERRORS[kind.code][0]
    unsigned = route.tree == "v1" and kind.code in ("AccessDenied", "InvalidArgument")
    if answer.status != status and not (unsigned and answer.status == 401):
        return "is let in" if not refuses(answer) else f"is refused with {answer.status}, not {status}"
    if route.tree != "v1" and answer.body and answer.code != kind.code:
        return f"is refused with {answer.code}, not {kind.code}"
    return ""


def anyone(answer: Answer, route: Route, kind: Kind) -> str:
    """GET and HEAD, and nothing else."""
    if route.method not in ("GET", "HEAD"):
        return "" if answer.status == 405 else f"is a write, and answered with {answer.status}"
    return "" if answer.status == 200 else "is refused"


def word_for_anyone(answer: Answer, route: Route, kind: Kind) -> str:
    """As ``anyone``; more than one word is for the machine itself, and for who signs."""
    found = anyone(answer, route, kind)
    if not found and kind.code and route.method == "GET" and answer.body != b"ready\n":
        return "tells too much"
    return found


def operators_only(answer: Answer, route: Route, kind: Kind) -> str:
    """From another machine: as ``signed_only``, for reads."""
    if route.method not in ("GET", "HEAD"):
        return anyone(answer, route, kind)
    return signed_only(answer, route, kind)


def nobody_at_all(answer: Answer, route: Route, kind: Kind) -> str:
    """A preflight is refused whoever asks."""
    return "" if answer.status in (400, 403) else "is answered"


#: Every path of the server, by the tree that it is in, and who may ask there. From another machine.
RULES: dict[str, Judge] = {
    "s3": signed_only,
    "root": signed_only,
    "v1": signed_only,
    "-/health": anyone,
    "-/ready": word_for_anyone,
    "metrics": operators_only,
}


def judge(answer: Answer, route: Route, kind: Kind, rules: dict[str, Judge] = RULES) -> str:
    if route.method == "OPTIONS" and route.tree in ("s3", "root"):
        return nobody_at_all(answer, route, kind)
    return rules[route.tree](answer, route, kind)


#: These try every method that there is; the others those that something answers to.
THOROUGH = ("none", "v4: wrong secret", "presigned: expired", "v4")

PIPELINED = 20

#: Refusals that have the status of other errors.
REFUSALS = {"AuthorizationHeaderMalformed", "AuthorizationQueryParametersError", "InvalidToken"}


def refuses(answer: Answer) -> bool:
    return answer.status in (401, 403) or (
        answer.headers.get("content-type") == "application/xml" and answer.code in REFUSALS
    )


def ask_all(endpoint: str, requests: list[tuple[bytes, str]]) -> list[Answer]:
    """Many requests (with their methods), a few at a time over as few connections as the server allows."""
    answers: list[Answer] = []
    while len(answers) < len(requests):
        with Wire(endpoint) as wire:
            kept = True
            while kept and len(answers) < len(requests):
                some = requests[len(answers) : len(answers) + PIPELINED]
                wire.send(b"".join(request for request, _ in some))
                for _, method in some:
                    answers.append(wire.answer(method))
                    kept = answers[-1].headers.get("connection") != "close"
                    if not kept:
                        assert wire.closed()  # and what follows was not looked at
                        break
    return answers


def people_of(server: Any) -> People:
    alice, bob = (User(*CREDENTIALS[name]) for name in ("alice", "bob"))
    return People(server.endpoint, alice, bob)


def violations(people: People, routes: Iterable[Route], kind: Kind, rules: dict[str, Judge] = RULES) -> list[str]:
    """What is not as the rules have it."""
    asked = list(routes)
    answers = ask_all(people.endpoint, [(kind.request(people, route), route.method) for route in asked])
    found = []
    for route, answer in zip(asked, answers, strict=True):
        if said := judge(answer, route, kind, rules):
            found.append(f"{route.method} {route.target} {said}: {answer.status} {answer.body[:200]!r}")
    return found


#: On the machine itself nobody need sign to look at what runs there.
AT_HOME = {**RULES, "metrics": anyone, "-/ready": anyone}


def test_every_path_has_a_rule() -> None:
    assert set(RULES) == trees() | leaves() | {"root"}


def test_every_operation_that_is_implemented_is_served_and_no_other() -> None:
    handlers = [*ServiceResource.handlers, *BucketResource.handlers, *ObjectResource.handlers]
    assert sorted(handlers) == sorted(op.name for op in OPERATIONS.values() if op.implemented)


def test_every_route_is_in_the_matrix() -> None:
    routes = set(every_route("bucket", "k"))
    assert {route.tree for route in routes} == set(RULES)
    for name, resource in v1_children().items():
        methods = {route.method for route in routes if route.target.startswith(f"/v1/{name}")}
        assert methods >= {method.decode() for method in resource.handlers}
    assert len(routes) > 800


@pytest.mark.parametrize("name", [name for name, kind in KINDS.items() if kind.code])
def test_who_is_refused_everywhere(name: str, world: World, signed_server: Any) -> None:
    routes = every_route(world.bucket, "kept", METHODS if name in THOROUGH else OURS)
    assert violations(people_of(signed_server), routes, KINDS[name], AT_HOME) == []
    world.check()


@pytest.mark.parametrize("name", [name for name, kind in KINDS.items() if not kind.code])
def test_who_is_let_in_everywhere(name: str, signed_server: Any, signed_bucket: str, signed: Any) -> None:
    assert signed.ask("PUT", f"/s3/{signed_bucket}/stays", body=b"x").status == 200  # so that the bucket does, too
    routes = [
        route
        for route in every_route(signed_bucket, "k", METHODS if name in THOROUGH else OURS)
        if not name.startswith("v2") or covered_by_v2(route)
    ]
    assert violations(people_of(signed_server), routes, KINDS[name], AT_HOME) == []


def covered_by_v2(route: Route) -> bool:
    """botocore knows the sub-resource, or nobody does."""
    sub_resource = route.target.partition("?")[2].partition("=")[0]
    return not sub_resource or route.tree == "v1" or sub_resource in (*COVERED_BY_V2, *UNKNOWN)


def test_an_open_server_lets_anyone_in_and_the_matrix_would_notice(world: World, server: Any) -> None:
    """Which is the negative control: who forgets to look at a signature is found out on every route."""
    people = people_of(server)
    routes = [route for route in s3_routes(world.bucket, "k") if route.method != "OPTIONS"]
    anybody = Kind("", KINDS["none"].request)
    assert violations(people, routes, anybody) == []
    for name in ("none", "v4: wrong secret", "presigned: expired"):
        assert len(violations(people, routes, KINDS[name])) == len(routes)


def own_address() -> str:
    """Another address of this machine than loopback."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("198.51.100.1", 9))  # nothing is sent
        except OSError:
            return ""
        return str(probe.getsockname()[0])


def test_what_operators_ask_is_signed_on_other_machines(make_server: Any) -> None:
    address = own_address()
    if not address or address.startswith("127."):
        pytest.skip("this machine has no address but loopback")
    server = make_server(credentials=CREDENTIALS, listen=(f"tcp:0:interface={address}",))
    people = people_of(server)
    routes = [route for route in every_route("bucket", "k") if route.tree not in ("s3", "root", "v1")]
    for name, kind in KINDS.items():
        if "host" not in name:
            assert violations(people, routes, kind) == [], name
    assert violations(people, routes, KINDS["none"], AT_HOME)  # at home it would be let in
