-- What unattended runs need, and summaries of runs: a projection that may be dropped and made again.
CREATE TABLE schedules (
    id               TEXT    PRIMARY KEY,
    name             TEXT    NOT NULL UNIQUE,
    considered_until INTEGER NOT NULL,
    paused           INTEGER NOT NULL,
    record           TEXT    NOT NULL
) STRICT;

CREATE TABLE ticks (
    schedule   TEXT    NOT NULL,
    planned_at INTEGER NOT NULL,
    due        INTEGER NOT NULL,
    run        TEXT,
    record     TEXT    NOT NULL,
    PRIMARY KEY (schedule, planned_at)
) STRICT, WITHOUT ROWID;
CREATE INDEX ticks_due ON ticks (planned_at) WHERE due = 1;

CREATE TABLE freezes (
    id     TEXT    PRIMARY KEY,
    start  INTEGER NOT NULL,
    record TEXT    NOT NULL
) STRICT;

CREATE TABLE summaries (
    run        TEXT    PRIMARY KEY REFERENCES runs (id),
    seq        INTEGER NOT NULL,
    service    TEXT,
    name       TEXT    NOT NULL,
    decided_at INTEGER,
    summary    TEXT    NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX summaries_decided ON summaries (service, name, decided_at) WHERE decided_at IS NOT NULL;
