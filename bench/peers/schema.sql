-- The shop's own products, customers and stock, in the tables that a shop of one process would have.
-- {schema} is the peer's; both get the same.
CREATE SCHEMA {schema};

CREATE TABLE {schema}.users AS
    SELECT id, email, full_name FROM users.users WHERE email IS NOT NULL;
ALTER TABLE {schema}.users ADD PRIMARY KEY (id);

CREATE TABLE {schema}.products AS
    SELECT id, slug, name, description, category_ids, attributes, media, default_variant_id,
        create_time, update_time
    FROM catalog.products WHERE state = 2;
ALTER TABLE {schema}.products ADD PRIMARY KEY (id);
CREATE UNIQUE INDEX ON {schema}.products (slug);
CREATE INDEX ON {schema}.products (name, id);

CREATE TABLE {schema}.variants AS
    SELECT v.id, v.product_id, v.sku, v.options, v.price, v.currency, v.weight_grams, s.on_hand,
        0 AS reserved, v.create_time, v.update_time
    FROM catalog.variants v JOIN catalog.stock s ON s.variant_id = v.id
    JOIN {schema}.products p ON p.id = v.product_id;
ALTER TABLE {schema}.variants
    ADD PRIMARY KEY (id),
    ADD FOREIGN KEY (product_id) REFERENCES {schema}.products,
    ADD CHECK (reserved BETWEEN 0 AND on_hand),
    SET (fillfactor = 70);
CREATE UNIQUE INDEX ON {schema}.variants (sku);
CREATE INDEX ON {schema}.variants (product_id);

CREATE TABLE {schema}.orders (
    id uuid PRIMARY KEY,
    number text NOT NULL UNIQUE,
    user_id uuid NOT NULL REFERENCES {schema}.users,
    email text NOT NULL,
    status text NOT NULL,
    currency text NOT NULL,
    total bigint NOT NULL CHECK (total >= 0),
    shipping_address jsonb NOT NULL,
    create_time timestamptz NOT NULL
);
CREATE INDEX ON {schema}.orders (user_id, create_time);
CREATE TABLE {schema}.order_lines (
    id uuid PRIMARY KEY,
    order_id uuid NOT NULL REFERENCES {schema}.orders,
    variant_id uuid NOT NULL REFERENCES {schema}.variants,
    product_name text NOT NULL,
    sku text NOT NULL,
    options jsonb NOT NULL,
    quantity integer NOT NULL CHECK (quantity > 0),
    unit_price bigint NOT NULL
);
CREATE INDEX ON {schema}.order_lines (order_id);
CREATE INDEX ON {schema}.order_lines (variant_id);
