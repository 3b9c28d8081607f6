//! Counts the results of all definitions, and decides whether they pass.

use std::collections::{BTreeMap, BTreeSet};

/// How many definitions of one kind there are.
#[derive(Default)]
struct Kind {
    all: usize,
    /// Those that libvirt accepted.
    taken: usize,
}

#[derive(Default)]
pub(crate) struct Tally {
    known: BTreeMap<(String, String), String>,
    met: BTreeSet<(String, String)>,
    /// The current definition.
    name: String,
    /// By the source of the definitions: the first word of their names.
    kinds: BTreeMap<String, Kind>,
    values: BTreeMap<&'static str, usize>,
    refused: BTreeMap<String, usize>,
    differences: Vec<String>,
}

impl Tally {
    pub(crate) fn new(known: &str) -> Self {
        let lines = known
            .lines()
            .filter(|line| !line.starts_with('#') && !line.is_empty());
        let entry = |line: &str| {
            let fields: Vec<String> = line.split('\t').map(str::to_owned).collect();
            let [name, what, reason] =
                <[String; 3]>::try_from(fields).expect("three fields with tabs between");
            ((name, what), reason)
        };
        Self {
            known: lines.map(entry).collect(),
            ..Self::default()
        }
    }

    /// The next definition.
    pub(crate) fn begin(&mut self, name: &str) {
        name.clone_into(&mut self.name);
        self.kind().all += 1;
    }

    /// libvirt accepted it.
    pub(crate) fn taken(&mut self) {
        self.kind().taken += 1;
    }

    /// libvirt refused it.
    pub(crate) fn refused(&mut self, printed: &str) {
        let reason = printed.trim_start_matches("error: ").split(':').next();
        let reason: String = reason.unwrap_or_default().chars().take(40).collect();
        *self.refused.entry(reason).or_default() += 1;
    }

    fn kind(&mut self) -> &mut Kind {
        let kind = self.name.split('-').next().unwrap_or_default();
        self.kinds.entry(kind.to_owned()).or_default()
    }

    /// Counts an equal value, or reports a difference.
    pub(crate) fn value(&mut self, what: &'static str, same: bool, words: impl FnOnce() -> String) {
        *self.values.entry(what).or_default() += 1;
        if !same {
            self.difference(what, &words());
        }
    }

    pub(crate) fn difference(&mut self, what: &str, words: &str) {
        let key = (self.name.clone(), what.to_owned());
        match self.known.contains_key(&key) {
            true => drop(self.met.insert(key)),
            false => self
                .differences
                .push(format!("{}: {what}: {words}", self.name)),
        }
    }

    /// Whether there is no difference, and at least one value of each kind was compared.
    pub(crate) fn is_good(&self) -> bool {
        let compared = |kind: &Kind| kind.taken > 0;
        self.differences.is_empty() && !self.kinds.is_empty() && self.kinds.values().all(compared)
    }

    pub(crate) fn print(&self) {
        for (what, count) in &self.values {
            println!("  {count:6} {what}");
        }
        for (name, kind) in &self.kinds {
            println!("  {name}: {} of {} compared", kind.taken, kind.all);
        }
        for (reason, count) in &self.refused {
            println!("  not compared: {count:4} libvirt refuses: {reason}");
        }
        for (key, reason) in &self.known {
            let (name, what) = key;
            let state = match self.met.contains(key) {
                true => "known",
                false => "known, but not met",
            };
            println!("  {state}: {name}: {what}: {reason}");
        }
        for difference in &self.differences {
            println!("DIFFERS {difference}");
        }
        let sum = |of: fn(&Kind) -> usize| self.kinds.values().map(of).sum::<usize>();
        println!(
            "{} files, {} compared, {} values, {} known differences, {} differences",
            sum(|kind| kind.all),
            sum(|kind| kind.taken),
            self.values.values().sum::<usize>(),
            self.met.len(),
            self.differences.len()
        );
    }
}
