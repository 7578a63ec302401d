-- Which engine the session's objects are on: another one knows nothing of them.
ALTER TABLE sessions ADD COLUMN engine_id TEXT;
ALTER TABLE sessions ADD COLUMN engine_endpoint TEXT;

-- Ended sessions whose mount points somebody else was still using.
CREATE INDEX sessions_owing ON sessions (id) WHERE mounted = 0 AND made <> '[]';
