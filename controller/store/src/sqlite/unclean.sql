-- Runs that ended without the proof of some host, found without reading every summary.
ALTER TABLE summaries ADD COLUMN unclean INTEGER GENERATED ALWAYS AS (json_extract(summary, '$.hosts_unclean')) VIRTUAL;
CREATE INDEX summaries_unclean ON summaries (run) WHERE unclean > 0;
