"""What a server holds while it runs: repos, configuration, permissions, sessions, metrics. No aiohttp here."""
