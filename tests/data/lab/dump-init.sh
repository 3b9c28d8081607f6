# prints the two tables that the lab mends, then ends
for table in DSDT SRAT; do
    echo "BEGIN-$table"
    base64 "/sys/firmware/acpi/tables/$table"
    echo "END-$table"
done >/dev/ttyS0
poweroff -f
