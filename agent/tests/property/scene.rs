//! A scene: a host, a definition and its style; runs a property over many scenes.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::LazyLock;

use ::domain::Domain;
use ::domain::refusal::Refusal;
use planner::plan::PlanInput;
use planner::recipe::Recipes;
use planner::rewrite::{Rewrite, rewrite};
use proptest::prelude::*;
use proptest::test_runner::{Config, RngSeed, TestCaseError, TestRunner};
use similar::TextDiff;

use crate::domain::{self, Draft};
use crate::host::{self, Shape};
use crate::xml::Style;

static RECIPES: LazyLock<Recipes> = LazyLock::new(|| Recipes::shipped().expect("recipes"));

/// The shipped recipe of Grace GPUs, which prefers EGM here, and the others.
static RECIPES_WITH_EGM: LazyLock<Recipes> = LazyLock::new(|| {
    let text = |name: &str| {
        let sourced = RECIPES.sourced().find(|one| one.recipe.name == name);
        sourced.expect("a recipe").text.clone()
    };
    let grace =
        text("nvidia-grace").replace("[egm]\nneed = \"ignore\"", "[egm]\nneed = \"prefer\"");
    let texts = [
        grace,
        text("nvidia-x86"),
        text("amd-instinct"),
        text("mlx5"),
    ];
    Recipes::of(&texts.each_ref().map(String::as_str))
});

/// Cases of each property, each for every target.
const CASES: u32 = 128;

/// Releases of Debian, and NVIDIA's stack on a host with EGM, whose recipe prefers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    Vendor,
    Testing,
    Stable,
    Oldstable,
}

/// The result of a scene for one target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// There was a plan, or the property had nothing to refuse.
    Planned,
    /// No device is covered.
    Idle,
    /// By the code of the refusal.
    Refused(&'static str),
}

/// A host, a definition and its style.
#[derive(Clone)]
pub(crate) struct Scene {
    pub(crate) shape: Shape,
    draft: Draft,
    style: Style,
    order: u64,
}

impl Target {
    const ALL: [Self; 4] = [Self::Vendor, Self::Testing, Self::Stable, Self::Oldstable];

    fn versions(self) -> &'static str {
        match self {
            Self::Vendor => "nvidia-10.1",
            Self::Testing => "libvirt=12.8,qemu=11.1",
            Self::Stable => "libvirt=11.3,qemu=10.0",
            Self::Oldstable => "libvirt=9.0,qemu=7.2",
        }
    }
}

impl Scene {
    pub(crate) fn text(&self) -> String {
        self.draft.tree(Some(!self.order)).print(&self.style)
    }

    /// One of so many, the same in each run.
    pub(crate) fn pick(&self, count: usize) -> Option<usize> {
        let count = u64::try_from(count).expect("a count");
        let picked = self.order.checked_rem(count)?;
        Some(usize::try_from(picked).expect("a place"))
    }

    /// The same definition with devices and attributes in another order.
    pub(crate) fn shuffled(&self) -> String {
        let style = Style {
            seed: self.order,
            ..self.style.clone()
        };
        self.draft.tree(Some(self.order)).print(&style)
    }

    pub(crate) fn without_recipes(&self) -> Self {
        Self {
            draft: self.draft.without_recipes(),
            ..self.clone()
        }
    }

    pub(crate) fn without_given_aliases(&self) -> Self {
        Self {
            draft: self.draft.without_given_aliases(),
            ..self.clone()
        }
    }

    /// The definition without its last device, and that one's hostdev.
    pub(crate) fn before_the_last(&self) -> Option<(String, String)> {
        let (draft, hostdev) = self.draft.before_the_last()?;
        let plain = Style {
            indent: None,
            crlf: false,
            declaration: false,
            comments: false,
            ended: true,
            seed: self.order,
        };
        let part = draft.tree(None).print(&self.style);
        // A fragment has no newlines within tags.
        let hostdev = hostdev.print(&plain).trim().replace('\n', " ");
        Some((part, hostdev))
    }

    pub(crate) fn with_table(&self) -> Self {
        Self {
            shape: self.shape.with_table(),
            ..self.clone()
        }
    }

