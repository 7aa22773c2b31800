"""The .deb, on machines that have it and what the distribution has for it, and nothing else."""
