-- Who did what. A record's hash is over the hash of the one before and the record itself, so that one that was
-- changed or taken away is found. The triggers keep a mistake from doing either.
CREATE TABLE audit (
    seq             INTEGER PRIMARY KEY NOT NULL, -- counts from 1, without gaps
    record          TEXT NOT NULL,              -- JSON, its keys in order and without spaces: AuditRecord
    previous        TEXT NOT NULL,              -- the hash of the record before, or zeros
    hash            TEXT NOT NULL,              -- SHA-256 in hexadecimal
    service         TEXT NOT NULL GENERATED ALWAYS AS (record ->> 'service_name') VIRTUAL
) STRICT;
CREATE INDEX audit_by_service ON audit (service, seq);

CREATE TRIGGER audit_is_never_changed BEFORE UPDATE ON audit
BEGIN SELECT RAISE(ABORT, 'the audit is only ever added to'); END;
CREATE TRIGGER audit_is_never_removed BEFORE DELETE ON audit
BEGIN SELECT RAISE(ABORT, 'the audit is only ever added to'); END;

-- Counting jobs by status reads this index alone, and not every job's request and plan.
DROP INDEX jobs_by_status;
CREATE INDEX jobs_by_status ON jobs (status);

-- The fingerprint of the key that the target showed to the job.
ALTER TABLE jobs ADD COLUMN host_key TEXT;
