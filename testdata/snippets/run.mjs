// Calls functions of verify.mjs. Standard input has one call a line, in JSON;
// standard output what each came to: accepted, refused or error.
import { createInterface } from "node:readline";
import * as snippet from "./verify.mjs";

for await (const line of createInterface({ input: process.stdin })) {
  const c = JSON.parse(line);
  try {
    const body = Buffer.from(c.body, "base64");
    console.log(snippet[c.function](c.secret, c.headers, body, c.now) === true ? "accepted" : "refused");
  } catch {
    console.log("error");
  }
}
