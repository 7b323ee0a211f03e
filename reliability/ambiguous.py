"""Requests that two servers may read differently, each with another one hidden in it: the corpus of ``smuggling``.

Where a body hides a request, that is ``HIDDEN``: it would delete the case's canary. Sources: RFC 9112 sections 2.2, 5,
6 and 7; "HTTP Desync Attacks" (Kettle, 2019) and "HTTP/1.1 must die" (2025); the holes of other servers that
``tests/badinputs.py`` lists.
"""

from __future__ import annotations

from collections.abc import Iterator

#: What a case's text may hold: its path, the Host, and the request that must never be executed.
PATH, HOST, HIDDEN = b"{PATH}", b"{HOST}", b"{HIDDEN}"


def fill(text: bytes, path: bytes, host: bytes) -> bytes:
    """The case for a path of its own."""
    hidden = b"DELETE %b-canary HTTP/1.1\r\nHost: %b\r\n\r\n" % (path, host)
    text = text.replace(HIDDEN, hidden).replace(PATH, path).replace(HOST, host)
    return text.replace(b"{HIDDEN-LENGTH}", b"%d" % len(hidden)).replace(b"{HIDDEN-HEX}", b"%x" % len(hidden))


def _put(*lines: bytes, body: bytes = b"", version: bytes = b"HTTP/1.1", method: bytes = b"PUT") -> bytes:
    head = b"%b {PATH} %b\r\nHost: {HOST}\r\n" % (method, version)
    return head + b"".join(line + b"\r\n" for line in lines) + b"\r\n" + body


_HELLO = b"5\r\nhello\r\n0\r\n\r\n"
_CHUNKED = b"Transfer-Encoding: chunked"
_HIDDEN_LENGTH = b"Content-Length: {HIDDEN-LENGTH}"


def _lengths() -> Iterator[tuple[str, bytes]]:
    yield "a length", _put(_HIDDEN_LENGTH, body=HIDDEN)
    yield "chunks", _put(_CHUNKED, body=b"{HIDDEN-HEX}\r\n{HIDDEN}\r\n0\r\n\r\n")
    yield "CL.TE", _put(_HIDDEN_LENGTH, _CHUNKED, body=b"0\r\n\r\n" + HIDDEN)
    yield "TE.CL", _put(_CHUNKED, b"Content-Length: 4", body=b"{HIDDEN-HEX}\r\n{HIDDEN}\r\n0\r\n\r\n")
    yield "CL.0", _put(b"Content-Length: 0", b"Content-Length: {HIDDEN-LENGTH}", body=HIDDEN)
    yield "0.CL", _put(b"Content-Length: {HIDDEN-LENGTH}", b"Content-Length: 0", body=HIDDEN)
    yield "two equal lengths", _put(_HIDDEN_LENGTH, _HIDDEN_LENGTH, body=HIDDEN)
    for name, value in {
        "list": b"{HIDDEN-LENGTH}, {HIDDEN-LENGTH}",
        "list with 0": b"0, {HIDDEN-LENGTH}",
        "plus": b"+{HIDDEN-LENGTH}",
        "minus": b"-0",
        "leading zeros": b"000{HIDDEN-LENGTH}",
        "blanks": b" \t{HIDDEN-LENGTH} \t",
        "hexadecimal": b"0x{HIDDEN-HEX}",
        "NUL after it": b"{HIDDEN-LENGTH}\0",
        "semicolon": b"{HIDDEN-LENGTH};",
        "fraction": b"{HIDDEN-LENGTH}.0",
        "exponent": b"1e1",
        "underscore": b"1_0",
        "other digits": "１２".encode(),
        "wraps at 2^64": b"18446744073709551621",
        "wraps at 2^32": b"4294967301",
        "nothing": b"",
        "folded": b"\r\n {HIDDEN-LENGTH}",
        "folded to 0": b"{HIDDEN-LENGTH}\r\n 0",
    }.items():
        yield f"length: {name}", _put(b"Content-Length: " + value, body=HIDDEN)
    for name, line in {
        "blank before the colon": b"Content-Length : {HIDDEN-LENGTH}",
        "tab before the colon": b"Content-Length\t: {HIDDEN-LENGTH}",
        "blank before the name": b" Content-Length: {HIDDEN-LENGTH}",
        "underscore in the name": b"Content_Length: {HIDDEN-LENGTH}",
        "NUL in the name": b"Content-Length\0: {HIDDEN-LENGTH}",
        "CR in the name": b"Content-Length\r: {HIDDEN-LENGTH}",
        "no colon": b"Content-Length {HIDDEN-LENGTH}",
        "other spelling": b"cONTENT-lENGTH:{HIDDEN-LENGTH}",
        "after a bare LF": b"X: y\nContent-Length: {HIDDEN-LENGTH}",
        "after a bare CR": b"X: y\rContent-Length: {HIDDEN-LENGTH}",
        "named in Connection": b"Connection: Content-Length\r\nContent-Length: {HIDDEN-LENGTH}",
    }.items():
        yield f"length: {name}", _put(line, body=HIDDEN)


