-- Plans that no run used are forgotten after a time; which ones runs used is told by the first event of each run.
ALTER TABLE plans ADD COLUMN used INTEGER NOT NULL DEFAULT 0;
UPDATE plans SET used = 1 WHERE digest IN (
    SELECT json_extract(event, '$.digest') FROM events WHERE seq = 1 AND json_extract(event, '$.type') = 'run.accepted'
);
CREATE INDEX plans_unused ON plans (created_at) WHERE used = 0;
