mount -t ext4 -o rw,noatime,barrier=0 /dev/vda /mnt
mount --move /dev /mnt/dev
umount /proc /sys
exec switch_root /mnt /lib/systemd/systemd
