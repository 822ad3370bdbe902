-- Written to now and then, to know whether the journal can record. A few pages, so that what is left of a full
-- disk by chance is not taken for space.
CREATE TABLE checks (
    one             INTEGER PRIMARY KEY NOT NULL CHECK (one = 1),
    filling         BLOB NOT NULL
) STRICT;
