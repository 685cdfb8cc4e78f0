"""What else a Python shop would be built on, with the same data in the same Postgres."""
