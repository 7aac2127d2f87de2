-- Who may order. `active` is 0 or 1: SQLite has no other truth.
CREATE TABLE users (
    user_id TEXT PRIMARY KEY,
    name    TEXT NOT NULL,
    email   TEXT NOT NULL,
    active  BIGINT NOT NULL CHECK (active IN (0, 1))
);
