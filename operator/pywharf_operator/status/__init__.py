"""The conditions of PackageRepos and PackageServers, and their writer."""
