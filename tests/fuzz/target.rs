//! One fuzz target: the one that the program is named after.

#![no_main]

use std::sync::LazyLock;
use std::time::Duration;

use inputs::Target;
use libfuzzer_sys::fuzz_target;
use nix::time::{ClockId, clock_gettime};

static TARGET: LazyLock<Target> = LazyLock::new(|| inputs::target(env!("CARGO_BIN_NAME")).expect("a target"));
/// Of the processor's time, which a busy machine does not stretch, as it does the fuzzer's own limit.
const LIMIT: Duration = Duration::from_secs(1);

fn worked() -> Duration {
    let time = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).expect("a clock of each thread");
    time.into()
}

fuzz_target!(|bytes: &[u8]| {
    let began = worked();
    TARGET(bytes);
    let took = worked() - began;
    assert!(took < LIMIT, "it takes {took:?}");
});
