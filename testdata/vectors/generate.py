#!/usr/bin/env python3
"""Writes vectors.json: signatures of webhook requests, computed without the Go code.

    python3 generate.py            write vectors.json
    python3 generate.py --check    fail if vectors.json is not what would be written

Only the standard library is needed. Published vectors are stated here as their
sources print them, and the run fails if this script computes another value.
"""

import base64
import hashlib
import hmac
import json
import pathlib
import sys

OUT = pathlib.Path(__file__).with_name("vectors.json")

GITHUB = "GitHub documentation, Validating webhook deliveries, Testing the webhook payload validation"
STANDARD = "Standard Webhooks 1.0.0, tests of the Go library"
RFC = "RFC 4231, section 4.%d"
OWN = "computed by generate.py"

# Not random, so that the file is reproducible. Never use them outside tests.
KEY_A = bytes(range(32))
KEY_B = bytes(range(255, 223, -1))
SECRET_A = "whsec_" + base64.b64encode(KEY_A).decode()
SECRET_B = "whsec_" + base64.b64encode(KEY_B).decode()

ID = "0199a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b"
AT = 1767268800  # 2026-01-01T12:00:00Z
BODY = (
    b'{"id":"0199a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b","event_type":"message_sent",'
    b'"subject":{"type":"room","id":"5f0c6a4e-2b1d-4c3e-9f8a-7b6c5d4e3f2a"},'
    b'"timestamp":"2026-01-01T12:00:00Z","data":{"text":"Gr\xc3\xbc\xc3\x9fe \xf0\x9f\x91\x8b"}}'
)


def mac(key: bytes, message: bytes) -> bytes:
    return hmac.new(key, message, hashlib.sha256).digest()


def pivot_sign(secret: bytes, body: bytes) -> str:
    return mac(secret, body).hex()


def standard_key(secret: str) -> bytes:
    return base64.b64decode(secret.removeprefix("whsec_"), validate=True)


def standard_sign(secret: str, id: str, timestamp, body: bytes) -> str:
    signed = b"%s.%s.%s" % (id.encode(), str(timestamp).encode(), body)
    return "v1," + base64.b64encode(mac(standard_key(secret), signed)).decode()


def text_or_hex(name: str, value: bytes) -> dict:
    """Bytes that are not UTF-8, or hold control characters, are given in hex."""
    try:
        text = value.decode()
    except UnicodeDecodeError:
        return {name + "_hex": value.hex()}
    if any(ord(c) < 0x20 for c in text):
        return {name + "_hex": value.hex()}
    return {name: text}


def pivot(name: str, source: str, secret: bytes, body: bytes, published: str = "") -> dict:
    signature = pivot_sign(secret, body)
    if published and signature != published:
        sys.exit(f"{name}: computed {signature}, published {published}")
    return {"name": name, "source": source, **text_or_hex("secret", secret),
            **text_or_hex("body", body), "signature": signature}


def standard(name: str, source: str, secret: str, id: str, timestamp: int, body: bytes,
             published: str = "") -> dict:
    signature = standard_sign(secret, id, timestamp, body)
    if published and signature != published:
        sys.exit(f"{name}: computed {signature}, published {published}")
    return {"name": name, "source": source, "secret": secret, "id": id, "timestamp": timestamp,
            **text_or_hex("body", body), "signature": signature}


def pivot_vectors() -> list:
    aa = b"\xaa"
    return [
        pivot("github", GITHUB, b"It's a Secret to Everybody", b"Hello, World!",
              "757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"),
        pivot("rfc4231_1", RFC % 2, b"\x0b" * 20, b"Hi There",
              "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7"),
        pivot("rfc4231_2", RFC % 3, b"Jefe", b"what do ya want for nothing?",
              "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"),
        pivot("rfc4231_3", RFC % 4, aa * 20, b"\xdd" * 50,
              "773ea91e36800e46854db8ebd09181a72959098b3ef8c122d9635514ced565fe"),
        pivot("rfc4231_4", RFC % 5, bytes(range(1, 26)), b"\xcd" * 50,
              "82558a389a443c0ea4cc819899f2083a85f0faa3e578f8077a2e3ff46729665b"),
        # Test case 5 is of a truncated HMAC, which is not used here.
        pivot("rfc4231_6", RFC % 7, aa * 131, b"Test Using Larger Than Block-Size Key - Hash Key First",
              "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54"),
        pivot("rfc4231_7", RFC % 8, aa * 131,
              b"This is a test using a larger than block-size key and a larger than block-size data. "
              b"The key needs to be hashed before being used by the HMAC algorithm.",
              "9b09ffa71b942fcb27635fbcd5b0e944bfdc63644f0713938a7f51535c3a35e2"),
        pivot("event", OWN, SECRET_A.encode(), BODY),
        pivot("empty_body", OWN, SECRET_A.encode(), b""),
        pivot("binary_body", OWN, SECRET_A.encode(), bytes(range(256))),
        pivot("final_newline_is_signed", OWN, SECRET_A.encode(), BODY + b"\n"),
        pivot("space_round_secret_is_key", OWN, b" " + SECRET_A.encode() + b" ", BODY),
        pivot("non_ascii_secret", OWN, "gehei\u00df".encode(), BODY),
        pivot("longest_secret", OWN, b"k" * 1024, BODY),
    ]


