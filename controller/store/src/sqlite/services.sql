-- What services are, and what was published of them.
CREATE TABLE services (
    name   TEXT PRIMARY KEY,
    record TEXT NOT NULL
) STRICT;

CREATE TABLE publications (
    made   INTEGER PRIMARY KEY AUTOINCREMENT,
    record TEXT NOT NULL
) STRICT;
