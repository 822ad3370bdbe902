ALTER TABLE jobs ADD COLUMN generation INTEGER;     -- of the lease that it last took; none before its first

-- A release of another deployer has a job that is not in this journal, so `job` is no reference any more.
CREATE TABLE releases_of_all (
    service         TEXT NOT NULL,
    target          TEXT NOT NULL,
    id              TEXT NOT NULL,
    job             TEXT NOT NULL,
    standing        TEXT NOT NULL,              -- candidate, live, retired, bad, removing, removed
    method          TEXT NOT NULL,
    port            INTEGER NOT NULL,
    environment     TEXT NOT NULL,              -- JSON: the variables' names
    environment_digest TEXT NOT NULL,           -- keyed, so that values cannot be guessed from it
    files           TEXT,                       -- JSON
    artifact        TEXT,                       -- JSON
    instance        TEXT,                       -- JSON
    plugins         TEXT NOT NULL DEFAULT '{}', -- JSON: digests by name
    created_at      TEXT NOT NULL,
    plan            TEXT,                       -- JSON: the pipeline and the settings that made it
    promoted_at     TEXT,                       -- when it last became the live one
    promoted_by     TEXT,                       -- the job that did that
    origin          TEXT,                       -- JSON: who deployed it, and what was asked for
    PRIMARY KEY (service, target, id)
) STRICT, WITHOUT ROWID;
INSERT INTO releases_of_all (service, target, id, job, standing, method, port, environment, environment_digest,
        files, artifact, instance, plugins, created_at, plan, promoted_at)
    SELECT service, target, id, job, standing, method, port, environment, environment_digest,
        files, artifact, instance, plugins, created_at, plan, promoted_at FROM releases;
DROP TABLE releases;
ALTER TABLE releases_of_all RENAME TO releases;

-- A host's name is one, however it is written.
UPDATE jobs SET target = substr(target, 1, instr(target, '@')) || lower(substr(target, instr(target, '@') + 1))
    WHERE target <> substr(target, 1, instr(target, '@')) || lower(substr(target, instr(target, '@') + 1));
UPDATE OR IGNORE releases
    SET target = substr(target, 1, instr(target, '@')) || lower(substr(target, instr(target, '@') + 1))
    WHERE target <> substr(target, 1, instr(target, '@')) || lower(substr(target, instr(target, '@') + 1));