def _codings() -> Iterator[tuple[str, bytes]]:
    both = b"0\r\n\r\n" + HIDDEN
    for name, value in {
        "xchunked": b"xchunked",
        "upper case": b"CHUNKED",
        "blank before": b"  chunked",
        "tab before": b"\tchunked",
        "blank after": b"chunked \t",
        "vertical tab before": b"\x0bchunked",
        "NUL after": b"chunked\0",
        "quoted": b'"chunked"',
        "parameter": b"chunked;q=1",
        "comma after": b"chunked,",
        "comma before": b",chunked",
        "identity": b"identity",
        "chunked, identity": b"chunked, identity",
        "identity, chunked": b"identity, chunked",
        "gzip, chunked": b"gzip, chunked",
        "chunked twice": b"chunked, chunked",
        "nothing": b"",
        "folded": b"\r\n chunked",
        "folded to identity": b"chunked\r\n identity",
        "no-break space": b"\xa0chunked",
    }.items():
        yield f"coding: {name}", _put(b"Transfer-Encoding: " + value, body=both)
        yield f"coding with a length: {name}", _put(b"Transfer-Encoding: " + value, b"Content-Length: 5", body=both)
    for name, line in {
        "two headers": b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
        "two other headers": b"Transfer-Encoding: identity\r\nTransfer-Encoding: chunked",
        "blank before the colon": b"Transfer-Encoding : chunked",
        "tab before the colon": b"Transfer-Encoding\t: chunked",
        "blank before the name": b" Transfer-Encoding: chunked",
        "underscore in the name": b"Transfer_Encoding: chunked",
        "NUL in the name": b"Transfer-Encoding\0: chunked",
        "after a bare LF": b"X: y\nTransfer-Encoding: chunked",
        "after a bare CR": b"X: y\rTransfer-Encoding: chunked",
        "named in Connection": b"Connection: Transfer-Encoding\r\nTransfer-Encoding: chunked",
    }.items():
        yield f"coding: {name}", _put(line, b"Content-Length: 5", body=both)
        yield f"coding alone: {name}", _put(line, body=both)
    yield "HTTP/1.0 with chunks", _put(_CHUNKED, body=both, version=b"HTTP/1.0")
    yield "HTTP/1.0 with chunks, kept", _put(b"Connection: keep-alive", _CHUNKED, body=both, version=b"HTTP/1.0")
    yield "HTTP/1.0 with both", _put(_CHUNKED, _HIDDEN_LENGTH, body=HIDDEN, version=b"HTTP/1.0")
    yield (
        "HTTP/1.0 with a length, kept",
        _put(b"Connection: keep-alive", _HIDDEN_LENGTH, body=HIDDEN, version=b"HTTP/1.0"),
    )


