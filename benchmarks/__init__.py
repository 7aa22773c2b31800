"""Speed against named rivals, as ratios measured in one run on one machine."""
