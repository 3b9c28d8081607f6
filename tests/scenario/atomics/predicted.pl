# Reads `variantctl atomics --json` and prints the widths that WHAT (host, guest, verdict or vfio) allows for DEVICE, as bits
# of Device Capabilities 2, or 'open' if they are unknown. A minimal Debian has Perl without a JSON module, so the JSON is
# translated to Perl.
use strict;
use warnings;

my ($what, $device) = @ARGV;
my $text = do { local $/; <STDIN> };
my @strings;
$text =~ s/"((?:[^"\\]|\\.)*)"/push @strings, $1; "\$strings[$#strings]"/ge;
$text =~ s/:/=>/g;
$text =~ s/\b(true|false|null)\b/{true => 1, false => 0, null => 'undef'}->{$1}/ge;
my $answer = eval "+$text" or die "no JSON: $@\n";
my ($found) = grep { $_->{address} eq $device } @{$answer->{devices}};
die "no verdict on '$device'\n" unless $found;
my %bit = (32 => 0x080, 64 => 0x100, 128 => 0x200);
my $bits = 0;
my $answer_of = $found->{$what} or die "no '$what' for '$device'\n";
if (ref $answer_of eq 'ARRAY') {
    $bits |= $bit{$_} for @$answer_of;
} else {
    for my $width (keys %bit) {
        my $line = $answer_of->{$width} or die "no '$what' of $width bits for '$device'\n";
        print "open\n" and exit unless defined $line->{ok};
        $bits |= $bit{$width} if $line->{ok};
    }
}
printf "%#05x\n", $bits;
