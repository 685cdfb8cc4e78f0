"""Orders: checkout, the way from the payment to the customer's door, history, rates."""
