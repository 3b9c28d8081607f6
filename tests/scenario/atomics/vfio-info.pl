# Prints the AtomicOp completer bits that VFIO_DEVICE_GET_INFO reports for a device on vfio-pci, in the encoding of Device
# Capabilities 2 (0x080, 0x100, 0x200). It makes the ioctls itself, so that it shares no code with the program under test.
use strict;
use warnings;

my ($address) = @ARGV;
my ($iommu) = readlink("/sys/bus/pci/devices/$address/iommu_group") =~ m{([^/]+)$};
open(my $container, '+<', '/dev/vfio/vfio') or die "/dev/vfio/vfio: $!";
open(my $group, '+<', "/dev/vfio/$iommu") or die "/dev/vfio/$iommu: $!";
my $number = pack('i', fileno $container);
ioctl($group, 0x3b68, $number) or die "VFIO_GROUP_SET_CONTAINER: $!";
my $type1 = 1;
ioctl($container, 0x3b66, $type1) or die "VFIO_SET_IOMMU: $!";
my $name = "$address\0";
my $descriptor = ioctl($group, 0x3b6a, $name) or die "VFIO_GROUP_GET_DEVICE_FD: $!";
open(my $device, '+<&=', $descriptor + 0) or die "device: $!";

my $size = 1024;
my $info = pack('L', $size) . "\0" x ($size - 4);
ioctl($device, 0x3b6b, $info) or die "VFIO_DEVICE_GET_INFO: $!";
my ($flags, $at) = (unpack 'L6', $info)[1, 4];
$at = 0 unless $flags & 0x80;
my $bits = 0;
while ($at) {
    my ($id, $next, $found) = unpack "x$at S x2 L L", $info;
    $bits = ($found & 7) << 7 if $id == 5;
    $at = $next;
}
printf "%#05x\n", $bits;