def _chunks() -> Iterator[tuple[str, bytes]]:
    for name, body in {
        "extension": b"5;a=b\r\nhello\r\n0\r\n\r\n",
        "quoted extension": b'5;a="b;c"\r\nhello\r\n0\r\n\r\n',
        "extension of the last": b"5\r\nhello\r\n0;a\r\n\r\n",
        "LF in an extension": b"5;a\nhello\r\n0\r\n\r\n" + HIDDEN,
        "CR in an extension": b"5;a\rb\r\nhello\r\n0\r\n\r\n",
        "long extension": b"5;" + b"x" * 5000 + b"\r\nhello\r\n0\r\n\r\n",
        "a quoted line end": b'5;a="\r\nhello\r\n0\r\n\r\n' + HIDDEN,
        "leading zeros": b"00000005\r\nhello\r\n000\r\n\r\n",
        "many zeros": b"0" * 40 + b"5\r\nhello\r\n0\r\n\r\n",
        "upper case": b"A\r\nhellohello\r\n0\r\n\r\n",
        "0x": b"0x5\r\nhello\r\n0\r\n\r\n" + HIDDEN,
        "plus": b"+5\r\nhello\r\n0\r\n\r\n",
        "minus": b"-5\r\nhello\r\n0\r\n\r\n",
        "blank before": b" 5\r\nhello\r\n0\r\n\r\n",
        "blank after": b"5 \r\nhello\r\n0\r\n\r\n",
        "tab after": b"5\t\r\nhello\r\n0\r\n\r\n",
        "underscore": b"0_5\r\nhello\r\n0\r\n\r\n",
        "no digits": b"\r\nhello\r\n0\r\n\r\n",
        "other letters": b"g\r\nhello\r\n0\r\n\r\n",
        "wraps at 2^64": b"10000000000000005\r\nhello\r\n0\r\n\r\n",
        "wraps at 2^32": b"100000005\r\nhello\r\n0\r\n\r\n",
        "bare LF after the size": b"5\nhello\r\n0\r\n\r\n",
        "bare LF after the data": b"5\r\nhello\n0\r\n\r\n",
        "bare LFs at the end": b"5\r\nhello\r\n0\n\n" + HIDDEN,
        "bare CR after the size": b"5\rXhello\r\n0\r\n\r\n",
        "no line end after the data": b"5\r\nhello0\r\n\r\n" + HIDDEN,
        "two bytes for the line end": b"5\r\nhelloXX0\r\n\r\n" + HIDDEN,
        "data longer than the size": b"5\r\nhello there\r\n0\r\n\r\n" + HIDDEN,
        "data shorter than the size": b"9\r\nhello\r\n0\r\n\r\n" + HIDDEN,
        "a trailer": b"5\r\nhello\r\n0\r\nX-A: b\r\n\r\n",
        "a trailer that is a length": b"5\r\nhello\r\n0\r\nContent-Length: 900\r\n\r\n",
        "a trailer that is a coding": b"5\r\nhello\r\n0\r\nTransfer-Encoding: gzip\r\nHost: evil\r\n\r\n",
        "a trailer without a colon": b"5\r\nhello\r\n0\r\nDELETE {PATH}-canary HTTP/1.1\r\nHost: {HOST}\r\n\r\n",
        "a trailer with a bare LF": b"5\r\nhello\r\n0\r\nA: b\nC: d\r\n\r\n",
        "a folded trailer": b"5\r\nhello\r\n0\r\nA: b\r\n c\r\n\r\n",
        "no last chunk": b"5\r\nhello\r\n",
        "no line after the last chunk": b"5\r\nhello\r\n0\r\n",
        "an empty line too many": _HELLO + b"\r\n",
    }.items():
        yield f"chunks: {name}", _put(_CHUNKED, body=body)


