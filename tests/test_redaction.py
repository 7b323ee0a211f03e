"""What opens something goes out of a text, wherever it stands in it; the rest stays."""

from __future__ import annotations

import time
from collections.abc import Callable
from urllib.parse import quote, unquote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aisobj.web.redaction import redacted

SECRET = "5ecre7+of/a1i=e"
V4 = "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIA%2F20260101%2Fr%2Fs3&X-Amz-Date=20260101T000000Z"
URL = f"http://h:8080/s3/b/k?{V4}&X-Amz-SignedHeaders=host&X-Amz-Signature={SECRET}"
SHOWN = URL.replace(SECRET, "-").replace("AKIA%2F20260101%2Fr%2Fs3", "-")
V2 = f"http://h/s3/b/k?AWSAccessKeyId=AKIA&Signature={quote(SECRET, safe='')}&Expires=1"


def twice(text: str) -> str:
    return quote(quote(text, safe=""), safe="")


def every_byte(text: str) -> str:
    return "".join(f"%{ord(one):02x}" for one in text)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (URL, SHOWN),
        (V2, "http://h/s3/b/k?AWSAccessKeyId=-&Signature=-&Expires=1"),
        (URL.replace("&", ";"), SHOWN.replace("&", ";")),
        (URL.replace("&", "&amp;"), SHOWN.replace("&", "&amp;")),
        (URL.replace("&X-Amz-Signature", "&+X-Amz-Signature"), SHOWN.replace("&X-Amz-Signature", "&+X-Amz-Signature")),
        (
            URL.replace("&X-Amz-Signature", "&a=b?X-Amz-Signature"),
            SHOWN.replace("&X-Amz-Signature", "&a=b?X-Amz-Signature"),
        ),
        (URL.replace("k?", "k#"), SHOWN.replace("k?", "k#")),
        (f"curl {URL} (x; y)", f"curl {SHOWN} (x; y)"),
        (f"/s3/b/k%3F{URL.partition('?')[2]}", f"/s3/b/k%3F{SHOWN.partition('?')[2]}"),
        (f"/?next={quote(URL, safe='')}&page=2", f"/?next={quote(SHOWN, safe='')}&page=2"),
        (f"/?next={twice(URL)}&page=2", f"/?next={twice(SHOWN)}&page=2"),
        (f"/?next={quote(twice(URL))}&page=2", f"/?next={quote(twice(SHOWN))}&page=2"),
        (
            f"/{quote(V2, safe='')}/k",
            "/http%3A%2F%2Fh%2Fs3%2Fb%2Fk%3FAWSAccessKeyId%3D-%26Signature%3D-%26Expires%3D1/k",
        ),
        (f"X-Amz-%53ignature={SECRET}", "X-Amz-%53ignature=-"),
        (f"{every_byte('x-amz-signature=')}{SECRET}", f"{every_byte('x-amz-signature=')}-"),
        (f"{every_byte(every_byte('x-amz-signature='))}{SECRET}", f"{every_byte(every_byte('x-amz-signature='))}-"),
        (f'{{"x-amz-security-token": "{SECRET}", "a": 1}}', '{"x-amz-security-token": "-", "a": 1}'),
        (
            f"AWS4-HMAC-SHA256 SignedHeaders=host, Signature={SECRET}",
            "AWS4-HMAC-SHA256 SignedHeaders=host, Signature=-",
        ),
        # A value that somebody has escaped, or took its plus for a blank and then escaped that
        ("?Signature=5ecre7%20of%2Fa1i%3De&a=1", "?Signature=-&a=1"),
        ("?u=x%3FSignature%3D5ecre7%2520of%252F&a=1", "?u=x%3FSignature%3D-&a=1"),
    ],
)
def test_a_secret_goes_and_nothing_else(text: str, shown: str) -> None:
    assert redacted(text) == shown
    assert redacted(shown) == shown


@pytest.mark.parametrize(
    "text",
    [
        "",
        "-",
        "/s3/bucket?list-type=2&prefix=a%2Fb&delimiter=%2F",
        "/s3/bucket/key%20with%20blanks%25",
        "/s3/bucket/signature/of/a.pdf?response-content-type=a%2Fb",
        "/s3/bucket/signature=1/part-0001.parquet",
        "/s3/bucket/a%2Fsignature=1%2Fpart",
        "X-Amz-SignedHeaders=host;x-amz-security-token&a=1",
        "%2573ignature",
        "%zz%=%25",
        "é\xff",
    ],
)
def test_what_is_no_secret_stays(text: str) -> None:
    assert redacted(text) == text


ESCAPES: dict[str, Callable[[str], str]] = {
    "not": lambda text: text,
    "once": lambda text: quote(text, safe=""),
    "but for slashes": quote,
    "each byte": every_byte,
}
NAMES = ("Signature", "X-Amz-Signature", "x-amz-security-token", "X-AMZ-CREDENTIAL", "AWSAccessKeyId")


@given(
    name=st.sampled_from(NAMES),
    before=st.sampled_from(["", "?", "&", ";", "#", " ", "?a=b&", "http://h/k?a=%41&", "%25", "&+", "a=", '"']),
    sign=st.sampled_from(["=", ":", ": ", " = ", '="']),
    after=st.sampled_from(["", "&a=1", " x", ";", '"', "#f", "%26"]),
    ways=st.lists(st.sampled_from(sorted(ESCAPES)), max_size=3),
)
@settings(max_examples=500, deadline=None)
def test_no_way_to_escape_it_hides_a_secret(name: str, before: str, sign: str, after: str, ways: list[str]) -> None:
    text = f"{before}{name}{sign}5ecre7{after}"
    for at, way in enumerate(ways):
        if way != "each byte" or at < 2:  # escaping escapes byte by byte twice over is no encoder's way
            text = ESCAPES[way](text)
    shown = redacted(text)
    for _ in range(4):
        assert "5ecre7" not in shown
        shown = unquote(shown)


def test_a_hostile_text_takes_time_in_proportion_to_its_length() -> None:
    """A nested quantifier would take for ever; 64 KiB is more than a head may have."""
    began = time.process_time()
    for hostile in ("%25", "%", "25", "%73%69", "signature%3D", "signature%20", "x-amz-", "%253d", "signature=%26"):
        redacted("%" + hostile * (65536 // len(hostile)))
        redacted("signature%253D" + hostile * (65536 // len(hostile)))
    assert time.process_time() - began < 5
