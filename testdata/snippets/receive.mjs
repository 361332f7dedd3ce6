import { createServer } from "node:http";
import { verify } from "./verify.mjs";

// Several, separated by spaces, while one webhook takes over from another.
const secrets = process.env.WEBHOOK_SECRET.split(" ");
const MAX_BODY = 1 << 20; // bytes
const seen = new Set(); // yours: a table with a unique key, written together with the work

async function receive(request, response) {
  const parts = [];
  let size = 0;
  for await (const part of request) {
    if ((size += part.length) > MAX_BODY) return response.writeHead(413).end();
    parts.push(part);
  }
  const body = Buffer.concat(parts); // as it came
  if (!secrets.some((secret) => verify(secret, request.headers, body))) return response.writeHead(401).end();

  const id = request.headers["webhook-id"]; // the same for every attempt
  if (!seen.has(id)) {
    const event = JSON.parse(body);
    console.log(id, event.event_type, JSON.stringify(event.data)); // the work; what takes long goes to a queue
    seen.add(id); // after the work: what failed has to come again
  }
  response.writeHead(204).end(); // any 2xx, within 15 s
}

const server = createServer((request, response) => {
  receive(request, response).catch(() => response.writeHead(500).end()); // it comes again
});
server.listen(process.env.PORT, "127.0.0.1", () => console.log("listening on port", server.address().port));
