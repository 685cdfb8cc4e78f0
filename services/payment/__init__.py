"""Payments: orders paid by card through Stripe, money given back, and what Stripe tells us."""
