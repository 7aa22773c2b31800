"""The keeper: reacts at once to what ``reconcile`` would find later. It never polls."""
