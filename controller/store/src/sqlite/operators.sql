-- Operators' tokens; their secrets are hashes inside the records.
CREATE TABLE operators (
    made   INTEGER PRIMARY KEY AUTOINCREMENT,
    id     TEXT NOT NULL UNIQUE,
    record TEXT NOT NULL
) STRICT;
