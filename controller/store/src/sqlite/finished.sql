-- What levels and pages need to know of a finished run, and by which they find it; NULL where the run speaks for no service.
-- A finished run is outdated until its row covers its last event: whoever reads rows brings those up to date first.
ALTER TABLE runs ADD COLUMN outdated INTEGER NOT NULL DEFAULT 1;
CREATE INDEX runs_outdated ON runs (made) WHERE finished = 1 AND outdated = 1;

ALTER TABLE summaries ADD COLUMN worth TEXT;
ALTER TABLE summaries ADD COLUMN environment TEXT;
ALTER TABLE summaries ADD COLUMN ended_at INTEGER;
ALTER TABLE summaries ADD COLUMN verdict TEXT;
ALTER TABLE summaries ADD COLUMN passed INTEGER;
ALTER TABLE summaries ADD COLUMN decided INTEGER;
ALTER TABLE summaries ADD COLUMN production INTEGER;
ALTER TABLE summaries ADD COLUMN shown INTEGER;
-- Grows with every row that is kept.
ALTER TABLE summaries ADD COLUMN changed INTEGER NOT NULL DEFAULT 0;
CREATE INDEX summaries_changed ON summaries (changed);
CREATE INDEX summaries_of_service ON summaries (service, ended_at, run) WHERE ended_at IS NOT NULL;
CREATE INDEX summaries_of_test ON summaries (service, name, passed, ended_at, run) WHERE ended_at IS NOT NULL;
CREATE INDEX summaries_decided_runs ON summaries (service, name, ended_at, run) WHERE decided = 1;
CREATE INDEX summaries_in_environment ON summaries (service, environment, ended_at, run, verdict, decided) WHERE ended_at IS NOT NULL;
CREATE INDEX summaries_passed_elsewhere ON summaries (service, name, environment, ended_at, run) WHERE passed = 1 AND production = 0;
CREATE INDEX summaries_in_production ON summaries (service, environment, ended_at, run) WHERE production = 1;
CREATE INDEX summaries_shown ON summaries (service, environment, ended_at, run) WHERE shown = 1;

-- By which version of the reading of events the rows were made.
CREATE TABLE reading (
    only    INTEGER PRIMARY KEY CHECK (only = 1),
    version INTEGER NOT NULL
) STRICT;
INSERT INTO reading (only, version) VALUES (1, 0);
