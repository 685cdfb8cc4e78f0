"""The shared kernel: gRPC, Postgres and API conventions. It does not know what a product is."""
