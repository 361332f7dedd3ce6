import { createHmac, timingSafeEqual } from "node:crypto";

const TOLERANCE = 5 * 60; // seconds

// verify says whether a request is genuine. Headers are those of node:http, in
// lower case; body is the Buffer that was received, before anything parses it.
export function verify(secret, headers, body, now = Date.now() / 1000) {
  return verifyPivot(secret, headers, body) && verifyStandard(secret, headers, body, now);
}

// X-Pivot-Signature: the key is the secret's text, "whsec_" included.
export function verifyPivot(secret, headers, body) {
  return equal(headers["x-pivot-signature"] ?? "", mac(secret, body).toString("hex"));
}

// Standard Webhooks: the key is what follows "whsec_", decoded.
export function verifyStandard(secret, headers, body, now = Date.now() / 1000) {
  const id = headers["webhook-id"] ?? "";
  const timestamp = headers["webhook-timestamp"] ?? "";
  if (!/^[^.]+$/.test(id) || !/^[0-9]{1,12}$/.test(timestamp)) return false;
  if (Math.abs(Math.floor(now) - Number(timestamp)) > TOLERANCE) return false;
  const key = Buffer.from(secret.replace(/^whsec_/, ""), "base64");
  const want = "v1," + mac(key, `${id}.${timestamp}.`, body).toString("base64");
  return (headers["webhook-signature"] ?? "").split(" ").some((given) => equal(given, want));
}

function mac(key, ...parts) {
  if (!key.length) throw new Error("the secret is empty");
  return parts.reduce((h, part) => h.update(part), createHmac("sha256", key)).digest();
}

function equal(given, want) {
  const a = Buffer.from(given), b = Buffer.from(want);
  return a.length === b.length && timingSafeEqual(a, b);
}
