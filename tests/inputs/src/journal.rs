//! Record files of the journal: of one device, and of an older version.

use agent::record::{DeviceRecord, of_older_version, read, write};

const DEVICE: &str = "0009:01:00.0";
const UUID: &str = "6f1f0b9e-3c1e-4b3a-9a39-0d0c7b9f6a11";

/// An accepted record is equal after it is written and read again.
pub(crate) fn entry(bytes: &[u8]) {
    let device = DEVICE.parse().expect("an address");
    if let Ok(record) = read(bytes, device) {
        check(&record);
    }
    for name in [UUID, DEVICE] {
        let read = of_older_version(name.as_ref(), bytes);
        read.iter().for_each(check);
    }
}

fn check(record: &DeviceRecord) {
    // The data of an older version fits into a record, except for a name of nearly 64 KiB.
    let Ok(text) = write(record) else { return };
    let again = read(text.as_bytes(), record.device).expect("our own text");
    assert_eq!(again, *record);
}
