-- Keep migrations/postgres/0001_first.sql parallel to this file.

-- The last numbers given out. Every write begins by updating this row.
CREATE TABLE counter (
    one BIGINT PRIMARY KEY CHECK (one = 1),
    row_number BIGINT NOT NULL,
    seq BIGINT NOT NULL
);
INSERT INTO counter (one, row_number, seq) VALUES (1, 0, 0);

CREATE TABLE resource_type (
    type_id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE
);

CREATE TABLE parameter (
    parameter_id INTEGER PRIMARY KEY,
    type_id BIGINT NOT NULL,
    code TEXT NOT NULL,
    UNIQUE (type_id, code)
);

-- Current versions. row_id = type_id * 2^39 + row number: the rows of one type lie together.
-- body is NULL when the resource is deleted.
CREATE TABLE resource (
    row_id INTEGER PRIMARY KEY,
    type_id BIGINT NOT NULL,
    id TEXT NOT NULL,
    version BIGINT NOT NULL,
    last_updated BIGINT NOT NULL,
    seq BIGINT NOT NULL,
    method BIGINT NOT NULL,
    body TEXT,
    UNIQUE (type_id, id)
);
CREATE INDEX resource_last_updated ON resource (type_id, last_updated);

-- Older versions.
CREATE TABLE history (
    row_id BIGINT NOT NULL,
    version BIGINT NOT NULL,
    last_updated BIGINT NOT NULL,
    seq BIGINT NOT NULL,
    method BIGINT NOT NULL,
    body TEXT,
    PRIMARY KEY (row_id, version)
);

-- What current versions are found by. Each table is kept in the order of row_id, which makes
-- inserts appends and the rows of one resource neighbors; an index holds the order of values.
CREATE TABLE key_value (
    row_id BIGINT NOT NULL,
    parameter_id BIGINT NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (row_id, parameter_id, value)
) WITHOUT ROWID;
CREATE INDEX key_value_order ON key_value (parameter_id, value, row_id);

CREATE TABLE date_value (
    row_id BIGINT NOT NULL,
    parameter_id BIGINT NOT NULL,
    low BIGINT NOT NULL,
    high BIGINT NOT NULL,
    PRIMARY KEY (row_id, parameter_id, low, high)
) WITHOUT ROWID;
CREATE INDEX date_value_low ON date_value (parameter_id, low, high, row_id);
CREATE INDEX date_value_high ON date_value (parameter_id, high, low, row_id);

CREATE TABLE number_value (
    row_id BIGINT NOT NULL,
    parameter_id BIGINT NOT NULL,
    low REAL NOT NULL,
    high REAL NOT NULL,
    unit TEXT NOT NULL,
    PRIMARY KEY (row_id, parameter_id, low, high, unit)
) WITHOUT ROWID;
CREATE INDEX number_value_low ON number_value (parameter_id, low, high, unit, row_id);

CREATE TABLE audit (
    audit_id INTEGER PRIMARY KEY,
    recorded BIGINT NOT NULL,
    body TEXT NOT NULL
);

-- Raw input: the present state of each row of a supplier's table, and its earlier states.
CREATE TABLE landed (
    source TEXT NOT NULL,
    name TEXT NOT NULL,
    row_key TEXT NOT NULL,
    landed_at BIGINT NOT NULL,
    file TEXT NOT NULL,
    line BIGINT NOT NULL,
    digest BLOB NOT NULL,
    body BLOB NOT NULL,
    PRIMARY KEY (source, name, row_key)
);
CREATE TABLE landed_before (
    before_id INTEGER PRIMARY KEY,
    source TEXT NOT NULL,
    name TEXT NOT NULL,
    row_key TEXT NOT NULL,
    landed_at BIGINT NOT NULL,
    file TEXT NOT NULL,
    line BIGINT NOT NULL,
    digest BLOB NOT NULL,
    body BLOB NOT NULL
);
CREATE INDEX landed_before_key ON landed_before (source, name, row_key);

CREATE TABLE message (
    message_id INTEGER PRIMARY KEY,
    source TEXT NOT NULL,
    digest BLOB NOT NULL,
    media_type TEXT NOT NULL,
    received BIGINT NOT NULL,
    body BLOB NOT NULL,
    UNIQUE (source, digest)
);

-- state: 0 waiting, 1 running, 2 done, 3 given up.
CREATE TABLE job (
    job_id INTEGER PRIMARY KEY,
    kind TEXT NOT NULL,
    job_key TEXT NOT NULL UNIQUE,
    destination TEXT NOT NULL,
    body TEXT NOT NULL,
    state BIGINT NOT NULL,
    not_before BIGINT NOT NULL,
    attempts BIGINT NOT NULL,
    worker TEXT NOT NULL,
    lease_until BIGINT NOT NULL,
    reason TEXT NOT NULL
);
CREATE INDEX job_due ON job (not_before, job_id) WHERE state < 2;
CREATE INDEX job_open ON job (destination, job_id) WHERE state < 2;
CREATE INDEX job_state ON job (state, job_id);
