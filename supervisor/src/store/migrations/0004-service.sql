-- What a service has to know of its sessions after a restart, and who asked it for what.
ALTER TABLE sessions ADD COLUMN principal TEXT NOT NULL DEFAULT 'default';
-- JSON: what was asked for, of a session that a service owns, while it lives: the next service goes on with it.
ALTER TABLE sessions ADD COLUMN request TEXT;

-- What the owner of a session knew of it when it last stored events.
CREATE TABLE checkpoints (
    session TEXT PRIMARY KEY REFERENCES sessions (id) ON DELETE CASCADE,
    body    TEXT NOT NULL
);

CREATE INDEX sessions_by_age ON sessions (created_at, id);

CREATE TABLE audit (
    id       INTEGER PRIMARY KEY,
    at       TEXT NOT NULL,
    actor    TEXT NOT NULL,
    action   TEXT NOT NULL,
    session  TEXT,
    decision TEXT NOT NULL,
    reasons  TEXT NOT NULL
);
