# by name
# deadline: 3600
# Like crash, at every step: also while a record's temporary file is created, written and synced, and before and after
# each write to sysfs.
every=yes
. ./crash.sh
