"""The generators of CustomResourceDefinitions and of the reference documentation from the structs of `spec`."""
