-- Sums over all sessions that have ever ended: retention removes sessions, and a counter may not fall.
CREATE TABLE counters (
    name  TEXT PRIMARY KEY,
    value ANY NOT NULL              -- an integer, or for money a real number
) STRICT, WITHOUT ROWID;

-- Figures come from programs in containers, so none may be negative, and none may make a sum overflow. total() adds as real
-- numbers, which never fails.
INSERT INTO counters (name, value)
SELECT 'input_tokens', CAST(min(total(max(coalesce(summary ->> '$.tokens.input', 0), 0)), 9.0e18) AS INTEGER)
FROM sessions WHERE ended_at IS NOT NULL
UNION ALL
SELECT 'output_tokens', CAST(min(total(max(coalesce(summary ->> '$.tokens.output', 0), 0)), 9.0e18) AS INTEGER)
FROM sessions WHERE ended_at IS NOT NULL
UNION ALL
SELECT 'cost_usd', min(total(min(max(coalesce(summary ->> '$.costUsd', 0.0), 0.0), 1.0e12)), 1.0e15)
FROM sessions WHERE ended_at IS NOT NULL;

-- A trigger counts in the transaction that ends the session, once for each session, whichever process ends it: an older
-- aigo may still have the database open.
CREATE TRIGGER count_ended_session AFTER UPDATE OF ended_at ON sessions
WHEN OLD.ended_at IS NULL AND NEW.ended_at IS NOT NULL
BEGIN
    UPDATE counters SET value = min(value + max(coalesce(NEW.summary ->> '$.tokens.input', 0), 0), 9000000000000000000)
    WHERE name = 'input_tokens';
    UPDATE counters SET value = min(value + max(coalesce(NEW.summary ->> '$.tokens.output', 0), 0), 9000000000000000000)
    WHERE name = 'output_tokens';
    UPDATE counters SET value = min(value + min(max(coalesce(NEW.summary ->> '$.costUsd', 0.0), 0.0), 1.0e12), 1.0e15)
    WHERE name = 'cost_usd';
END;
