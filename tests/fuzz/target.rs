//! Runs one fuzz target under the fuzzer: the one with the name of the program.

#![no_main]

use std::sync::LazyLock;
use std::time::Duration;

use inputs::Target;
use libfuzzer_sys::fuzz_target;
use nix::time::{ClockId, clock_gettime};

static TARGET: LazyLock<Target> = LazyLock::new(|| inputs::target(env!("CARGO_BIN_NAME")).expect("a fuzz target"));
/// Limit of processor time for one input. The fuzzer's own limit is wall-clock time, which depends on the machine's load.
const LIMIT: Duration = Duration::from_secs(1);

fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).expect("a clock of each thread");
    time.into()
}

fuzz_target!(|bytes: &[u8]| {
    let began = processor_time();
    TARGET(bytes);
    let took = processor_time() - began;
    assert!(took < LIMIT, "it takes {took:?}");
});
