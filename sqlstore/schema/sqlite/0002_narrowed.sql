-- +goose Up
-- What an edit has yet to cancel: JSON, null once it is done.

alter table posthorn_webhooks add column narrowed text;

-- Releases that know version oldest, or a later one, work on tables of this version.
insert into posthorn_schema (version, oldest) values (2, 1);
