"""The configuration: repos, admin secrets, and the settings of each command. It does no I/O."""
