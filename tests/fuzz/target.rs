//! One door under the fuzzer: the one that the program is named after.

#![no_main]

use std::sync::LazyLock;

use doors::Door;
use libfuzzer_sys::fuzz_target;

static DOOR: LazyLock<Door> = LazyLock::new(|| doors::door(env!("CARGO_BIN_NAME")).expect("a door"));

fuzz_target!(|bytes: &[u8]| DOOR(bytes));