    pub(crate) fn without_table(&self) -> Self {
        Self {
            shape: self.shape.without_table(),
            ..self.clone()
        }
    }

    pub(crate) fn rewrite(&self, text: &str, target: Target) -> Result<Rewrite, Refusal> {
        let (host, recipes) = match target {
            Target::Vendor => (self.shape.build_with_egm(), &*RECIPES_WITH_EGM),
            _ => (self.shape.build(), &*RECIPES),
        };
        let input = PlanInput {
            host: &host,
            recipes,
            target: target.versions().parse().expect("target"),
            replace: false,
            egm: None,
            numa: planner::plan::NumaInput::default(),
            asked: true,
            formatted: false,
            libvirt: &planner::from_libvirt::NOTHING,
        };
        rewrite(&text.parse()?, &input)
    }
}

impl fmt::Debug for Scene {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:?}\n{:?}\n{:?}", self.shape, self.draft, self.style)?;
        f.write_str(&self.text())
    }
}

fn scene() -> impl Strategy<Value = Scene> {
    host::shape().prop_flat_map(|shape| {
        let parts = (domain::draft(&shape), domain::style(), any::<u64>());
        parts.prop_map(move |(draft, style, order)| Scene {
            shape: shape.clone(),
            draft,
            style,
            order,
        })
    })
}

/// Runs a property over generated scenes for every target, the same ones in each run.
///
/// Only a few may be refused; for the oldest target, which does not support initiators, most, but not all.
pub(crate) fn every_scene(property: impl Fn(&Scene, Target) -> Result<Outcome, TestCaseError>) {
    scenes(25, property);
}

/// The same, with this percentage of allowed refusals.
pub(crate) fn scenes(
    limit: u32,
    property: impl Fn(&Scene, Target) -> Result<Outcome, TestCaseError>,
) {
    let cases = std::env::var("PROPTEST_CASES").ok();
    let cases = cases.and_then(|cases| cases.parse().ok());
    let mut runner = TestRunner::new(Config {
        cases: cases.unwrap_or(CASES),
        failure_persistence: None,
        rng_seed: RngSeed::Fixed(2),
        ..Config::default()
    });
    let tally: [RefCell<Tally>; 4] = Default::default();
    let result = runner.run(&scene(), |scene| {
        for (target, tally) in Target::ALL.into_iter().zip(&tally) {
            tally.borrow_mut().count(property(&scene, target)?);
        }
        Ok(())
    });
    let failure = result.err().map(|error| error.to_string());
    assert!(failure.is_none(), "{}", failure.unwrap_or_default());
    let [vendor, newest, older, oldest] = tally.map(RefCell::into_inner);
    for tally in [vendor, newest, older] {
        assert!(tally.refused() <= limit, "for {limit}: {tally:?}");
        assert!(tally.planned * 2 >= tally.all, "too idle: {tally:?}");
    }
    assert!(oldest.planned * 20 >= oldest.all, "{oldest:?}");
}

/// Outcomes for one target.
#[derive(Debug, Default)]
struct Tally {
    all: u32,
    planned: u32,
    refused: BTreeMap<&'static str, u32>,
}

impl Tally {
    fn count(&mut self, outcome: Outcome) {
        self.all += 1;
        match outcome {
            Outcome::Planned => self.planned += 1,
            Outcome::Refused(code) => *self.refused.entry(code).or_default() += 1,
            Outcome::Idle => {}
        }
    }

    /// Percentage of refusals.
    fn refused(&self) -> u32 {
        self.refused.values().sum::<u32>() * 100 / self.all
    }
}

/// Adds a hostdev to a definition, after its other devices.
pub(crate) fn with_device(text: &str, hostdev: &str) -> String {
    let domain = Domain::parse(text).expect("definition");
    let edit = domain.append_devices(hostdev);
    ::domain::edit::apply(text, &[edit]).expect("one edit")
}

/// Fails with the difference of two texts.
pub(crate) fn same(expected: &str, found: &str) -> Result<(), TestCaseError> {
    let diff = TextDiff::from_lines(expected, found);
    let diff = diff.unified_diff().context_radius(2).to_string();
    prop_assert!(expected == found, "the texts differ\n{diff}");
    Ok(())
}
