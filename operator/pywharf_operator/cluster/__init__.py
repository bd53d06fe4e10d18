"""The API server: its client, readers of its objects, and the leader's Lease."""
