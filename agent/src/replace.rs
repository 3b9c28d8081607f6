//! Writes one definition over the one it was made from, and finds out what other clients did meanwhile.
//!
//! ```text
//! watch -> read: still the same? -> define -> our event -> read back
//!                                     |
//!                        another client's event: read what it defined, while libvirt still validates ours
//! ```
//!
//! libvirt has no compare-and-swap. Between our last read and the moment at which libvirt stores our text another client can
//! change or remove the definition. Events come in libvirt's order, so one more than our own tells that; what the other
//! client defined is written again, and what it removed is removed again. Where its text could not be read in time, that
//! is said (`VD-XML-013`).

use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use tracing::{info, warn};

use crate::failure::{PrepareError, failed, found};
use crate::libvirt::{Change, DomainRef, Libvirt, LibvirtError, Watch};
use domain::code::Code;
use domain::lost_elements::lost_elements;
use planner::plan::Note;

/// How long our own event may take. It comes within milliseconds of the define.
const EVENT: Duration = Duration::from_secs(5);
/// How long events that belong together may be apart; libvirt sends those that are due at once.
const REST: Duration = Duration::from_millis(50);
/// How often what another client defined is written again when that meets a change, too.
const RESTORES: usize = 3;

/// Most texts that are kept of one define.
const CAPTURED: usize = 8;

/// One such read at a time: libvirt takes five calls of one client at once.
static CAPTURE: Mutex<()> = Mutex::new(());

/// What came of writing a definition.
#[derive(Debug)]
pub(crate) enum Written {
    /// It is there, as libvirt reads it back; the note is for the user.
    Kept(String, Option<Note>),
    /// Another client has changed the definition: it has to be read again.
    Changed,
}

/// Defines `text` in the place of `before`.
///
/// # Errors
/// libvirt's; [`PrepareError::NotFound`] when the domain is gone.
pub(crate) fn replace(
    libvirt: &dyn Libvirt,
    domain: &DomainRef,
    before: &str,
    text: &str,
) -> Result<Written, PrepareError> {
    write(libvirt, domain, before, text, RESTORES)
}

fn write(
    libvirt: &dyn Libvirt,
    domain: &DomainRef,
    before: &str,
    text: &str,
    restores: usize,
) -> Result<Written, PrepareError> {
    let watch = libvirt.changes().watch(&domain.uuid);
    // Also says whether the domain still has a definition: to define a transient guest would give it one.
    if read(libvirt, domain)? != before || !watch.seen().is_empty() {
        return Ok(Written::Changed);
    }
    let (defined, captured) = thread::scope(|scope| {
        let capture = scope.spawn(|| capture(libvirt, domain, &watch, before));
        let defined = libvirt.define(text);
        watch.end();
        (defined, capture.join().unwrap_or_default())
    });
    defined.map_err(|why| failed(domain, why))?;
    let seen = settled(domain, &watch);
    // Ours alone in most cases.
    drop(watch);
    let now = libvirt.inactive_xml(&domain.uuid);
    let now = now.map_err(|why| failed(domain, why))?;
    let Some(now) = now else {
        return Err(PrepareError::NotFound(domain.name.clone()));
    };
    if seen.contains(&Change::Undefined) {
        return removed(libvirt, domain, &seen);
    }
    let theirs: Vec<&String> = captured.iter().filter(|text| **text != now).collect();
    let is_ours = lost_elements(text, &now).is_empty() && is_marked(text) == is_marked(&now);
    match theirs.last() {
        // Theirs is the last one.
        _ if seen.len() > 1 && !is_ours => Ok(Written::Changed),
        Some(theirs_last) if seen.len() <= theirs.len() + 1 => {
            restore(libvirt, domain, &now, theirs_last, restores)
        }
        Some(_) => Ok(Written::Changed),
        None if seen.len() > 1 => Ok(Written::Kept(now, Some(suspected(domain)))),
        None => Ok(Written::Kept(now, None)),
    }
}

/// The changes up to our own, and what comes with it. The first one may be another client's, with ours right behind.
fn settled(domain: &DomainRef, watch: &Watch<'_>) -> Vec<Change> {
    let mut seen = watch.until(|seen| seen.contains(&Change::Defined), EVENT);
    if !seen.contains(&Change::Defined) {
        warn!(
            "libvirt has sent no event about the definition of '{domain}' within {} s: a change by another client at the same time is not noticed",
            EVENT.as_secs()
        );
        return seen;
    }
    loop {
        let more = watch.until(|now| now.len() > seen.len(), REST);
        if more.len() == seen.len() {
            return more;
        }
        seen = more;
    }
}

/// The texts that are read at events while ours is being written: another client's, and in the end ours.
fn capture(
    libvirt: &dyn Libvirt,
    domain: &DomainRef,
    watch: &Watch<'_>,
    before: &str,
) -> Vec<String> {
    let (mut count, mut captured) = (0, Vec::new());
    while captured.len() < CAPTURED && watch.before_end(count, EVENT) {
        count = watch.seen().len();
        let _one = CAPTURE.lock().unwrap_or_else(PoisonError::into_inner);
        if let Ok(Some(read)) = libvirt.inactive_xml(&domain.uuid)
            && read != before
            && !captured.contains(&read)
        {
            captured.push(read);
        }
    }
    captured
}

fn is_marked(xml: &str) -> bool {
    xml.contains("urn:variantd:1")
}

/// Another client removed the definition. Ours alone behind that has brought it back: it goes again.
fn removed(
    libvirt: &dyn Libvirt,
    domain: &DomainRef,
    seen: &[Change],
) -> Result<Written, PrepareError> {
    let defines = seen
        .iter()
        .filter(|change| **change == Change::Defined)
        .count();
    if defines > 1 || seen.last() != Some(&Change::Defined) {
        return Ok(Written::Changed);
    }
    let undefined = libvirt.undefine(&domain.uuid);
    undefined.map_err(|why| failed(domain, why))?;
    warn!(
        "another client undefined '{domain}' while its definition was completed: it is undefined again"
    );
    Err(PrepareError::NotFound(domain.name.clone()))
}

/// Writes again what another client had defined and ours has replaced.
fn restore(
    libvirt: &dyn Libvirt,
    domain: &DomainRef,
    ours: &str,
    theirs: &str,
    restores: usize,
) -> Result<Written, PrepareError> {
    if restores > 0
        && let Written::Kept(..) = write(libvirt, domain, ours, theirs, restores - 1)?
    {
        info!(
            "another client changed the definition of '{domain}' while it was completed: its change is there again"
        );
    }
    Ok(Written::Changed)
}

fn suspected(domain: &DomainRef) -> Note {
    warn!(
        "another client changed the definition of '{domain}' at the moment at which it was completed, and its change may be lost ({})",
        Code::XmlOverwritten
    );
    Note {
        code: Code::XmlOverwritten,
        device: None,
        text: format!(
            "another client changed the definition at the moment at which it was completed: compare 'virsh dumpxml --inactive {domain}' with what that client defined"
        ),
    }
}

fn read(libvirt: &dyn Libvirt, domain: &DomainRef) -> Result<String, PrepareError> {
    let xml: Result<Option<String>, LibvirtError> = libvirt.inactive_xml(&domain.uuid);
    found(domain, xml)
}

#[cfg(test)]
#[path = "replace_test.rs"]
mod test;
