"""What every machine and command may be given."""

VCPU_RANGE = range(1, 33)
MEM_MIB_RANGE = range(128, 65537)
TIMEOUT_SECONDS_RANGE = range(1, 86401)
