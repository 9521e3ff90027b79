-- The months (UTC) in which services have finished runs, each with what a publication made of it, for as long as none of its runs changes.
CREATE TABLE months (
    service TEXT    NOT NULL,
    since   INTEGER NOT NULL,
    until   INTEGER NOT NULL,
    -- Grows with every change of one of its runs.
    version INTEGER NOT NULL,
    made    TEXT,
    PRIMARY KEY (service, since)
) STRICT, WITHOUT ROWID;

INSERT INTO months (service, since, until, version)
    SELECT DISTINCT service, unixepoch(ended_at / 1000, 'unixepoch', 'start of month') * 1000,
        unixepoch(ended_at / 1000, 'unixepoch', 'start of month', '+1 month') * 1000, 1
    FROM summaries WHERE ended_at IS NOT NULL;

CREATE TRIGGER month_of_added AFTER INSERT ON summaries WHEN new.ended_at IS NOT NULL BEGIN
    INSERT INTO months (service, since, until, version)
        VALUES (new.service, unixepoch(new.ended_at / 1000, 'unixepoch', 'start of month') * 1000,
            unixepoch(new.ended_at / 1000, 'unixepoch', 'start of month', '+1 month') * 1000, 1)
        ON CONFLICT (service, since) DO UPDATE SET version = version + 1, made = NULL;
END;
CREATE TRIGGER month_of_changed AFTER UPDATE ON summaries WHEN new.ended_at IS NOT NULL BEGIN
    INSERT INTO months (service, since, until, version)
        VALUES (new.service, unixepoch(new.ended_at / 1000, 'unixepoch', 'start of month') * 1000,
            unixepoch(new.ended_at / 1000, 'unixepoch', 'start of month', '+1 month') * 1000, 1)
        ON CONFLICT (service, since) DO UPDATE SET version = version + 1, made = NULL;
END;
CREATE TRIGGER month_of_before AFTER UPDATE ON summaries WHEN old.ended_at IS NOT NULL BEGIN
    UPDATE months SET version = version + 1, made = NULL
        WHERE service = old.service AND since <= old.ended_at AND until > old.ended_at;
END;
CREATE TRIGGER month_of_removed AFTER DELETE ON summaries WHEN old.ended_at IS NOT NULL BEGIN
    UPDATE months SET version = version + 1, made = NULL
        WHERE service = old.service AND since <= old.ended_at AND until > old.ended_at;
END;
