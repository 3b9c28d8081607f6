//! Guests that other projects publish, planned here: both values of each item, and the reason of each difference.
//!
//! The published values are NVIDIA's (its fork of KubeVirt, its kernel tests), OpenNebula's certified setup and Kata's fixtures, as of
//! autumn 2026. A test fails for a difference without a reason, and for a reason without a difference. The tables are a page of the
//! documentation, [`PAGE`].

mod guest;
mod items;
mod source;

use std::collections::BTreeMap;
use std::fmt::Write;

use kernel_glue::host::Host;
use planner::plan::PlanInput;
use planner::recipe::Recipes;
use planner::rewrite::rewrite;

use crate::case;
use crate::stack;
use guest::Guest;

/// The page, from `tests/data`.
const PAGE: &str = "../../packaging/doc/published-guests.md";
/// The stack of the published guests.
const STACK: &str = "nvidia-10.1";

/// The page's text before the tables.
const HEAD: &str = "\
# Published Grace guests, compared with variantd

Other projects publish guests with Grace GPUs. For each of them this page has the values of the published guest, and those that
`variantctl rewrite --target nvidia-10.1` writes for the same GPUs, cells and options on a modelled host. Every difference has its reason.
`cargo xtask regen golden` writes this page, and a test fails when a value changes, and for a difference without a reason. None of these guests was run
on Grace hardware here.

| source | what it is |
|---|---|
| aie | NVIDIA's fork of KubeVirt: libvirt XML of a GB200 |
| OpenNebula | OpenNebula 7, certified by NVIDIA for GB200: the XML that its driver writes |
| Kata | fixtures of Kata Containers' Rust runtime: QEMU arguments |
| NVIDIA's tests | QEMU arguments in changes of NVIDIA's kernel and QEMU |

The values are those of autumn 2026. Cells, memory backing, `managed` and RAS are the user's: variantd keeps them. Controllers that no GPU uses, such as
OpenNebula's general expanders and ports for hot-plug, are not compared: variantd adds none. An item that a source does not show has no line.
";

/// A published guest.
struct Published {
    /// A short name, for messages.
    name: &'static str,
    title: &'static str,
    guest: Guest,
    /// By item. An item that is not here is not published.
    items: &'static [(&'static str, &'static str)],
    /// By item, the reason of a difference.
    decided: &'static [(&'static str, &'static str)],
}

#[test]
fn published_guests_differ_from_planned_ones_as_in_the_documents_tables() {
    let recipes = Recipes::shipped().expect("recipes");
    let compared: Vec<Compared> = source::all()
        .iter()
        .map(|one| one.compared(&recipes))
        .collect();
    let mut page = format!("{HEAD}\n| guest | equal | different |\n|---|---|---|\n");
    for one in &compared {
        page += &one.summary();
    }
    for one in &compared {
        page += &one.section();
    }
    case::expect_none(&stack::compared(&case::data(PAGE), &page));
}

/// A guest's items.
struct Compared {
    title: &'static str,
    host: &'static str,
    items: Vec<Item>,
}

/// Both values of an item, and the reason if they are not equal.
struct Item {
    name: &'static str,
    published: &'static str,
    planned: String,
    reason: Option<&'static str>,
}

impl Published {
    fn compared(&self, recipes: &Recipes) -> Compared {
        let host = Host::read(&testing::hosts::directory(self.guest.host)).expect("host");
        let input = PlanInput {
            target: STACK.parse().expect("target"),
            ..PlanInput::newest(&host, recipes)
        };
        let definition = self.guest.definition(&host).parse().expect("definition");
        let got = rewrite(&definition, &input).expect(self.name);
        let planned = items::of(&got.text);
        let mut decided: BTreeMap<&str, &'static str> = self.decided.iter().copied().collect();
        let one = |(name, published): &(&'static str, &'static str)| {
            let planned = planned.get(name).expect("an item that is read");
            let reason = decided.remove(name);
            let guest = self.name;
            assert_eq!(
                published == planned,
                reason.is_none(),
                "{guest}: '{name}' is {planned}, and {published} is published"
            );
            let planned = planned.clone();
            Item {
                name,
                published,
                planned,
                reason,
            }
        };
        let items = self.items.iter().map(one).collect();
        assert!(
            decided.is_empty(),
            "{}: reasons of other items: {decided:?}",
            self.name
        );
        Compared {
            title: self.title,
            host: self.guest.host,
            items,
        }
    }
}

impl Compared {
    fn summary(&self) -> String {
        let names = |differs: bool| {
            let of_kind = self.items.iter();
            let of_kind = of_kind.filter(|item| item.reason.is_some() == differs);
            of_kind.map(|item| item.name).collect::<Vec<_>>().join(", ")
        };
        format!("| {} | {} | {} |\n", self.title, names(false), names(true))
    }

    fn section(&self) -> String {
        let mut text = format!("\n## {}\n\nModelled host: {}.\n\n", self.title, self.host);
        text += "| item | published | variantd | reason of the difference |\n|---|---|---|---|\n";
        for item in &self.items {
            let (planned, reason) = match item.reason {
                None => ("equal", ""),
                Some(reason) => (item.planned.as_str(), reason),
            };
            writeln!(
                text,
                "| {} | {} | {planned} | {} |",
                item.name,
                item.published,
                marked(reason)
            )
            .expect("text");
        }
        text
    }
}

/// Elements as code, so that Markdown does not take them for HTML.
fn marked(text: &str) -> String {
    text.replace('<', "`<").replace('>', ">`")
}
