"""The APIs that models are asked by, one file each."""
