"""Carts: what customers and guests mean to buy."""
