-- +goose Up
-- What is known of a webhook's health, what a rule has done about it, and where
-- events come from.

alter table posthorn_webhooks add column rate_limit bigint not null default 0; -- attempts a second; 0 means no limit
alter table posthorn_webhooks add column deactivated_for text; -- the rule that made it inactive; null if a person did
alter table posthorn_webhooks add column status_at bigint; -- since when it is active, or inactive; null means since its last edit, at the latest

alter table posthorn_counters add column last_success_at bigint; -- of the hour's attempts
alter table posthorn_counters add column failed_since bigint not null default 0; -- failures of the hour after that

alter table posthorn_events add column trace_context text; -- of the call that published it

-- What holds for all dispatchers, such as that they are paused.
create table posthorn_settings (
	name text primary key,
	value text not null -- JSON
);

-- Releases that know version oldest, or a later one, work on tables of this version.
insert into posthorn_schema (version, oldest) values (3, 1);
