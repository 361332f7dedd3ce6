-- +goose Up
-- Times are microseconds since 1970, UTC. Flags are 0 or 1.

create table if not exists posthorn_webhooks (
	id binary(16) primary key,
	organization_id varbinary(128) not null,
	name blob not null,
	description blob not null,
	endpoint_url blob not null,
	active smallint not null,
	version bigint not null,
	subscriptions longblob not null, -- JSON, in the order that was given
	secret blob,                -- its first byte says how it is kept; null once deleted
	created_at bigint not null,
	updated_at bigint not null,
	created_by blob not null,
	updated_by blob not null,
	deleted_at bigint,
	epoch bigint not null,       -- of the deliveries that are inserted now
	live_from bigint not null,   -- deliveries of earlier epochs are held
	held_before bigint not null, -- deliveries of earlier epochs were resumed
	resumed_at bigint not null,  -- at this moment
	dirty smallint not null,     -- rows of the queue have to follow
	notified_at bigint, -- the last notice, until an attempt succeeds
	key posthorn_webhooks_by_organization (organization_id, created_at, id),
	key posthorn_webhooks_dirty (dirty, id)
);

create table if not exists posthorn_subscriptions (
	organization_id varbinary(128) not null,
	subject_id varbinary(128) not null,
	subject_type varbinary(128) not null,
	event_type varbinary(128) not null,
	webhook_id binary(16) not null,
	filter blob, -- JSON
	primary key (organization_id, subject_id, subject_type, event_type, webhook_id),
	key posthorn_subscriptions_by_webhook (webhook_id, event_type)
);

create table if not exists posthorn_events (
	id binary(16) primary key,
	organization_id varbinary(128) not null,
	event_type varbinary(128) not null,
	subject_type varbinary(128) not null,
	subject_id varbinary(128) not null,
	parents blob,    -- JSON
	attributes blob, -- JSON
	occurred_at bigint not null,
	idempotency_key varbinary(128),
	test smallint not null,
	inserted_at bigint not null,
	unmatched_at bigint,       -- inserted_at, if no webhook asked for it
	payload_at bigint,         -- when to see whether the payload can go; null once it has
	insert_token binary(16) not null, -- of the call that inserted it
	payload longblob, -- bytes, because the signature covers bytes
	unique key posthorn_events_by_key (organization_id, idempotency_key),
	key posthorn_events_by_payload (payload_at),
	key posthorn_events_unmatched (unmatched_at)
);

-- Every delivery, from its publishing until retention takes it. A row is
-- updated once, when the delivery is finished, and no index has to follow.
create table if not exists posthorn_deliveries (
	id binary(16) primary key,
	event_id binary(16) not null,
	webhook_id binary(16) not null,
	organization_id varbinary(128) not null,
	event_type varbinary(128) not null,
	state smallint not null,    -- 0 open, 1 succeeded, 2 failed, 3 cancelled
	attempts smallint not null, -- once finished
	created_at bigint not null,
	finished_at bigint,
	redelivery_of binary(16),
	key posthorn_deliveries_by_webhook (webhook_id, created_at, id),
	key posthorn_deliveries_by_organization (organization_id, created_at, id),
	key posthorn_deliveries_by_event (event_id)
);

-- The queue: open deliveries only. Each row is in one of the indexes besides
-- the primary key: ready ones by webhook, waiting and leased ones by wake_at.
create table if not exists posthorn_queue (
	delivery_id binary(16) primary key,
	event_id binary(16) not null,
	webhook_id binary(16) not null,
	epoch bigint not null,
	test smallint not null,
	phase smallint not null, -- 0 ready, 1 waiting, 2 leased, 3 held
	attempts smallint not null,
	due_at bigint not null,
	wake_at bigint not null, -- waiting: due_at; leased: the end of the lease
	cancelled smallint not null, -- while leased: ends when the attempt does
	token binary(16),
	claimed_at bigint,
	claimed_url blob,
	key posthorn_queue_ready (phase, webhook_id, delivery_id),
	key posthorn_queue_by_time (phase, wake_at)
);

create table if not exists posthorn_attempts (
	delivery_id binary(16) not null,
	number smallint not null,
	event_id binary(16) not null,
	webhook_id binary(16) not null,
	organization_id varbinary(128) not null,
	event_type varbinary(128) not null,
	started_at bigint not null,
	duration bigint not null, -- this and the following: nanoseconds
	dns bigint,
	connect bigint,
	tls bigint,
	first_byte bigint,
	retry_after bigint,
	outcome smallint not null, -- 0 succeeded, 1 failed, 2 interrupted, 3 late
	status_code smallint not null,
	endpoint_url blob not null,
	error_class blob,
	error blob,
	response blob,
	response_truncated smallint not null,
	token binary(16), -- of an interrupted one, to complete it by
	primary key (delivery_id, number),
	key posthorn_attempts_by_webhook (webhook_id, started_at, delivery_id, number),
	key posthorn_attempts_by_organization (organization_id, started_at, delivery_id, number)
);

create table if not exists posthorn_counters (
	webhook_id binary(16) not null,
	hour bigint not null,
	succeeded bigint not null,
	failed bigint not null,
	interrupted bigint not null,
	latency0 bigint not null,
	latency1 bigint not null,
	latency2 bigint not null,
	latency3 bigint not null,
	latency4 bigint not null,
	latency5 bigint not null,
	latency6 bigint not null,
	latency7 bigint not null,
	latency8 bigint not null,
	latency9 bigint not null,
	latency10 bigint not null,
	primary key (webhook_id, hour)
);

create table if not exists posthorn_notices (
	webhook_id binary(16) primary key,
	due_at bigint not null, -- or the end of the lease
	token binary(16),             -- null while it is not leased
	attempts bigint not null,
	notice mediumblob not null, -- JSON
	later mediumblob, -- JSON, what is counted while the notice is leased
	key posthorn_notices_by_due (due_at)
);

-- Claims share this table's lock, and what stops a webhook takes it for itself:
-- when the stop has committed, no claim from before is still under way.
create table if not exists posthorn_gate (id smallint primary key);
insert ignore into posthorn_gate (id) values (1);

-- Releases that know version oldest, or a later one, work on tables of this version.
create table if not exists posthorn_schema (version int primary key, oldest int not null);
insert ignore into posthorn_schema (version, oldest) values (1, 1);
