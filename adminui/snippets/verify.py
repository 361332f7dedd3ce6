import base64, hashlib, hmac, re, time

TOLERANCE = 5 * 60  # seconds


# verify says whether a request is genuine. Headers are those of http.server, Flask
# or Django, which ignore case; body is the bytes, before anything parses them.
def verify(secret, headers, body, now=None):
    return verify_pivot(secret, headers, body) and verify_standard(secret, headers, body, now)


# X-Pivot-Signature: the key is the secret's text, "whsec_" included.
def verify_pivot(secret, headers, body):
    return equal(headers.get("X-Pivot-Signature", ""), mac(secret.encode(), body).hex())


# Standard Webhooks: the key is what follows "whsec_", decoded.
def verify_standard(secret, headers, body, now=None):
    webhook_id = headers.get("webhook-id", "")
    timestamp = headers.get("webhook-timestamp", "")
    if not re.fullmatch(r"[^.]+", webhook_id) or not re.fullmatch(r"[0-9]{1,12}", timestamp):
        return False
    if abs(int(time.time() if now is None else now) - int(timestamp)) > TOLERANCE:
        return False
    key = base64.b64decode(secret.removeprefix("whsec_"))
    want = "v1," + base64.b64encode(mac(key, f"{webhook_id}.{timestamp}.".encode() + body)).decode()
    return any(equal(given, want) for given in headers.get("webhook-signature", "").split(" "))


def mac(key, message):
    if not key:
        raise ValueError("the secret is empty")
    return hmac.new(key, message, hashlib.sha256).digest()


def equal(given, want):
    return hmac.compare_digest(given.encode(), want.encode())
