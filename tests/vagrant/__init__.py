"""Run vagrant/ for real, unmodified, against a box made from one of the lab's Debian images."""
