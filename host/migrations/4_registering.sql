-- Phases that are tried again in the background. What is tried when stands in their details.
CREATE INDEX phases_to_register ON phases (job)
    WHERE status = 'failed' AND phase = 'Register' AND json_extract(details, '$.retry.next_at') IS NOT NULL;
