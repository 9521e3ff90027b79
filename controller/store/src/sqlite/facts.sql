-- A fact is the same fact only from the same host in the same run: the report of another host cannot stand in for it.
ALTER TABLE events ADD COLUMN host TEXT;
UPDATE events SET host = json_extract(event, '$.by') WHERE injection IS NOT NULL;
DROP INDEX events_facts;
CREATE UNIQUE INDEX events_facts ON events (run, host, injection, boot_id, agent_seq) WHERE injection IS NOT NULL;
