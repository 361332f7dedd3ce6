<?php

// Calls functions of verify.php. Standard input has one call a line, in JSON;
// standard output what each came to: accepted, refused or error.
require __DIR__ . '/verify.php';

while (($line = fgets(STDIN)) !== false) {
    $c = json_decode($line, true, 512, JSON_THROW_ON_ERROR);
    $now = $c['function'] === 'verifyPivot' || !isset($c['now']) ? [] : [$c['now']];
    try {
        $said = $c['function']($c['secret'], $c['headers'], base64_decode($c['body']), ...$now);
        echo $said === true ? "accepted\n" : "refused\n";
    } catch (Throwable) {
        echo "error\n";
    }
}
