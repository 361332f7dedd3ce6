<?php

require __DIR__ . '/verify.php';

// Several, separated by spaces, while one webhook takes over from another.
$secrets = explode(' ', getenv('WEBHOOK_SECRET'));
$headers = array_change_key_case(getallheaders());
$body = file_get_contents('php://input'); // as it came
$genuine = false;
foreach ($secrets as $secret) {
    $genuine = $genuine || verify($secret, $headers, $body);
}
if (!$genuine) {
    http_response_code(401);
    exit;
}

$db = new PDO(getenv('DATABASE'));
$db->setAttribute(PDO::ATTR_ERRMODE, PDO::ERRMODE_EXCEPTION);
$db->exec('create table if not exists received (webhook_id varchar(128) primary key)');
$db->beginTransaction(); // the id is kept if the work is done, and only then
$insert = $db->prepare('insert into received (webhook_id) values (?) on conflict do nothing'); // MySQL: insert ignore
$insert->execute([$headers['webhook-id']]); // the same for every attempt
if ($insert->rowCount() === 1) {
    $event = json_decode($body, true, 512, JSON_THROW_ON_ERROR);
    error_log("{$headers['webhook-id']} {$event['event_type']} " . json_encode($event['data'])); // the work; what takes long goes to a queue
}
$db->commit();
http_response_code(204); // any 2xx, within 15 s
