"""What is installed in ``bin/``."""
