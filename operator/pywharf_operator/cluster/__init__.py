"""The API server: the client, reading objects, and the leader's Lease."""
