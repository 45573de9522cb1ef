-- Keep migrations/sqlite/0005_subscription.sql parallel to this file.

-- Raised when something changes that every writer must know before it writes again.
ALTER TABLE counter ADD COLUMN epoch BIGINT NOT NULL DEFAULT 0;

-- What became of the jobs of one destination.
CREATE INDEX job_destination ON job (destination, state, job_id);
