"""The `shop` command: starts, migrates and fills the shop on one machine."""
