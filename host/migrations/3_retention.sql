ALTER TABLE jobs ADD COLUMN retention TEXT;      -- JSON: what the job removed of its service's older releases