def standard_vectors() -> list:
    published = ("msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}',
                 "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=")
    return [
        standard("published", STANDARD, "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", *published),
        standard("published_without_prefix", STANDARD, "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", *published),
        standard("event", OWN, SECRET_A, ID, AT, BODY),
        standard("empty_body", OWN, SECRET_A, ID, AT, b""),
        standard("binary_body", OWN, SECRET_A, ID, AT, bytes(range(256))),
        standard("body_with_dots", OWN, SECRET_A, ID, AT, b"1.2.3"),
        standard("timestamp_zero", OWN, SECRET_A, ID, 0, BODY),
        standard("longest_timestamp", OWN, SECRET_A, ID, 999999999999, BODY),
        standard("longest_id", OWN, SECRET_A, "i" * 256, AT, BODY),
        standard("one_byte_key", OWN, "whsec_aw==", ID, AT, BODY),
        standard("key_longer_than_a_block", OWN, "whsec_" + base64.b64encode(b"\xaa" * 131).decode(),
                 ID, AT, BODY),
    ]


def requests() -> list:
    """Whole requests, and whether a verifier accepts them."""
    hex_a, hex_b = pivot_sign(SECRET_A.encode(), BODY), pivot_sign(SECRET_B.encode(), BODY)
    v1_a, v1_b = standard_sign(SECRET_A, ID, AT, BODY), standard_sign(SECRET_B, ID, AT, BODY)
    out = []

    def add(name, accept, headers, schemes=("pivot", "standard"), secrets=(SECRET_A,), now=AT, body=BODY):
        out.append({
            "name": name, "accept": accept, "secrets": list(secrets), "schemes": list(schemes),
            "now": now, "tolerance_seconds": 300, "headers": headers, **text_or_hex("body", body),
        })

    def headers(pivot=hex_a, id=ID, timestamp=AT, signature=v1_a):
        named = [("X-Pivot-Signature", pivot), ("webhook-id", id),
                 ("webhook-timestamp", timestamp), ("webhook-signature", signature)]
        return [[k, str(v)] for k, v in named if v is not None]

    def signed(id=ID, timestamp=AT):
        """Correctly signed, whatever the id and the timestamp."""
        return headers(id=id, timestamp=timestamp, signature=standard_sign(SECRET_A, id, timestamp, BODY))

    add("both", True, headers())
    for name, drop in [("x-pivot-signature", 0), ("webhook-id", 1), ("webhook-timestamp", 2), ("webhook-signature", 3)]:
        h = headers()
        add(f"without {name}", False, h[:drop] + h[drop + 1:])
        add(f"two lines of {name}", False, h + [h[drop]])
        h[drop] = [h[drop][0], ""]
        add(f"empty {name}", False, h)
    add("pivot alone, pivot demanded", True, headers(id=None, timestamp=None, signature=None), ["pivot"])
    add("standard alone, standard demanded", True, headers(pivot=None), ["standard"])
    add("wrong pivot, standard demanded", True, headers(pivot="00" * 32), ["standard"])
    add("wrong standard, pivot demanded", True, headers(signature="v1,"), ["pivot"])
    add("wrong pivot, both demanded", False, headers(pivot="00" * 32))
    add("wrong standard, both demanded", False, headers(signature="v1," + base64.b64encode(bytes(32)).decode()))
    add("changed body", False, headers(), body=BODY.replace(b"room", b"ro0m"))
    add("appended newline", False, headers(), body=BODY + b"\n")
    add("emptied body", False, headers(), body=b"")
    add("other secret", False, headers(), secrets=[SECRET_B])

    # Pivot's header.
    for name, value, accept in [
        ("upper-case hex", hex_a.upper(), True),
        ("mixed-case hex", hex_a[:32].upper() + hex_a[32:], True),
        ("algorithm prefix", "sha256=" + hex_a, False),
        ("one digit short", hex_a[:-1], False),
        ("one byte short", hex_a[:-2], False),
        ("one byte long", hex_a + "00", False),
        ("one digit changed", hex_a[:-1] + ("0" if hex_a[-1] != "0" else "1"), False),
        ("not hex", "g" * 64, False),
        ("base64", base64.b64encode(bytes.fromhex(hex_a)).decode(), False),
        ("list", hex_a + "," + hex_a, False),
        ("signature of the empty key", pivot_sign(b"", BODY), False),
        ("signature by the decoded key", pivot_sign(KEY_A, BODY), False),
    ]:
        add(f"pivot: {name}", accept, headers(pivot=value))

    # Ids and timestamps: signed as they stand, so that only the rule decides.
    add("id: changed", False, headers(id=ID + "0"))
    add("id: 256 bytes", True, signed(id="i" * 256))
    add("id: 257 bytes", False, signed(id="i" * 257))
    add("id: dot", False, signed(id="a.b"))
    moved = f"{ID}.{AT}"
    add("id: dot, moved from the timestamp", False,
        headers(id=moved, signature=standard_sign(SECRET_A, moved, AT, BODY)))
    for delta, accept in [(-301, False), (-300, True), (300, True), (301, False)]:
        add(f"timestamp: {delta:+} s", accept, signed(timestamp=AT + delta))
    add("timestamp: changed", False, headers(timestamp=AT + 1))
    for name, value in [("leading zero", f"0{AT}"), ("plus sign", f"+{AT}"), ("minus sign", f"-{AT}"),
                        ("fraction", f"{AT}.0"), ("exponent", "1767268800e0"), ("hex", hex(AT)),
                        ("inner space", "1767 268800"), ("underscore", "1_767_268_800"),
                        ("milliseconds", AT * 1000), ("13 digits", "1" * 13), ("far over 64 bits", "9" * 40),
                        ("other digits", "".join(chr(0x660 + int(c)) for c in str(AT)))]:
        add(f"timestamp: {name}", False, signed(timestamp=value))
    add("timestamp: 0", True, signed(timestamp=0), now=0)
    add("timestamp: 00", False, signed(timestamp="00"), now=0)
    add("timestamp: -1", False, signed(timestamp=-1), now=0)

    # The list of signatures.
    b64 = v1_a.removeprefix("v1,")
    raw = base64.b64decode(b64)
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    trailing = b64[:42] + alphabet[alphabet.index(b64[42]) + 1] + "="
    assert base64.b64decode(trailing) == raw, "the same bytes, from another text"
    # One whose text has a character that differs between the alphabets.
    n = next(n for n in range(1000) if set("+/") & set(standard_sign(SECRET_A, f"id{n}", AT, BODY)[3:]))
    special = standard_sign(SECRET_A, f"id{n}", AT, BODY)
    for name, value, accept in [
        ("wrong one first", f"{v1_b} {v1_a}", True),
        ("wrong one last", f"{v1_a} {v1_b}", True),
        ("16, valid one last", " ".join([v1_b] * 15 + [v1_a]), True),
        ("17, valid one first", " ".join([v1_a] + [v1_b] * 16), False),
        ("17, 16 of them unknown", " ".join([v1_a] + ["v2,x"] * 16), False),
        ("v1a beside v1", f"v1a,{b64} {v1_a}", True),
        ("v1a alone", f"v1a,{b64}", False),
        ("v2 alone", f"v2,{b64}", False),
        ("upper-case version", f"V1,{b64}", False),
        ("no version", b64, False),
        ("separated by comma", f"{v1_b},{v1_a}", False),
        ("separated by tab", f"{v1_b}\t{v1_a}", False),
        ("more after a second comma", f"{v1_a},", False),
        ("space after version", f"v1, {b64}", False),
        ("truncated", v1_a[:-4], False),
        ("empty signature", "v1,", False),
        ("no padding", v1_a.rstrip("="), False),
        ("double padding", v1_a + "=", False),
        ("trailing bits", f"v1,{trailing}", False),
        ("hex", "v1," + raw.hex(), False),
        ("signature of the empty key",
         "v1," + base64.b64encode(mac(b"", f"{ID}.{AT}.".encode() + BODY)).decode(), False),
        ("signature by the secret's text",
         "v1," + base64.b64encode(mac(SECRET_A.encode(), f"{ID}.{AT}.".encode() + BODY)).decode(), False),
        ("signature of the body alone", "v1," + base64.b64encode(mac(KEY_A, BODY)).decode(), False),
    ]:
        add(f"list: {name}", accept, headers(signature=value))
    add("list: standard alphabet", True, headers(id=f"id{n}", signature=special))
    add("list: URL alphabet", False,
        headers(id=f"id{n}", signature=special.replace("+", "-").replace("/", "_")))

    # Rotation.
    ab = [SECRET_A, SECRET_B]
    add("rotation: receiver knows both, sent with the first", True, headers(), secrets=ab)
    add("rotation: receiver knows both, sent with the second", True,
        headers(pivot=hex_b, signature=v1_b), secrets=ab)
    both = headers(signature=f"{v1_a} {v1_b}")
    add("rotation: sent with both, receiver knows the first", True, both, secrets=[SECRET_A])
    add("rotation: sent with both, receiver knows the second", False, both, secrets=[SECRET_B])
    add("rotation: sent with both, receiver knows the second and demands standard", True, both,
        ["standard"], [SECRET_B])
    return out


def main() -> None:
    text = json.dumps({"pivot": pivot_vectors(), "standard": standard_vectors(), "requests": requests()},
                      indent=1, ensure_ascii=True) + "\n"
    if sys.argv[1:] == ["--check"]:
        if OUT.read_text() != text:
            sys.exit("vectors.json is out of date: run generate.py")
    elif sys.argv[1:]:
        sys.exit(__doc__)
    else:
        OUT.write_text(text)


if __name__ == "__main__":
    main()
