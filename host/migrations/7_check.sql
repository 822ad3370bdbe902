-- Written to now and then, to know whether the journal can record.
CREATE TABLE checks (
    one             INTEGER PRIMARY KEY NOT NULL CHECK (one = 1),
    filling         BLOB NOT NULL
) STRICT;
