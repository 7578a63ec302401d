CREATE TABLE sessions (
    id          TEXT PRIMARY KEY,
    status      TEXT NOT NULL,
    reason      TEXT,              -- JSON of the ending, once there is one
    agent       TEXT NOT NULL,
    image       TEXT NOT NULL,
    workspace   TEXT NOT NULL,
    created_at  TEXT NOT NULL,     -- RFC 3339, UTC
    ended_at    TEXT,
    owner_pid   INTEGER NOT NULL,
    container   TEXT,
    network     TEXT,
    made        TEXT NOT NULL DEFAULT '[]', -- JSON: mount points made in the workspace
    summary     TEXT               -- JSON, once ended
) STRICT;

CREATE INDEX sessions_by_status ON sessions (status, created_at);

CREATE TABLE events (
    session     TEXT NOT NULL REFERENCES sessions (id) ON DELETE CASCADE,
    seq         INTEGER NOT NULL,
    runner_seq  INTEGER,           -- the journal's own number; unique, so that no event is taken twice
    body        TEXT NOT NULL,
    PRIMARY KEY (session, seq)
) STRICT, WITHOUT ROWID;

CREATE UNIQUE INDEX events_by_runner_seq ON events (session, runner_seq) WHERE runner_seq IS NOT NULL;

-- How far the journal was read: kept in the same transaction as its events.
CREATE TABLE journals (
    session     TEXT PRIMARY KEY REFERENCES sessions (id) ON DELETE CASCADE,
    cursor      TEXT NOT NULL
) STRICT;

-- What the agent put into messages/ and tasks/, taken once.
CREATE TABLE inbox (
    session     TEXT NOT NULL REFERENCES sessions (id) ON DELETE CASCADE,
    box         TEXT NOT NULL,
    id          TEXT NOT NULL,
    body        TEXT NOT NULL,
    PRIMARY KEY (session, box, id)
) STRICT, WITHOUT ROWID;
