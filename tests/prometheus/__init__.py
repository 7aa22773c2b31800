"""A real Prometheus and a real node_exporter, from Debian's archive, that read our metrics."""
