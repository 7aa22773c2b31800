"""What the tests have in common that are about any input."""

from hypothesis import HealthCheck, settings

# a machine that does much beside is slow, and that is no failure
settings.register_profile(
    "scopekeeper", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("scopekeeper")
