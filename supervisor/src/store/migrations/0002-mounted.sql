-- The session's mount points in the workspace are in use.
ALTER TABLE sessions ADD COLUMN mounted INTEGER NOT NULL DEFAULT 0;
