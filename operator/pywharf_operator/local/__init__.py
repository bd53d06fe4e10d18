"""What needs no cluster: manifests in a folder, rendered or served on this machine."""
