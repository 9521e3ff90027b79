-- Events are the truth; every other table is either a projection of them or a registry of its own.
CREATE TABLE meta (
    only  INTEGER PRIMARY KEY CHECK (only = 1),
    epoch INTEGER NOT NULL
) STRICT;
INSERT INTO meta (only, epoch) VALUES (1, 0);

CREATE TABLE runs (
    made            INTEGER PRIMARY KEY AUTOINCREMENT,
    id              TEXT    NOT NULL UNIQUE,
    name            TEXT    NOT NULL,
    created_at      INTEGER NOT NULL,
    finished        INTEGER NOT NULL DEFAULT 0,
    idempotency_key TEXT    UNIQUE
) STRICT;
CREATE INDEX runs_unfinished ON runs (made) WHERE finished = 0;

CREATE TABLE events (
    run       TEXT    NOT NULL REFERENCES runs (id),
    seq       INTEGER NOT NULL,
    event     TEXT    NOT NULL,
    injection TEXT,
    boot_id   TEXT,
    agent_seq INTEGER,
    PRIMARY KEY (run, seq)
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX events_facts ON events (injection, boot_id, agent_seq) WHERE injection IS NOT NULL;

CREATE TABLE plans (
    digest     TEXT    PRIMARY KEY,
    created_at INTEGER NOT NULL,
    view       TEXT    NOT NULL
) STRICT;

CREATE TABLE hosts (
    name   TEXT PRIMARY KEY,
    record TEXT NOT NULL
) STRICT;

CREATE TABLE tokens (
    made   INTEGER PRIMARY KEY AUTOINCREMENT,
    id     TEXT NOT NULL UNIQUE,
    record TEXT NOT NULL
) STRICT;

CREATE TABLE fleet (
    seq   INTEGER PRIMARY KEY AUTOINCREMENT,
    event TEXT NOT NULL
) STRICT;

CREATE TABLE latch (
    only INTEGER PRIMARY KEY CHECK (only = 1),
    halt TEXT NOT NULL
) STRICT;
