# by name
# deadline: 3600
# As crash, at every single step: also where a record is only made, written and synced beside the one that counts,
# and on both sides of each write to sysfs.
every=yes
. ./crash.sh
