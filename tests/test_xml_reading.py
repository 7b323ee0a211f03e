"""Documents of clients, good and bad, and what we make of them."""

from __future__ import annotations

import encodings
import time
from collections.abc import Callable, Mapping
from xml.parsers import expat

import pytest
from hypothesis import given
from hypothesis import strategies as st
from xmlkit import KEY, SECOND, WHEN, T, sent

from aisobj.errors import S3Error
from aisobj.model import VersioningStatus
from aisobj.protocol import xml
from aisobj.protocol.listing import finish


def test_what_boto3_sends_is_read() -> None:
    assert xml.read_create_bucket(b"") is None
    location = sent("CreateBucket", Bucket="b", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
    assert xml.read_create_bucket(location) == "eu-west-1"
    for status in (VersioningStatus.ENABLED, VersioningStatus.SUSPENDED):
        body = sent(
            "PutBucketVersioning",
            Bucket="b",
            VersioningConfiguration={"Status": status.name.title(), "MFADelete": "Disabled"},
        )
        assert xml.read_versioning(body) is status
    objects = [
        {"Key": " a\t\r\n<&>\"' "},
        {"Key": "é", "VersionId": "v", "ETag": '"e"', "Size": 5, "LastModifiedTime": WHEN},
        {"Key": "x", "ETag": "*"},
    ]
    body = sent("DeleteObjects", Bucket="b", Delete={"Objects": objects, "Quiet": True})
    assert xml.read_delete(body) == (
        [
            xml.DeleteKey(b" a\t\r\n<&>\"' "),
            xml.DeleteKey("é".encode(), "v", "e", 5, T // SECOND * SECOND),
            xml.DeleteKey(b"x", etag="*"),
        ],
        True,
    )
    parts = [{"PartNumber": 2, "ETag": '"e"', "ChecksumCRC32": "AA=="}, {"PartNumber": 1, "ETag": "f"}]
    body = sent("CompleteMultipartUpload", Bucket="b", Key="k", UploadId="u", MultipartUpload={"Parts": parts})
    assert finish(xml.read_complete(body)) == [xml.CompletePart(2, "e", {"CRC32": "AA=="}), xml.CompletePart(1, "f")]


@given(st.lists(KEY, min_size=1, max_size=5), st.sampled_from(["raw", "hex", "decimal", "padded"]))
def test_every_key_there_can_be_can_be_deleted(keys: list[str], form: str) -> None:
    """Also those that XML cannot carry, as clients send them: raw, or as references like our own documents."""
    forms: dict[str, Callable[[int], str]] = {
        "raw": chr,
        "hex": lambda code: f"&#x{code:X};",
        "decimal": lambda code: f"&#{code};",
        "padded": lambda code: f"&#x000{code:x};",
    }
    escapes = str.maketrans({code: forms[form](code) for code in range(1, 32) if code not in b"\t\n\r"})
    escapes |= str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", "\r": "&#13;"})
    keys = [key for key in keys if not set(key) & {"￾", "￿"}] or ["\x01"]
    inner = "".join(f"<Object><Key>{key.translate(escapes)}</Key></Object>" for key in keys)
    found, quiet = xml.read_delete(f"<Delete>{inner}</Delete>".encode())
    assert [each.key.decode() for each in found] == keys
    assert not quiet


def test_a_stand_in_never_meets_a_private_use_character_of_the_document() -> None:
    key = "\x01\U000f0001&#x2;&#xF0022;&#983105;&#128512;"
    found, _ = xml.read_delete(f"<Delete><Object><Key>{key}</Key></Object></Delete>".encode())
    assert found[0].key.decode() == "\x01\U000f0001\x02\U000f0022\U000f0041\U0001f600"
    every = "".join(chr(code) for code in range(0xF0000, 0x110000, 32) if code & 0xFFFF < 0xFFFE)
    with pytest.raises(S3Error, match="MalformedXML"):
        xml.read_delete(f"<Delete><Object><Key>\x01{every}</Key></Object></Delete>".encode())


def test_comments_cdata_declarations_prefixes_and_other_namespaces_are_xml_too() -> None:
    body = b"""<?xml version="1.0"?><!-- c --><s:Delete xmlns:s="http://example.org/"><s:Object>
        <s:Key>a<!-- c -->b<![CDATA[<c>]]></s:Key> </s:Object>
        <s:New><s:x/></s:New><s:Quiet>false</s:Quiet></s:Delete>"""
    assert xml.read_delete(body) == ([xml.DeleteKey(b"ab<c>")], False)
    assert xml.read_delete("<Delete><Object><Key>ж</Key></Object></Delete>".encode("utf-16"))[0][0].key == "ж".encode()


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
def test_a_document_in_utf_16_is_read_character_by_character(encoding: str) -> None:
    """The second byte of a Ł is one that stands for a control character in UTF-8."""
    document = "<?xml version='1.0' encoding='UTF-16'?><Delete><Object><Key>ŁŁ\x01&#x2;</Key></Object></Delete>"
    assert xml.read_delete(document.encode(encoding))[0] == [xml.DeleteKey("ŁŁ\x01\x02".encode())]


def test_no_name_of_an_encoding_is_remembered() -> None:
    """Python's codecs keep what they did not find."""
    known = len(encodings._cache)  # type: ignore[attr-defined]
    for number in range(10):
        with pytest.raises(S3Error):
            xml.read_delete(f"<?xml version='1.0' encoding='x-{number}'?><Delete/>".encode())
    assert len(encodings._cache) == known  # type: ignore[attr-defined]


Reader = Callable[[bytes], object]
READERS: Mapping[str, Reader] = {
    "CreateBucketConfiguration": xml.read_create_bucket,
    "VersioningConfiguration": xml.read_versioning,
    "Delete": xml.read_delete,
    "CompleteMultipartUpload": lambda body: finish(xml.read_complete(body)),
}

BOMB = "<!DOCTYPE a [<!ENTITY a0 'x'>" + "".join(f"<!ENTITY a{n} '{f'&a{n - 1};' * 10}'>" for n in range(1, 20)) + "]>"
ATTACKS = {
    "not XML": "hello",
    "unfinished": "<{root}><a>",
    "two roots": "<{root}/><{root}/>",
    "another root": "<Other/>",
    "a DTD": "<!DOCTYPE {root}><{root}/>",
    "an entity bomb": BOMB + "<{root}>&a19;</{root}>",
    "an external entity": "<!DOCTYPE a [<!ENTITY e SYSTEM 'file:///etc/hostname'>]><{root}><Key>&e;</Key></{root}>",
    "an external DTD": "<!DOCTYPE a SYSTEM 'http://127.0.0.1:9/x'><{root}/>",
    "an undeclared entity": "<{root}>&nbsp;</{root}>",
    "a NUL": "<{root}>\0</{root}>",
    "a reference to NUL": "<{root}>&#0;</{root}>",
    "a surrogate": "<{root}>&#xD800;</{root}>",
    "an unknown encoding": "<?xml version='1.0' encoding='no-such'?><{root}/>",
    "a multi-byte encoding": "<?xml version='1.0' encoding='gb18030'?><{root}/>",
    "another single-byte encoding": "<?xml version='1.0' encoding='iso-8859-1'?><{root}/>",
    "a long comment": "<!--" + "x" * 8_000_000 + "--><{root}/>",
    "a long tag": "<{root} a='" + "x" * 8_000_000 + "'/>",
    "a character reference that is none": "<{root}><Key><![CDATA[&#1;]]></Key></{root}>",
    "great depth": "<{root}>" + "<a>" * 400_000,
}


_HARMLESS = b"<a>" + b"x" * 8_000_000 + b"</a>"


@pytest.mark.parametrize("attack", ATTACKS)
@pytest.mark.parametrize("root", READERS)
def test_what_is_no_xml_or_more_than_xml_is_malformed_at_once(root: str, attack: str) -> None:
    body = ATTACKS[attack].replace("{root}", root).encode()

    def refused() -> None:
        with pytest.raises(S3Error) as caught:
            READERS[root](body)
        assert caught.value.code == "MalformedXML"

    # The rule is 50 ms; of a control in the same moments it is twice the time, whatever else the machine does.
    spent = [(_seconds(refused), _seconds(_read_harmless))]
    while spent[-1][0] > 2 * spent[-1][1] and len(spent) < 5:
        spent.append((_seconds(refused), _seconds(_read_harmless)))
    assert spent[-1][0] <= 2 * spent[-1][1], spent


def _seconds(call: Callable[[], object]) -> float:
    """Of this process on a CPU."""
    began = time.process_time()
    call()
    return time.process_time() - began


def _read_harmless() -> None:
    """8 MB of text by expat alone, the longest document that is read: 25 ms where the rule was made."""
    expat.ParserCreate().Parse(_HARMLESS, True)


@pytest.mark.parametrize("root", [root for root in READERS if root != "CreateBucketConfiguration"])
@pytest.mark.parametrize("body", [b"", b" \n", b"\xff\xfe", b"<a>\xff</a>"])
def test_no_body_and_no_text_are_malformed(root: str, body: bytes) -> None:
    with pytest.raises(S3Error, match="MalformedXML"):
        READERS[root](body)


def delete(inner: str) -> bytes:
    return f"<Delete>{inner}</Delete>".encode()


def objects(number: int) -> bytes:
    return delete("<Object><Key>k</Key></Object>" * number)


def complete(inner: str) -> bytes:
    return f"<CompleteMultipartUpload>{inner}</CompleteMultipartUpload>".encode()


PART = "<Part><PartNumber>1</PartNumber><ETag>e</ETag></Part>"


@pytest.mark.parametrize(
    "body",
    [
        objects(0),
        objects(1001),
        delete("<Object/>"),
        delete("<Object><Key/></Object>"),
        delete("<Object><Key>a</Key><Key>b</Key></Object>"),
        delete("<Object><Key>a<b/></Key></Object>"),
        delete("<Object><Key>a</Key><IfNewCondition>x</IfNewCondition></Object>"),
        delete("<Object><Key>a</Key><Size>-1</Size></Object>"),
        delete(f"<Object><Key>a</Key><Size>{'9' * 20}</Size></Object>"),
        delete("<Object><Key>a</Key><LastModifiedTime>soon</LastModifiedTime></Object>"),
        delete("<Object><Key>a</Key></Object><Quiet>maybe</Quiet>"),
        complete(""),
        complete("<Part/>"),
        complete("<Part><PartNumber>1</PartNumber></Part>"),
        complete("<Part><ETag>e</ETag></Part>"),
        complete("<Part><PartNumber>one</PartNumber><ETag>e</ETag></Part>"),
        complete("<Part><PartNumber>1-</PartNumber><ETag>e</ETag></Part>"),
        complete("<Part><PartNumber>--1</PartNumber><ETag>e</ETag></Part>"),
        complete(PART * 10_001),
    ],
)
def test_a_list_that_is_not_what_aws_asks_for_is_malformed(body: bytes) -> None:
    with pytest.raises(S3Error) as caught:
        xml.read_delete(body) if b"<Delete>" in body else finish(xml.read_complete(body))
    assert caught.value.code == "MalformedXML"


def test_many_parts_are_read_in_slices_however_their_etags_are_quoted() -> None:
    parts = [xml.CompletePart(number, f"e{number}") for number in range(1, 3001)]
    for quote in ('"', "&#34;", "&quot;", "&#x22;"):
        rows = [f"<Part><PartNumber>{p.number}</PartNumber><ETag>{quote}{p.etag}{quote}</ETag></Part>" for p in parts]
        body = complete("".join(rows))
        assert sum(1 for _ in xml.read_complete(body)) >= len(parts) // 100
        assert finish(xml.read_complete(body)) == parts


@pytest.mark.parametrize("odd", ["\x01", "&#1;", "\ufffe"])
def test_a_part_with_what_xml_cannot_carry_is_malformed(odd: str) -> None:
    with pytest.raises(S3Error) as caught:
        finish(xml.read_complete(complete(f"<Part><PartNumber>1</PartNumber><ETag>{odd}</ETag></Part>")))
    assert caught.value.code == "MalformedXML"


def test_1000_keys_and_unknown_elements_of_a_part_are_read() -> None:
    assert len(xml.read_delete(objects(1000))[0]) == 1000
    part = "<Part><PartNumber> 07 </PartNumber><ETag> &quot;e&quot; </ETag><New/><ChecksumX>y</ChecksumX></Part>"
    assert finish(xml.read_complete(complete(part))) == [xml.CompletePart(7, "e", {"X": "y"})]


@pytest.mark.parametrize("number", ["0", "-1", " -07 ", "-0"])
def test_a_part_number_below_1_is_an_argument_that_is_wrong(number: str) -> None:
    with pytest.raises(S3Error, match="PartNumber must be >= 1") as caught:
        finish(xml.read_complete(complete(f"{PART}<Part><PartNumber>{number}</PartNumber><ETag>e</ETag></Part>")))
    assert caught.value.code == "InvalidArgument"


@pytest.mark.parametrize(
    ("inner", "code"),
    [
        ("", "IllegalVersioningConfigurationException"),
        ("<Status/>", "MalformedXML"),
        ("<Status>enabled</Status>", "MalformedXML"),
        ("<Status>Off</Status>", "MalformedXML"),
    ],
)
def test_a_versioning_status_that_is_none(inner: str, code: str) -> None:
    with pytest.raises(S3Error) as caught:
        xml.read_versioning(f"<VersioningConfiguration>{inner}</VersioningConfiguration>".encode())
    assert caught.value.code == code


@pytest.mark.parametrize(
    ("root", "inner"),
    [
        ("VersioningConfiguration", "<Status>Enabled</Status><MfaDelete>Enabled</MfaDelete>"),
        ("CreateBucketConfiguration", "<Bucket><Type>Directory</Type></Bucket>"),
        ("CreateBucketConfiguration", "<Location><Type>AvailabilityZone</Type></Location>"),
        ("CreateBucketConfiguration", "<Tags><Tag><Key>a</Key><Value>b</Value></Tag></Tags>"),
    ],
)
def test_what_a_bucket_cannot_have_is_not_implemented(root: str, inner: str) -> None:
    with pytest.raises(S3Error) as caught:
        READERS[root](f"<{root}>{inner}</{root}>".encode())
    assert caught.value.code == "NotImplemented"


@pytest.mark.parametrize("inner", ["", "<LocationConstraint/>", "<LocationConstraint> </LocationConstraint>", "<New/>"])
def test_an_empty_location_is_none(inner: str) -> None:
    assert xml.read_create_bucket(f"<CreateBucketConfiguration>{inner}</CreateBucketConfiguration>".encode()) is None
