-- What was set while a service ran, and lasts: it goes before the configuration.
CREATE TABLE settings (
    scope   TEXT NOT NULL,          -- what it is of: 'agent'
    name    TEXT NOT NULL,
    value   TEXT NOT NULL,          -- JSON
    set_at  TEXT NOT NULL,          -- RFC 3339, UTC
    PRIMARY KEY (scope, name)
) STRICT, WITHOUT ROWID;
