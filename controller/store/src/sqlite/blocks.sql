-- Events of finished runs, packed: what is in a block is in no row of events, and what comes later is behind the blocks in rows.
ALTER TABLE runs ADD COLUMN compacted INTEGER NOT NULL DEFAULT 0;
CREATE INDEX runs_to_compact ON runs (made) WHERE finished = 1 AND outdated = 0 AND compacted = 0;

CREATE TABLE blocks (
    run    INTEGER NOT NULL REFERENCES runs (made),
    first  INTEGER NOT NULL,
    last   INTEGER NOT NULL,
    -- Of the text in bytes.
    length INTEGER NOT NULL,
    -- The text as gzip: the JSON of each event, one a line.
    events BLOB    NOT NULL,
    PRIMARY KEY (run, last)
) STRICT;

-- By which a fact in a block is recognised when it comes again.
CREATE TABLE packed_facts (
    run  INTEGER NOT NULL REFERENCES runs (made),
    fact BLOB    NOT NULL,
    PRIMARY KEY (run, fact)
) STRICT, WITHOUT ROWID;
