"""Describes the REST side of the shop as OpenAPI 3.1, out of the descriptor set.

Whatever the contract says is said once, in protos/: paths, access, bounds, reasons and the words
about them are read from there. What is added here are examples, and how Envoy spells messages as
JSON.
"""
