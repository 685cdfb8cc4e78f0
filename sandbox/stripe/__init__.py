"""The part of Stripe's HTTP API that a shop uses, as a server for development and tests.

It is spoken to with the real SDK: `StripeClient(key, base_addresses={"api": url})`. It keeps
Stripe's rules about money, idempotency keys, errors and webhooks, and can be told to fail in the
ways in which a payment provider fails (`/_sandbox/faults`). `python -m sandbox.stripe --help`.
"""
