//! The real `variantctl` against the real `variantd` on a private bus.

mod json;
mod monitor;
mod progress;
#[allow(dead_code, reason = "the tests of the agent use all of it")]
#[path = "../../../tests/daemon/scene.rs"]
mod scene;
