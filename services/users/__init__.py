"""The users service: accounts, their addresses, and how people prove who they are."""
