"""What is generated from the structs of `spec`: CustomResourceDefinitions and the reference documentation."""
