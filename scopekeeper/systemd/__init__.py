"""The one place that speaks to systemd."""
