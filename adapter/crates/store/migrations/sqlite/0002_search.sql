-- Keep migrations/postgres/0002_search.sql parallel to this file.

-- Keys that all processes on this database share.
CREATE TABLE secret (
    name TEXT PRIMARY KEY,
    value BLOB NOT NULL
);

-- A walk in the order of a parameter's values goes through equal values in the order of rows.
DROP INDEX resource_last_updated;
CREATE INDEX resource_last_updated ON resource (type_id, last_updated, row_id);
DROP INDEX date_value_low;
CREATE INDEX date_value_low ON date_value (parameter_id, low, row_id, high);
DROP INDEX date_value_high;
CREATE INDEX date_value_high ON date_value (parameter_id, high, row_id, low);
DROP INDEX number_value_low;
CREATE INDEX number_value_low ON number_value (parameter_id, low, row_id, high, unit);
CREATE INDEX number_value_high ON number_value (parameter_id, high, row_id, low, unit);
