"""Stand-ins for what the product talks to: the host, its agents, the IM platform."""
