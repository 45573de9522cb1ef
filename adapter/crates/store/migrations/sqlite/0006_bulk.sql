-- Keep migrations/postgres/0006_bulk.sql parallel to this file.

-- Work that a client waits for: exports and imports. What they ask for and how far they are is a
-- text of the caller. state: 0 open, 1 done, 2 failed, 3 removed. The moment of an export
-- (transaction_time, seq) stays when the rest is removed: a later export goes on from there.
CREATE TABLE bulk_job (
    bulk_number INTEGER PRIMARY KEY,
    bulk_id TEXT NOT NULL UNIQUE,
    kind TEXT NOT NULL,
    state BIGINT NOT NULL,
    request TEXT NOT NULL,
    progress TEXT NOT NULL,
    created BIGINT NOT NULL,
    transaction_time BIGINT,
    seq BIGINT,
    expires BIGINT,
    worker TEXT NOT NULL,
    lease_until BIGINT NOT NULL
);
CREATE INDEX bulk_job_state ON bulk_job (state, bulk_number);
CREATE INDEX bulk_job_moment ON bulk_job (transaction_time);

-- What was written after a moment is found by its number.
CREATE INDEX resource_seq ON resource (seq, row_id);
