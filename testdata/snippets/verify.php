<?php

const TOLERANCE = 5 * 60; // seconds

// verify says whether a request is genuine. Headers have names in lower case, as
// array_change_key_case(getallheaders()) returns them; body is what
// file_get_contents('php://input') returns, before anything parses it.
function verify(string $secret, array $headers, string $body, ?int $now = null): bool
{
    return verifyPivot($secret, $headers, $body) && verifyStandard($secret, $headers, $body, $now);
}

// X-Pivot-Signature: the key is the secret's text, "whsec_" included.
function verifyPivot(string $secret, array $headers, string $body): bool
{
    return hash_equals(bin2hex(mac($secret, $body)), $headers['x-pivot-signature'] ?? '');
}

// Standard Webhooks: the key is what follows "whsec_", decoded.
function verifyStandard(string $secret, array $headers, string $body, ?int $now = null): bool
{
    $id = $headers['webhook-id'] ?? '';
    $timestamp = $headers['webhook-timestamp'] ?? '';
    if (!preg_match('/^[^.]+$/D', $id) || !preg_match('/^[0-9]{1,12}$/D', $timestamp)) {
        return false;
    }
    if (abs(($now ?? time()) - (int) $timestamp) > TOLERANCE) {
        return false;
    }
    $key = base64_decode(preg_replace('/^whsec_/', '', $secret));
    $want = 'v1,' . base64_encode(mac($key, "$id.$timestamp.$body"));
    $valid = false;
    foreach (explode(' ', $headers['webhook-signature'] ?? '') as $given) {
        $valid = hash_equals($want, $given) || $valid;
    }
    return $valid;
}

function mac(string $key, string $message): string
{
    if ($key === '') {
        throw new InvalidArgumentException('the secret is empty');
    }
    return hash_hmac('sha256', $message, $key, true);
}
