# Opens a device through VFIO, as a program in user space would: DEVICE GROUP [alone]. With 'alone' it closes group and
# container, and keeps the device file open. The ioctl numbers are those of linux/vfio.h.
use strict;
my ($device, $group, $alone) = @ARGV;
open(my $container, '+<', '/dev/vfio/vfio') or die "container: $!";
open(my $node, '+<', "/dev/vfio/$group") or die "group: $!";
ioctl($node, 0x3b68, my $number = pack('i', fileno $container)) or die "set container: $!";
ioctl($container, 0x3b66, 1) or die "set IOMMU: $!";
ioctl($node, 0x3b6a, my $name = "$device\0") or die "device: $!";
if ($alone) { close $node; close $container; }
sleep;
