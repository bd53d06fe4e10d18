"""The conditions of PackageRepos and PackageServers, and writing them."""
