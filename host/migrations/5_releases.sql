ALTER TABLE releases ADD COLUMN plan TEXT;          -- JSON: the pipeline and the settings that made it
ALTER TABLE releases ADD COLUMN promoted_at TEXT;   -- when it last became the live one
