"""The five services of the shop, and the kit they share."""
