-- Times are RFC 3339 in UTC with milliseconds, so that they sort as text. Values that are JSON say so.

CREATE TABLE jobs (
    id              TEXT PRIMARY KEY NOT NULL,
    kind            TEXT NOT NULL,              -- deploy, rollback
    service         TEXT NOT NULL,
    target          TEXT NOT NULL,
    method          TEXT NOT NULL,
    release         TEXT NOT NULL,
    request         TEXT NOT NULL,              -- JSON: what was asked for; of the environment, the names
    plan            TEXT NOT NULL,              -- JSON: the pipeline as it was when the job was accepted
    state           TEXT NOT NULL,              -- JSON: JobState
    status          TEXT NOT NULL,              -- the state's status, for queries
    cancelled_by    TEXT,
    created_at      TEXT NOT NULL,
    started_at      TEXT,
    completed_at    TEXT,
    error           TEXT,                       -- JSON: Failure
    registration    TEXT,                       -- JSON
    previous        TEXT,                       -- JSON: the release that ran when the job began
    idempotency_key TEXT UNIQUE
) STRICT;
CREATE INDEX jobs_by_service ON jobs (service, id);
CREATE INDEX jobs_by_status ON jobs (status) WHERE status IN ('pending', 'running');

CREATE TABLE phases (
    job             TEXT NOT NULL REFERENCES jobs (id),
    position        INTEGER NOT NULL,
    phase           TEXT NOT NULL,
    status          TEXT NOT NULL,
    started_at      TEXT,
    completed_at    TEXT,
    details         TEXT NOT NULL DEFAULT '{}', -- JSON
    error           TEXT,                       -- JSON: Failure
    PRIMARY KEY (job, position)
) STRICT, WITHOUT ROWID;

-- One plugin's turn. `result` is what a resumed job takes instead of calling the step again.
CREATE TABLE steps (
    id              INTEGER PRIMARY KEY,
    job             TEXT NOT NULL REFERENCES jobs (id),
    step            TEXT NOT NULL,              -- its place in the job: build/0
    plugin          TEXT NOT NULL,
    function        TEXT NOT NULL,
    digest          TEXT NOT NULL,
    started_at      TEXT NOT NULL,
    completed_at    TEXT,
    result          TEXT,                       -- JSON, when it succeeded
    error           TEXT                        -- JSON: Failure
) STRICT;
CREATE INDEX steps_by_job ON steps (job, step);

-- What plugins asked the host to do: the intent before the effect, the outcome after it.
CREATE TABLE calls (
    id              INTEGER PRIMARY KEY,
    job             TEXT NOT NULL REFERENCES jobs (id),
    step            INTEGER NOT NULL REFERENCES steps (id),
    call            TEXT NOT NULL,
    arguments       TEXT NOT NULL,              -- JSON
    effect          TEXT NOT NULL,              -- reads, changes
    remote_group    INTEGER,                    -- the process group on the target
    remote_started  TEXT,                       -- so that another process with that number is never taken for it
    started_at      TEXT NOT NULL,
    duration_ms     INTEGER,
    outcome         TEXT,
    exit            TEXT,
    output_tail     TEXT
) STRICT;
CREATE INDEX calls_by_job ON calls (job, id);

CREATE TABLE events (
    job             TEXT NOT NULL REFERENCES jobs (id),
    sequence        INTEGER NOT NULL,
    at              TEXT NOT NULL,
    kind            TEXT NOT NULL,              -- job, phase, progress, log
    data            TEXT NOT NULL,              -- JSON
    PRIMARY KEY (job, sequence)
) STRICT, WITHOUT ROWID;

CREATE TABLE releases (
    service         TEXT NOT NULL,
    target          TEXT NOT NULL,
    id              TEXT NOT NULL,
    job             TEXT NOT NULL REFERENCES jobs (id),
    standing        TEXT NOT NULL,              -- candidate, live, retired, bad
    method          TEXT NOT NULL,
    port            INTEGER NOT NULL,
    environment     TEXT NOT NULL,              -- JSON: the variables' names
    environment_digest TEXT NOT NULL,           -- keyed, so that values cannot be guessed from it
    files           TEXT,                       -- JSON
    artifact        TEXT,                       -- JSON
    instance        TEXT,                       -- JSON
    plugins         TEXT NOT NULL DEFAULT '{}', -- JSON: digests by name
    created_at      TEXT NOT NULL,
    PRIMARY KEY (service, target, id)
) STRICT, WITHOUT ROWID;

-- The environments of jobs that are not over, encrypted with the key file beside this database.
CREATE TABLE sealed (
    job             TEXT PRIMARY KEY NOT NULL REFERENCES jobs (id),
    content         BLOB NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE droplets (
    service         TEXT PRIMARY KEY NOT NULL,
    droplet_id      INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
