-- A catalogue once, however many hosts have it; the records of hosts name it by its digest.
CREATE TABLE catalogues (
    digest TEXT PRIMARY KEY,
    catalogue TEXT NOT NULL
) STRICT, WITHOUT ROWID;

ALTER TABLE hosts ADD COLUMN catalogue TEXT NOT NULL DEFAULT '';
CREATE INDEX hosts_by_catalogue ON hosts (catalogue);
