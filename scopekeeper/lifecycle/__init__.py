"""What ends scopes and members, and what decides that."""
