-- Keep migrations/postgres/0007_terms.sql parallel to this file.

-- What is asked of a known row is answered by the row itself: its column terms holds all that it is
-- found by, see src/terms.rs. It stands before the body, which may reach into pages of its own. The
-- tables of values exist once, in the order of values. Numbers become integers in the same order.

-- The integer of a number: its distance from zero, counted in numbers. A number that is not zero
-- is a power of two times at least one and less than two. The infinite one is half of itself.
CREATE TABLE power (
    value REAL PRIMARY KEY,
    exponent BIGINT NOT NULL
) WITHOUT ROWID;
INSERT INTO power (value, exponent)
WITH RECURSIVE up (value, exponent) AS (
    VALUES (1.0, 1023) UNION ALL SELECT value * 2.0, exponent + 1 FROM up WHERE exponent < 2046
), down (value, exponent) AS (
    VALUES (0.5, 1022) UNION ALL SELECT value / 2.0, exponent - 1 FROM down WHERE exponent > 1
)
SELECT * FROM up UNION ALL SELECT * FROM down;

CREATE TABLE number_order (
    value REAL PRIMARY KEY,
    place BIGINT NOT NULL
) WITHOUT ROWID;
INSERT INTO number_order (value, place)
WITH number (value) AS (SELECT low FROM number_value UNION SELECT high FROM number_value),
size (value, size, power) AS (
    SELECT value, abs(value), (SELECT max(p.value) FROM power p WHERE p.value <= abs(n.value))
    FROM number n
)
SELECT s.value, (CASE WHEN s.value < 0 THEN -1 ELSE 1 END) * CASE
    WHEN s.size > 0.0 AND s.size / 2.0 = s.size THEN 2047 << 52
    -- Less than the least power: steps of equal length from zero on.
    WHEN s.power IS NULL
    THEN CAST(s.size / (SELECT min(p.value) FROM power p) * 4503599627370496.0 AS BIGINT)
    ELSE ((SELECT p.exponent FROM power p WHERE p.value = s.power) << 52)
        + CAST((s.size / s.power - 1.0) * 4503599627370496.0 AS BIGINT)
    END
FROM size s;

CREATE TABLE resource_terms (
    row_id INTEGER PRIMARY KEY,
    type_id BIGINT NOT NULL,
    id TEXT NOT NULL,
    version BIGINT NOT NULL,
    last_updated BIGINT NOT NULL,
    seq BIGINT NOT NULL,
    method BIGINT NOT NULL,
    terms BLOB NOT NULL,
    body TEXT,
    UNIQUE (type_id, id)
);

-- JSONB (https://sqlite.org/jsonb.html) in hexadecimal digits: each element is its kind, with how
-- many bytes its length has, then the length and what it is. Kinds are 3 (integer), 7 and A (text),
-- B (array) and C (object); C, D and E before a kind say one, two and four bytes.
INSERT INTO resource_terms
    (row_id, type_id, id, version, last_updated, seq, method, terms, body)
SELECT r.row_id, r.type_id, r.id, r.version, r.last_updated, r.seq, r.method, (
    SELECT unhex(printf('EC%08X', coalesce(sum(length(m.member)), 0) / 2)
        || coalesce(group_concat(m.member, ''), ''))
    FROM (
        SELECT printf('C7%02X', length(a.name)) || hex(a.name)
            || printf('EB%08X', length(a.list) / 2) || a.list AS member
        FROM (
            SELECT 'k' || v.parameter_id AS name, group_concat(
                printf('DA%04X', octet_length(v.value)) || hex(v.value), '') AS list
            FROM key_value v WHERE v.row_id = r.row_id GROUP BY v.parameter_id
            UNION ALL
            SELECT 'd' || v.parameter_id, group_concat(
                printf('DB%04X', 4 + length(v.low) + length(v.high))
                || printf('C3%02X', length(v.low)) || hex(v.low)
                || printf('C3%02X', length(v.high)) || hex(v.high), '')
            FROM date_value v WHERE v.row_id = r.row_id GROUP BY v.parameter_id
            UNION ALL
            SELECT 'n' || v.parameter_id, group_concat(
                printf('DB%04X', 7 + length(l.place) + length(h.place) + octet_length(v.unit))
                || printf('C3%02X', length(l.place)) || hex(l.place)
                || printf('C3%02X', length(h.place)) || hex(h.place)
                || printf('DA%04X', octet_length(v.unit)) || hex(v.unit), '')
            FROM number_value v CROSS JOIN number_order l CROSS JOIN number_order h
            WHERE v.row_id = r.row_id AND l.value = v.low AND h.value = v.high
            GROUP BY v.parameter_id
        ) a
    ) m
), r.body
FROM resource r ORDER BY r.row_id;
DROP TABLE resource;
ALTER TABLE resource_terms RENAME TO resource;
CREATE INDEX resource_last_updated ON resource (type_id, last_updated, row_id);
CREATE INDEX resource_time ON resource (last_updated, seq);
CREATE INDEX resource_seq ON resource (seq, row_id);

CREATE TABLE key_terms (
    parameter_id BIGINT NOT NULL,
    value TEXT NOT NULL,
    row_id BIGINT NOT NULL,
    PRIMARY KEY (parameter_id, value, row_id)
) WITHOUT ROWID;
INSERT INTO key_terms (parameter_id, value, row_id)
SELECT parameter_id, value, row_id FROM key_value ORDER BY parameter_id, value, row_id;
DROP TABLE key_value;
ALTER TABLE key_terms RENAME TO key_value;

CREATE TABLE date_terms (
    parameter_id BIGINT NOT NULL,
    low BIGINT NOT NULL,
    row_id BIGINT NOT NULL,
    high BIGINT NOT NULL,
    PRIMARY KEY (parameter_id, low, row_id, high)
) WITHOUT ROWID;
INSERT INTO date_terms (parameter_id, low, row_id, high)
SELECT parameter_id, low, row_id, high FROM date_value ORDER BY parameter_id, low, row_id, high;
DROP TABLE date_value;
ALTER TABLE date_terms RENAME TO date_value;
CREATE INDEX date_value_high ON date_value (parameter_id, high, row_id, low);

CREATE TABLE number_terms (
    parameter_id BIGINT NOT NULL,
    low BIGINT NOT NULL,
    row_id BIGINT NOT NULL,
    high BIGINT NOT NULL,
    unit TEXT NOT NULL,
    PRIMARY KEY (parameter_id, low, row_id, high, unit)
) WITHOUT ROWID;
INSERT INTO number_terms (parameter_id, low, row_id, high, unit)
SELECT v.parameter_id, l.place, v.row_id, h.place, v.unit
FROM number_value v CROSS JOIN number_order l CROSS JOIN number_order h
WHERE l.value = v.low AND h.value = v.high
ORDER BY v.parameter_id, v.low, v.row_id, v.high, v.unit;
DROP TABLE number_value;
ALTER TABLE number_terms RENAME TO number_value;
CREATE INDEX number_value_high ON number_value (parameter_id, high, row_id, low, unit);

DROP TABLE number_order;
DROP TABLE power;
