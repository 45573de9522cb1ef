-- Keep migrations/postgres/0004_index_state.sql parallel to this file.

-- Grows with every change of a stored SearchParameter: who indexes by older ones may not commit.
ALTER TABLE counter ADD COLUMN definitions BIGINT NOT NULL DEFAULT 0;

-- By which search parameters the resources of a type are indexed, and how far a walk is that
-- indexes them anew: all rows up to position are done, those after last_row need none.
CREATE TABLE index_state (
    resource_type TEXT NOT NULL PRIMARY KEY,
    indexed TEXT NOT NULL,
    wanted TEXT NOT NULL,
    position BIGINT NOT NULL,
    last_row BIGINT NOT NULL,
    done BIGINT NOT NULL,
    total BIGINT NOT NULL
);
