# by name
# deadline: 3600
# As crash.sh, at every step: also while a temporary record file is created, written and synced, and before and after each
# write to sysfs.
every=yes
. ./crash.sh
