-- +goose Up
-- Times are microseconds since 1970, UTC. Flags are 0 or 1.

create table posthorn_webhooks (
	id blob primary key,
	organization_id text not null,
	name text not null,
	description text not null,
	endpoint_url text not null,
	active integer not null,
	version integer not null,
	subscriptions text not null, -- JSON, in the order that was given
	secret blob,                -- its first byte says how it is kept; null once deleted
	created_at integer not null,
	updated_at integer not null,
	created_by text not null,
	updated_by text not null,
	deleted_at integer,
	epoch integer not null,       -- of the deliveries that are inserted now
	live_from integer not null,   -- deliveries of earlier epochs are held
	held_before integer not null, -- deliveries of earlier epochs were resumed
	resumed_at integer not null,  -- at this moment
	dirty integer not null,     -- rows of the queue have to follow
	notified_at integer           -- the last notice, until an attempt succeeds
);
create index posthorn_webhooks_by_organization on posthorn_webhooks (organization_id, created_at, id);
create index posthorn_webhooks_dirty on posthorn_webhooks (id) where dirty = 1;

create table posthorn_subscriptions (
	organization_id text not null,
	subject_id text not null,
	subject_type text not null,
	event_type text not null,
	webhook_id blob not null,
	filter text, -- JSON
	primary key (organization_id, subject_id, subject_type, event_type, webhook_id)
);
create index posthorn_subscriptions_by_webhook on posthorn_subscriptions (webhook_id, event_type);

create table posthorn_events (
	id blob primary key,
	organization_id text not null,
	event_type text not null,
	subject_type text not null,
	subject_id text not null,
	parents text,    -- JSON
	attributes text, -- JSON
	occurred_at integer not null,
	idempotency_key text,
	test integer not null,
	inserted_at integer not null,
	unmatched_at integer,       -- inserted_at, if no webhook asked for it
	payload_at integer,         -- when to see whether the payload can go; null once it has
	insert_token blob not null, -- of the call that inserted it
	payload blob              -- bytes, because the signature covers bytes
);
create unique index posthorn_events_by_key on posthorn_events (organization_id, idempotency_key) where idempotency_key is not null;
create index posthorn_events_by_payload on posthorn_events (payload_at) where payload_at is not null;
create index posthorn_events_unmatched on posthorn_events (unmatched_at) where unmatched_at is not null;

-- Every delivery, from its publishing until retention takes it. A row is
-- updated once, when the delivery is finished, and no index has to follow.
create table posthorn_deliveries (
	id blob primary key,
	event_id blob not null,
	webhook_id blob not null,
	organization_id text not null,
	event_type text not null,
	state integer not null,    -- 0 open, 1 succeeded, 2 failed, 3 cancelled
	attempts integer not null, -- once finished
	created_at integer not null,
	finished_at integer,
	redelivery_of blob
);
create index posthorn_deliveries_by_webhook on posthorn_deliveries (webhook_id, created_at, id);
create index posthorn_deliveries_by_organization on posthorn_deliveries (organization_id, created_at, id);
create index posthorn_deliveries_by_event on posthorn_deliveries (event_id);

-- The queue: open deliveries only. Each row is in one of the indexes besides
-- the primary key: ready ones by webhook, waiting and leased ones by wake_at.
create table posthorn_queue (
	delivery_id blob primary key,
	event_id blob not null,
	webhook_id blob not null,
	epoch integer not null,
	test integer not null,
	phase integer not null, -- 0 ready, 1 waiting, 2 leased, 3 held
	attempts integer not null,
	due_at integer not null,
	wake_at integer not null, -- waiting: due_at; leased: the end of the lease
	cancelled integer not null, -- while leased: ends when the attempt does
	token blob,
	claimed_at integer,
	claimed_url text
);
create index posthorn_queue_ready on posthorn_queue (webhook_id, delivery_id) where phase = 0;
create index posthorn_queue_waiting on posthorn_queue (wake_at) where phase = 1;
create index posthorn_queue_leased on posthorn_queue (wake_at) where phase = 2;
create index posthorn_queue_at_rest on posthorn_queue (webhook_id, delivery_id) where phase in (1, 3);

create table posthorn_attempts (
	delivery_id blob not null,
	number integer not null,
	event_id blob not null,
	webhook_id blob not null,
	organization_id text not null,
	event_type text not null,
	started_at integer not null,
	duration integer not null, -- this and the following: nanoseconds
	dns integer,
	connect integer,
	tls integer,
	first_byte integer,
	retry_after integer,
	outcome integer not null, -- 0 succeeded, 1 failed, 2 interrupted, 3 late
	status_code integer not null,
	endpoint_url text not null,
	error_class text,
	error text,
	response blob,
	response_truncated integer not null,
	token blob, -- of an interrupted one, to complete it by
	primary key (delivery_id, number)
);
create index posthorn_attempts_by_webhook on posthorn_attempts (webhook_id, started_at, delivery_id, number);
create index posthorn_attempts_by_organization on posthorn_attempts (organization_id, started_at, delivery_id, number);

create table posthorn_counters (
	webhook_id blob not null,
	hour integer not null,
	succeeded integer not null,
	failed integer not null,
	interrupted integer not null,
	latency0 integer not null,
	latency1 integer not null,
	latency2 integer not null,
	latency3 integer not null,
	latency4 integer not null,
	latency5 integer not null,
	latency6 integer not null,
	latency7 integer not null,
	latency8 integer not null,
	latency9 integer not null,
	latency10 integer not null,
	primary key (webhook_id, hour)
);

create table posthorn_notices (
	webhook_id blob primary key,
	due_at integer not null, -- or the end of the lease
	token blob,             -- null while it is not leased
	attempts integer not null,
	notice text not null,   -- JSON
	later text              -- JSON, what is counted while the notice is leased
);
create index posthorn_notices_by_due on posthorn_notices (due_at);

-- Claims share this table's lock, and what stops a webhook takes it for itself:
-- when the stop has committed, no claim from before is still under way.
create table posthorn_gate (id integer primary key);
insert into posthorn_gate (id) values (1);

-- Releases that know version oldest, or a later one, work on tables of this version.
create table posthorn_schema (version integer primary key, oldest integer not null);
insert into posthorn_schema (version, oldest) values (1, 1);
