-- Orders that were created; no others are kept. The primary key is what makes an
-- order exist once, whoever else is writing.
--
-- An order is written and read as a whole, so its items are one JSON text; and
-- its total is a decimal number in text, as no column of both databases is exact.
CREATE TABLE orders (
    order_id      TEXT PRIMARY KEY,
    user_id       TEXT NOT NULL,
    user_name     TEXT NOT NULL,
    items         TEXT NOT NULL,
    total         TEXT NOT NULL,
    created_at_ms BIGINT NOT NULL
);

-- A page of a user's orders, the newest first, is one walk along this.
CREATE INDEX orders_of_a_user ON orders (user_id, created_at_ms, order_id);