def _bodies() -> Iterator[tuple[str, bytes]]:
    for method in (b"GET", b"HEAD", b"DELETE", b"POST", b"OPTIONS"):
        word = method.decode()
        yield f"{word} with a length", _put(_HIDDEN_LENGTH, body=HIDDEN, method=method)
        yield f"{word} with chunks", _put(_CHUNKED, body=b"{HIDDEN-HEX}\r\n{HIDDEN}\r\n0\r\n\r\n", method=method)
        yield f"{word} with both", _put(_CHUNKED, _HIDDEN_LENGTH, body=b"0\r\n\r\n" + HIDDEN, method=method)
    for name, lines in {
        "Expect": [b"Expect: 100-continue"],
        "Expect in other letters": [b"eXPECT: 100-CONTINUE"],
        "Expect of something else": [b"Expect: 200-ok"],
        "Expect with a blank": [b"Expect:  100-continue "],
        "Expect folded": [b"Expect: 100-continue\r\n y"],
        "Expect with more": [b"Expect: y 100-continue"],
        "Upgrade: h2c": [b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAMAAABkAAQAAP__"],
        "Upgrade: websocket": [
            b"Connection: upgrade",
            b"Upgrade: websocket",
            b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
        ],
        "Upgrade alone": [b"Upgrade: h2c"],
        "close": [b"Connection: close"],
        "close and keep-alive": [b"Connection: close, keep-alive"],
        "Proxy-Connection": [b"Proxy-Connection: keep-alive"],
        "X-HTTP-Method-Override": [b"X-HTTP-Method-Override: DELETE"],
        "Content-Encoding": [b"Content-Encoding: chunked"],
        "TE": [b"TE: trailers, chunked", b"Trailer: Content-Length"],
        "Max-Forwards": [b"Max-Forwards: 0"],
    }.items():
        yield f"{name} with a length", _put(*lines, _HIDDEN_LENGTH, body=HIDDEN)
        yield f"{name} with chunks", _put(*lines, _CHUNKED, body=b"{HIDDEN-HEX}\r\n{HIDDEN}\r\n0\r\n\r\n")
        yield f"{name} without a body", _put(*lines, method=b"GET")
    yield "body cut short", _put(b"Content-Length: 5000", body=HIDDEN)
    yield "chunk cut short", _put(_CHUNKED, body=b"1388\r\n" + HIDDEN)


def _heads() -> Iterator[tuple[str, bytes]]:
    for name, head in {
        "bare LFs": b"PUT {PATH} HTTP/1.1\nHost: {HOST}\nContent-Length: {HIDDEN-LENGTH}\n\n{HIDDEN}",
        "bare LF after the request line": b"PUT {PATH} HTTP/1.1\nHost: {HOST}\r\nContent-Length: 5\r\n\r\nhello",
        "bare LF before the empty line": b"PUT {PATH} HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 5\n\r\nhello",
        "LF for the empty line": b"GET {PATH} HTTP/1.1\r\nHost: {HOST}\r\n\n{HIDDEN}",
        "CR for the empty line": b"GET {PATH} HTTP/1.1\r\nHost: {HOST}\r\n\r{HIDDEN}",
        "bare CRs": b"GET {PATH} HTTP/1.1\rHost: {HOST}\r\r",
        "folded header": b"GET {PATH} HTTP/1.1\r\nHost: {HOST}\r\nX-A: b\r\n c\r\n\r\n",
        "folded Host": b"GET {PATH} HTTP/1.1\r\nHost:\r\n {HOST}\r\n\r\n",
        "folded first line": b"GET {PATH} HTTP/1.1\r\n Host: evil\r\nHost: {HOST}\r\n\r\n",
        "no colon": b"GET {PATH} HTTP/1.1\r\nHost: {HOST}\r\nX-A\r\n\r\n",
        "no name": b"GET {PATH} HTTP/1.1\r\nHost: {HOST}\r\n: b\r\n\r\n",
        "NUL in a value": b"GET {PATH} HTTP/1.1\r\nHost: {HOST}\r\nX-A: b\0c\r\n\r\n",
        "CR in a value": b"GET {PATH} HTTP/1.1\r\nHost: {HOST}\r\nX-A: b\rX-B: c\r\n\r\n",
        "two Hosts": b"GET {PATH} HTTP/1.1\r\nHost: {HOST}\r\nHost: evil\r\n\r\n",
        "two Hosts, ours last": b"GET {PATH} HTTP/1.1\r\nHost: evil\r\nHost: {HOST}\r\n\r\n",
        "no Host": b"GET {PATH} HTTP/1.1\r\n\r\n",
        "empty Host": b"GET {PATH} HTTP/1.1\r\nHost:\r\n\r\n",
        "path in Host": b"GET {PATH} HTTP/1.1\r\nHost: {HOST}/x\r\n\r\n",
        "user in Host": b"GET {PATH} HTTP/1.1\r\nHost: evil@{HOST}\r\n\r\n",
        "list in Host": b"GET {PATH} HTTP/1.1\r\nHost: {HOST}, evil\r\n\r\n",
        "absolute form": b"GET http://{HOST}{PATH} HTTP/1.1\r\nHost: {HOST}\r\n\r\n",
        "absolute form of another host": b"GET http://evil{PATH} HTTP/1.1\r\nHost: {HOST}\r\n\r\n",
        "absolute form, another Host": b"GET http://{HOST}{PATH} HTTP/1.1\r\nHost: evil\r\n\r\n",
        "absolute form with a user": b"GET http://a:b@{HOST}{PATH} HTTP/1.1\r\nHost: {HOST}\r\n\r\n",
        "absolute form in capitals": b"GET HTTP://{HOST}{PATH} HTTP/1.1\r\nHost: {HOST}\r\n\r\n",
        "absolute form in another scheme": b"GET ftp://{HOST}{PATH} HTTP/1.1\r\nHost: {HOST}\r\n\r\n",
        "absolute form without a path": b"GET http://{HOST}?{PATH} HTTP/1.1\r\nHost: {HOST}\r\n\r\n",
        "authority form": b"CONNECT {HOST} HTTP/1.1\r\nHost: {HOST}\r\n\r\n{HIDDEN}",
        "asterisk form": b"OPTIONS * HTTP/1.1\r\nHost: {HOST}\r\n\r\n",
        "no target": b"GET  HTTP/1.1\r\nHost: {HOST}\r\n\r\n",
        "relative target": b"GET {PATH}x HTTP/1.1\r\nHost: {HOST}\r\n\r\n".replace(b" {PATH}x", b" c"),
        "two blanks": b"GET  {PATH} HTTP/1.1\r\nHost: {HOST}\r\n\r\n",
        "tabs": b"GET\t{PATH}\tHTTP/1.1\r\nHost: {HOST}\r\n\r\n",
        "blank in the target": b"GET {PATH} x HTTP/1.1\r\nHost: {HOST}\r\n\r\n",
        "version in the target": b"GET {PATH} HTTP/1.1 HTTP/1.1\r\nHost: {HOST}\r\n\r\n",
        "blank after the version": b"GET {PATH} HTTP/1.1 \r\nHost: {HOST}\r\n\r\n",
        "no version": b"GET {PATH}\r\n{HIDDEN}",
        "HTTP/0.9": b"GET {PATH} HTTP/0.9\r\nHost: {HOST}\r\n\r\n",
        "HTTP/1.2": b"GET {PATH} HTTP/1.2\r\nHost: {HOST}\r\n\r\n",
        "HTTP/2.0": b"GET {PATH} HTTP/2.0\r\nHost: {HOST}\r\n\r\n",
        "HTTP/01.1": b"GET {PATH} HTTP/01.1\r\nHost: {HOST}\r\n\r\n",
        "http in small letters": b"GET {PATH} http/1.1\r\nHost: {HOST}\r\n\r\n",
        "method in small letters": b"get {PATH} HTTP/1.1\r\nHost: {HOST}\r\n\r\n",
        "method of another kind": b"G=T {PATH} HTTP/1.1\r\nHost: {HOST}\r\n\r\n",
        "NUL in the method": b"GET\0 {PATH} HTTP/1.1\r\nHost: {HOST}\r\n\r\n",
        "an empty line before": b"\r\nGET {PATH} HTTP/1.1\r\nHost: {HOST}\r\n\r\n",
        "empty lines before": b"\r\n\r\n\r\nGET {PATH} HTTP/1.1\r\nHost: {HOST}\r\n\r\n",
        "a LF before": b"\nGET {PATH} HTTP/1.1\r\nHost: {HOST}\r\n\r\n",
        "a blank before": b" GET {PATH} HTTP/1.1\r\nHost: {HOST}\r\n\r\n",
        "long header": b"GET {PATH} HTTP/1.1\r\nHost: {HOST}\r\nX-A: " + b"x" * 7000 + b"\r\n\r\n",
        "many headers": b"GET {PATH} HTTP/1.1\r\nHost: {HOST}\r\n" + b"X-A: b\r\n" * 90 + b"\r\n",
    }.items():
        yield f"head: {name}", head
    for name, target in {
        "slashes before": b"//{PATH}",
        "slashes within": b"{PATH}//x",
        "dots": b"{PATH}/../x",
        "coded dots": b"{PATH}/%2e%2e/x",
        "dots to the root": b"{PATH}/../../../../etc/passwd",
        "a dot": b"{PATH}/./x",
        "coded slash": b"{PATH}%2fx",
        "coded NUL": b"{PATH}%00",
        "coded line end": b"{PATH}%0d%0aX-A:%20b",
        "NUL": b"{PATH}\0x",
        "DEL": b"{PATH}\x7f",
        "bytes over 127": b"{PATH}\xff\xfe",
        "UTF-8": "{PATH}é".encode(),
        "bad escape": b"{PATH}%zz",
        "half an escape": b"{PATH}%",
        "coded percent": b"{PATH}%2525",
        "backslash": b"{PATH}\\..\\x",
        "semicolon": b"{PATH};a=b",
        "fragment": b"{PATH}#x",
        "two question marks": b"{PATH}?prefix=a?b",
        "empty query": b"{PATH}?",
        "brackets": b"{PATH}[]{}|^`",
        "quotes": b"{PATH}\"<>'",
        "long": b"{PATH}" + b"x" * 900,
    }.items():
        yield f"target: {name}", b"GET " + target + b" HTTP/1.1\r\nHost: {HOST}\r\n\r\n"
        yield (
            f"target of a PUT: {name}",
            b"PUT " + target + b" HTTP/1.1\r\nHost: {HOST}\r\n" + _HIDDEN_LENGTH + b"\r\n\r\n" + HIDDEN,
        )


def _sequences() -> Iterator[tuple[str, bytes]]:
    one = b"PUT {PATH} HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 3\r\n\r\none"
    two = b"PUT {PATH}-two HTTP/1.1\r\nHost: {HOST}\r\nTransfer-Encoding: chunked\r\n\r\n3\r\ntwo\r\n0\r\n\r\n"
    three = b"GET {PATH} HTTP/1.1\r\nHost: {HOST}\r\n\r\n"
    yield "three in a row", one + two + three
    yield "an empty line between", one + b"\r\n" + two + b"\r\n" + three
    yield "a LF between", one + b"\n" + two
    yield "garbage between", one + b"garbage" + two
    yield "after Connection: close", one.replace(b"Content-Length", b"Connection: close\r\nContent-Length") + two
    yield "after HTTP/1.0", one.replace(b"HTTP/1.1", b"HTTP/1.0") + two
    yield "half a second one", one + two[:40]
    yield "the second one broken", one + two.replace(b"3\r\ntwo", b"zz\r\ntwo")
    yield "after a refusal", one.replace(b"Content-Length: 3", b"Content-Length: 3\r\nExpect: 200-ok") + two
    yield "after what is not implemented", one.replace(b"{PATH} ", b"{PATH}?acl ") + two


def corpus() -> dict[str, bytes]:
    """Name -> text, to be filled in by :func:`fill`."""
    cases: dict[str, bytes] = {}
    for group in (_lengths, _codings, _chunks, _bodies, _heads, _sequences):
        for name, text in group():
            assert name not in cases, name
            cases[name] = text
    return cases
