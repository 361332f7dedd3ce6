import json, os, sqlite3
from http.server import BaseHTTPRequestHandler, HTTPServer

from verify import verify

# Several, separated by spaces, while one webhook takes over from another.
secrets = os.environ["WEBHOOK_SECRET"].split()
MAX_BODY = 1 << 20  # bytes

db = sqlite3.connect(os.environ["DATABASE"])
db.execute("create table if not exists received (webhook_id text primary key)")


class Receiver(BaseHTTPRequestHandler):
    def do_POST(self):
        size = int(self.headers.get("content-length") or 0)
        if size > MAX_BODY:
            return self.answer(413)
        body = self.rfile.read(size)  # as it came
        if not any(verify(secret, self.headers, body) for secret in secrets):
            return self.answer(401)

        webhook_id = self.headers["webhook-id"]  # the same for every attempt
        with db:  # one transaction: the id is kept if the work is done, and only then
            added = db.execute("insert or ignore into received values (?)", (webhook_id,))
            if added.rowcount == 1:
                event = json.loads(body)
                print(webhook_id, event["event_type"], event["data"], flush=True)  # the work; what takes long goes to a queue
        self.answer(204)  # any 2xx, within 15 s

    def answer(self, status):
        self.send_response(status)
        self.end_headers()


server = HTTPServer(("127.0.0.1", int(os.environ["PORT"])), Receiver)
print("listening on port", server.server_port, flush=True)
server.serve_forever()
