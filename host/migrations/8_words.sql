-- One word for each thing: a release has a status, an environment is encrypted.
ALTER TABLE releases RENAME COLUMN standing TO status;
ALTER TABLE sealed RENAME TO encrypted_environments;
