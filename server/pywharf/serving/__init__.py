"""The state of a running server: repos, configuration, permissions, sessions, metrics. No aiohttp here."""
