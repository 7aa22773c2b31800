"""The role of examples/ansible, played by Ansible of Debian's archive: ``make test-ansible``."""
