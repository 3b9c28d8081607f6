# prints the tables that the lab corrects, then ends
for table in DSDT SRAT IORT; do
    [ -e "/sys/firmware/acpi/tables/$table" ] || continue
    echo "BEGIN-$table"
    base64 "/sys/firmware/acpi/tables/$table"
    echo "END-$table"
done >/dev/console
poweroff -f
