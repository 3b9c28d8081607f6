//! Asks all sources about the installed libvirt and QEMU, when one of them changed since they were asked last.
//!
//! ```text
//! connection to libvirt -> key changed? -> emulator's path -> schemas, cache -> translation -> variantd-probe.service
//!                                                                          \___ merge ___/ -> stack.json
//! ```
//! Runs in the background; each source has a deadline, and one that fails leaves a note. Until the end, planning uses the
//! stack that versions assume.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use tracing::{info, warn};

use domain::Domain;
use planner::target::Versions;
use settings::file;

use super::emulator;
use super::flags::{Entry, Installed};
use super::grammar::{self, Grammar};
use super::known::{Found, Key, KnownStack};
use super::merge::{Sources, merge};
use super::package;
use super::properties::Properties;
use super::translation::{self, Translation};
use crate::libvirt::Libvirt;

/// Time for all translations; one takes about 50 ms.
const TRANSLATION: Duration = Duration::from_secs(if cfg!(test) { 2 } else { 10 });

/// A guest of this host's other architecture, whose emulator is asked if there is none for aarch64.
const OTHER: &str = "<domain type='qemu'><name>variantd-probe</name><memory>65536</memory><os><type arch='x86_64' machine='q35'>hvm</type></os></domain>";

/// Runs the unit that asks the emulators, to its end.
pub type Probe<'a> = &'a dyn Fn() -> Result<(), String>;

/// Asks again if the installed programs changed; true if it did.
pub fn refresh(
    known: &KnownStack,
    libvirt: &Arc<dyn Libvirt>,
    versions: Versions,
    probe: Probe<'_>,
) -> bool {
    if known.current(versions.libvirt).is_some() {
        return false;
    }
    let key = emulator_of(&**libvirt)
        .and_then(|emulator| Key::now(known.root(), &emulator, versions.libvirt));
    let Some(key) = key else { return false };
    let mut notes = Notes::default();
    let sources = Sources {
        grammar: notes.grammar(known.root()),
        translation: notes.translation(libvirt),
        entry: notes.entry(known.root(), &key),
        properties: notes.properties(known.root(), &key, probe),
        package: package::libvirt(known.root()),
    };
    let stack = merge(versions, &sources);
    for note in &notes.0 {
        warn!("{note}");
    }
    info!("{stack}: asked what they can express");
    known.learn(Found {
        key,
        stack,
        notes: notes.0,
    });
    true
}

/// The emulator that libvirt uses for a guest of aarch64, or else of x86_64.
fn emulator_of(libvirt: &dyn Libvirt) -> Option<PathBuf> {
    let texts = [translation::plain(), OTHER.to_owned()];
    let mut domains = texts.iter().filter_map(|text| Domain::parse(text).ok());
    domains.find_map(|domain| Some(libvirt.capabilities(&domain).ok()?.emulator?.into()))
}

/// Why sources gave no answer.
#[derive(Default)]
struct Notes(Vec<String>);

impl Notes {
    fn grammar(&mut self, root: &Path) -> Grammar {
        let folder = root.join(grammar::DIRECTORY);
        let texts = [grammar::DOMAIN, grammar::BASIC]
            .map(|name| file::read_up_to(grammar::MAX_BYTES as u64, &folder.join(name)));
        let found = match texts {
            [Ok(domain), Ok(basic)] => Grammar::parse(&domain, &basic),
            [Err(why), _] | [_, Err(why)] => {
                let folder = folder.display();
                self.0.push(format!(
                    "cannot read libvirt's schemas in '{folder}': {why}"
                ));
                return Grammar::default();
            }
        };
        if found == Grammar::default() {
            let folder = folder.display();
            let text =
                format!("libvirt's schemas in '{folder}' are incomplete or of an unknown form");
            self.0.push(text);
        }
        found
    }

    fn translation(&mut self, libvirt: &Arc<dyn Libvirt>) -> Translation {
        let (send, answer) = mpsc::channel();
        let libvirt = libvirt.clone();
        // Not joined: libvirt may never answer.
        thread::spawn(move || {
            let translate = |xml: &str| libvirt.translate(xml).map_err(|why| why.to_string());
            let _ = send.send(translation::ask(translate));
        });
        match answer.recv_timeout(TRANSLATION) {
            Ok(translation) => translation,
            Err(_) => {
                let seconds = TRANSLATION.as_secs();
                let text =
                    format!("libvirt did not translate the test definitions within {seconds} s");
                self.0.push(text);
                Translation::default()
            }
        }
    }

    fn entry(&mut self, root: &Path, key: &Key) -> Option<Entry> {
        let installed = Installed {
            emulator: key.emulator.to_str()?.to_owned(),
            emulator_ctime: key.build.ctime,
            driver_ctime: key.driver_ctime,
            libvirt: key.libvirt,
        };
        Entry::read(root, &installed).unwrap_or_else(|why: io::Error| {
            self.0.push(format!(
                "cannot use libvirt's cache about '{}': {why}",
                installed.emulator
            ));
            None
        })
    }

    fn properties(&mut self, root: &Path, key: &Key, probe: Probe<'_>) -> Option<Properties> {
        let emulator = key.emulator.display();
        let file = root.join(emulator::FILE);
        let read = || {
            emulator::read(&file).map_err(|why| format!("cannot read '{}': {why}", file.display()))
        };
        let answers = probe().and_then(|()| read());
        let why = match answers.map(|mut answers| answers.remove(&key.emulator)) {
            Ok(Some(answer)) if answer.build != key.build => "it changed meanwhile".to_owned(),
            Ok(Some(answer)) if answer.properties == Properties::default() => {
                "it printed no usable help".to_owned()
            }
            Ok(Some(answer)) => return Some(answer.properties),
            Ok(None) => format!("'{}' has no answer of it", file.display()),
            Err(why) => why,
        };
        self.0.push(format!(
            "'{emulator}' was not asked: {why}; its features are assumed by version"
        ));
        None
    }
}

#[cfg(test)]
#[path = "collect_test.rs"]
mod test;
