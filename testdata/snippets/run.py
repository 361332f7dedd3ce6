# Calls functions of verify.py. Standard input has one call a line, in JSON;
# standard output what each came to: accepted, refused or error.
import base64, email.message, json, sys

import verify

for line in sys.stdin:
    c = json.loads(line)
    headers = email.message.Message()  # the headers of http.server are one
    for name, value in c["headers"].items():
        headers[name] = value
    now = [] if c["function"] == "verify_pivot" else [c.get("now")]
    try:
        body = base64.b64decode(c["body"])
        said = getattr(verify, c["function"])(c["secret"], headers, body, *now)
        print("accepted" if said is True else "refused")
    except Exception:
        print("error")
