-- Keep migrations/postgres/0003_history.sql parallel to this file.

-- The history of a type and of all types goes by time, newest first. The upper bits of a row id
-- are its type.
CREATE INDEX resource_time ON resource (last_updated, seq);
CREATE INDEX history_time ON history (last_updated, seq);
CREATE INDEX history_type_time ON history ((row_id >> 39), last_updated, seq);
