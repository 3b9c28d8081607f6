//! The time limit of a bind, and of the start of a guest, for which libvirt's hook waits.
//!
//! For this time the agent sends the hook progress messages. A start takes longer only if it finds a write of an agent
//! that has ended; the agent then continues without the hook.

use std::ops::RangeInclusive;
use std::time::Duration;

use crate::assign::check;
use crate::bind_limit::BindLimits;
use crate::child;
use crate::context::Rules;
use crate::probe;
use crate::service;
use settings::config::Verify;

/// Seconds for which the agent sends progress messages for a start; the hook's own limit is 1500 s.
const START: RangeInclusive<u64> = 60..=1500;

/// The part of a start that waits for no device: reading the host, checks, writing records.
const REST: Duration = Duration::from_secs(10);

/// The time limit of a guest's start: another caller's region query, stopping services, adding and removing GPU memory,
/// loading a module, binding the devices in parallel, the query of their memory, and then undoing it all.
#[must_use]
pub fn of_start(rules: &Rules) -> Duration {
    let bind = BindLimits::of_recipes(&rules.recipes).longest();
    // Services are stopped one after another; devices are bound in parallel, so the longest bind counts once.
    let services = rules.config.stop_services.iter().map(|_| service::STOP);
    let verified = match rules.config.verify {
        Verify::Regions => probe::DEADLINE,
        Verify::Driver => Duration::ZERO,
    };
    let undo = child::DEADLINE + bind;
    let loaded = child::LOADING;
    let memory = 2 * check::WAIT;
    let waits = probe::DEADLINE + services.sum::<Duration>() + memory;
    let all = waits + loaded + bind + verified + undo + REST;
    Duration::from_secs(all.as_secs().clamp(*START.start(), *START.end()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{VARIANT, driver};
    use crate::service::ServiceName;
    use planner::recipe::{Recipes, UNSAID};
    use settings::config::Config;

    const GRACE: &str = include_str!("../recipes/nvidia-grace.toml");
    const X86: &str = include_str!("../recipes/nvidia-x86.toml");

    /// The shipped recipe of Grace GPUs with this bind time.
    fn grace(seconds: u64) -> String {
        let key = format!("prepare = \"on-define\"\nbind_seconds = {seconds}");
        let text = GRACE.replacen("prepare = \"on-define\"", &key, 1);
        assert_ne!(text, GRACE);
        text
    }

    /// Another recipe with the driver of Grace GPUs.
    fn second(seconds: u64) -> String {
        let own = [("nvidia-grace", "rubin"), ("10de:", "10df:")];
        let replaced = |text: String, (from, to): (&str, &str)| text.replace(from, to);
        own.into_iter().fold(grace(seconds), replaced)
    }

    fn rules(recipes: &[&str], config: Config) -> Rules {
        Rules {
            recipes: Recipes::of(recipes),
            config,
        }
    }

    fn imex() -> ServiceName {
        let name = String::from("nvidia-imex.service");
        name.try_into().expect("service")
    }

    fn limits(recipes: &[&str]) -> BindLimits {
        BindLimits::of_recipes(&Recipes::of(recipes))
    }

    fn to(limits: &BindLimits, name: &str) -> u64 {
        limits.of(None, |known| *known == driver(name)).as_secs()
    }

    #[test]
    fn a_bind_has_the_longest_time_of_the_recipes_that_name_its_driver() {
        let limits = limits(&[&grace(260), &second(90), X86]);
        assert_eq!(to(&limits, VARIANT), 260);
        assert_eq!(to(&limits, "nvidia"), 40);
        assert_eq!(limits.with_any_driver(None).as_secs(), 260);
    }

    #[test]
    fn shorter_limit_of_one_driver_keeps_the_others() {
        let limits = limits(&[&grace(10)]);
        assert_eq!(to(&limits, VARIANT), 10);
        assert_eq!(to(&limits, "nvidia"), 40);
        assert_eq!(limits.with_any_driver(None).as_secs(), 40);
    }

    #[test]
    fn the_shipped_recipes_give_each_bind_40_s_and_a_device_behind_cxl_270() {
        let shipped = BindLimits::of_recipes(&Recipes::shipped().expect("recipes"));
        assert_eq!(to(&shipped, VARIANT), 40);
        assert_eq!(shipped.with_any_driver(None), UNSAID);
        let rubin = "10de:307f".parse().ok();
        let limit = shipped.of(rubin, |known| *known == driver(VARIANT));
        assert_eq!(limit.as_secs(), 270);
        assert_eq!(shipped.longest(), limit);
    }

    #[test]
    fn start_limit_includes_bind_and_undo() {
        let seconds = |recipe: &str, config| of_start(&rules(&[recipe], config)).as_secs();
        // Another caller's query (70), GPU memory added and removed (60), load (30), bind (40), unbind (15), bind back (40), the rest (10).
        assert_eq!(seconds(X86, Config::default()), 265);
        // The recipe has a device whose bind takes up to 270 s.
        assert_eq!(seconds(GRACE, Config::default()), 725);
        assert_eq!(seconds(&grace(280), Config::default()), 745);
        let verified = Config {
            verify: Verify::Regions,
            stop_services: vec![imex()],
            ..Config::default()
        };
        assert_eq!(seconds(X86, verified.clone()), 265 + 70 + 15);
        assert_eq!(seconds(&grace(600), verified.clone()), 1470);
        let many = Config {
            stop_services: vec![imex(); 64],
            ..verified
        };
        assert_eq!(seconds(&grace(600), many), 1500);
    }
}
