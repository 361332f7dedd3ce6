-- +goose Up
-- Times are microseconds since 1970, UTC. Flags are 0 or 1.

create table posthorn_webhooks (
	id uuid primary key,
	organization_id text collate "C" not null,
	name text not null,
	description text not null,
	endpoint_url text not null,
	active smallint not null,
	version bigint not null,
	subscriptions text not null, -- JSON, in the order that was given
	secret bytea,                -- its first byte says how it is kept; null once deleted
	created_at bigint not null,
	updated_at bigint not null,
	created_by text not null,
	updated_by text not null,
	deleted_at bigint,
	epoch bigint not null,       -- of the deliveries that are inserted now
	live_from bigint not null,   -- deliveries of earlier epochs are held
	held_before bigint not null, -- deliveries of earlier epochs were resumed
	resumed_at bigint not null,  -- at this moment
	dirty smallint not null,     -- rows of the queue have to follow
	notified_at bigint           -- the last notice, until an attempt succeeds
);
create index posthorn_webhooks_by_organization on posthorn_webhooks (organization_id, created_at, id);
create index posthorn_webhooks_dirty on posthorn_webhooks (id) where dirty = 1;

create table posthorn_subscriptions (
	organization_id text collate "C" not null,
	subject_id text collate "C" not null,
	subject_type text collate "C" not null,
	event_type text collate "C" not null,
	webhook_id uuid not null,
	filter text, -- JSON
	primary key (organization_id, subject_id, subject_type, event_type, webhook_id)
);
create index posthorn_subscriptions_by_webhook on posthorn_subscriptions (webhook_id, event_type);

create table posthorn_events (
	id uuid primary key,
	organization_id text collate "C" not null,
	event_type text collate "C" not null,
	subject_type text collate "C" not null,
	subject_id text collate "C" not null,
	parents text,    -- JSON
	attributes text, -- JSON
	occurred_at bigint not null,
	idempotency_key text collate "C",
	test smallint not null,
	inserted_at bigint not null,
	unmatched_at bigint,       -- inserted_at, if no webhook asked for it
	payload_at bigint,         -- when to see whether the payload can go; null once it has
	insert_token uuid not null, -- of the call that inserted it
	payload bytea              -- bytes, because the signature covers bytes
);
create unique index posthorn_events_by_key on posthorn_events (organization_id, idempotency_key) where idempotency_key is not null;
create index posthorn_events_by_payload on posthorn_events (payload_at) where payload_at is not null;
create index posthorn_events_unmatched on posthorn_events (unmatched_at) where unmatched_at is not null;

-- Every delivery, from its publishing until retention takes it. A row is
-- updated once, when the delivery is finished, and no index has to follow.
create table posthorn_deliveries (
	id uuid primary key,
	event_id uuid not null,
	webhook_id uuid not null,
	organization_id text collate "C" not null,
	event_type text collate "C" not null,
	state smallint not null,    -- 0 open, 1 succeeded, 2 failed, 3 cancelled
	attempts smallint not null, -- once finished
	created_at bigint not null,
	finished_at bigint,
	redelivery_of uuid
) with (fillfactor = 80);
create index posthorn_deliveries_by_webhook on posthorn_deliveries (webhook_id, created_at, id);
create index posthorn_deliveries_by_organization on posthorn_deliveries (organization_id, created_at, id);
create index posthorn_deliveries_by_event on posthorn_deliveries (event_id);

-- The queue: open deliveries only. Each row is in one of the indexes besides
-- the primary key: ready ones by webhook, waiting and leased ones by wake_at.
create table posthorn_queue (
	delivery_id uuid primary key,
	event_id uuid not null,
	webhook_id uuid not null,
	epoch bigint not null,
	test smallint not null,
	phase smallint not null, -- 0 ready, 1 waiting, 2 leased, 3 held
	attempts smallint not null,
	due_at bigint not null,
	wake_at bigint not null, -- waiting: due_at; leased: the end of the lease
	cancelled smallint not null, -- while leased: ends when the attempt does
	token uuid,
	claimed_at bigint,
	claimed_url text
) with (fillfactor = 80, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000,
	autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 5000);
create index posthorn_queue_ready on posthorn_queue (webhook_id, delivery_id) where phase = 0;
create index posthorn_queue_waiting on posthorn_queue (wake_at) where phase = 1;
create index posthorn_queue_leased on posthorn_queue (wake_at) where phase = 2;
create index posthorn_queue_at_rest on posthorn_queue (webhook_id, delivery_id) where phase in (1, 3);

create table posthorn_attempts (
	delivery_id uuid not null,
	number smallint not null,
	event_id uuid not null,
	webhook_id uuid not null,
	organization_id text collate "C" not null,
	event_type text collate "C" not null,
	started_at bigint not null,
	duration bigint not null, -- this and the following: nanoseconds
	dns bigint,
	connect bigint,
	tls bigint,
	first_byte bigint,
	retry_after bigint,
	outcome smallint not null, -- 0 succeeded, 1 failed, 2 interrupted, 3 late
	status_code smallint not null,
	endpoint_url text not null,
	error_class text,
	error text,
	response bytea,
	response_truncated smallint not null,
	token uuid, -- of an interrupted one, to complete it by
	primary key (delivery_id, number)
);
create index posthorn_attempts_by_webhook on posthorn_attempts (webhook_id, started_at, delivery_id, number);
create index posthorn_attempts_by_organization on posthorn_attempts (organization_id, started_at, delivery_id, number);

create table posthorn_counters (
	webhook_id uuid not null,
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
) with (fillfactor = 50);

create table posthorn_notices (
	webhook_id uuid primary key,
	due_at bigint not null, -- or the end of the lease
	token uuid,             -- null while it is not leased
	attempts bigint not null,
	notice text not null,   -- JSON
	later text              -- JSON, what is counted while the notice is leased
);
create index posthorn_notices_by_due on posthorn_notices (due_at);

-- Claims share this table's lock, and what stops a webhook takes it for itself:
-- when the stop has committed, no claim from before is still under way.
create table posthorn_gate (id smallint primary key);
insert into posthorn_gate (id) values (1);

-- Releases that know version oldest, or a later one, work on tables of this version.
create table posthorn_schema (version integer primary key, oldest integer not null);
insert into posthorn_schema (version, oldest) values (1, 1);
