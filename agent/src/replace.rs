//! Replaces one definition by the text that was made from it, and detects concurrent changes of other clients.
//!
//! ```text
//! watch -> read: still the same? -> define -> our event -> read back
//!                                     |
//!                        another client's event: read its definition, while libvirt still validates ours
//! ```
//!
//! libvirt has no compare-and-swap. Between our last read and the moment at which libvirt stores our text another
//! client can change or remove the definition. Events come in libvirt's order, so an additional event shows that. A
//! definition of the other client is written again, and a removed definition is removed again. If its text could not be
//! read in time, the report says so (`VD-XML-013`).

use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use tracing::{info, warn};

use crate::failure::{PrepareError, failed, found};
use crate::libvirt::{Change, DomainRef, Libvirt, LibvirtError, Watch};
use domain::code::Code;
use domain::lost_elements::lost_elements;
use planner::plan::Note;

/// Timeout of our own event. It comes within milliseconds of the define.
const EVENT: Duration = Duration::from_secs(5);
/// Maximum interval between events that belong together; libvirt sends pending events at once.
const REST: Duration = Duration::from_millis(50);
/// How often the other client's definition is written again if that meets another change.
const RESTORES: usize = 3;

/// Maximum number of texts that are kept of one define.
const CAPTURED: usize = 8;

/// One such read at a time: libvirt serves five concurrent calls of one client.
static CAPTURE: Mutex<()> = Mutex::new(());

/// The result of a define.
#[derive(Debug)]
pub(crate) enum Written {
    /// The text that libvirt reads back; the note is for the user.
    Kept(String, Option<Note>),
    /// Another client has changed the definition: it must be read again.
    Changed,
}

/// Defines `text` instead of `before`.
///
/// # Errors
/// libvirt's; [`PrepareError::NotFound`] if the domain was removed.
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
    // Also shows whether the domain still has a definition: defining a transient guest would give it one.
    // The watch was started before this read: a change between the two is in it.
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
    // Only our own event in most cases.
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
    // Not by comparing the texts: libvirt formats a definition in its own way and adds addresses.
    let is_ours = lost_elements(text, &now).is_empty() && is_marked(text) == is_marked(&now);
    match theirs.last() {
        // The other client's definition is the last one.
        _ if seen.len() > 1 && !is_ours => Ok(Written::Changed),
        Some(theirs_last) if seen.len() <= theirs.len() + 1 => {
            restore(libvirt, domain, &now, theirs_last, restores)
        }
        Some(_) => Ok(Written::Changed),
        None if seen.len() > 1 => Ok(Written::Kept(now, Some(suspected(domain)))),
        None => Ok(Written::Kept(now, None)),
    }
}

/// The changes up to our own event, and those together with it. The first one may be another client's, directly
/// followed by ours.
fn settled(domain: &DomainRef, watch: &Watch<'_>) -> Vec<Change> {
    let mut seen = watch.until(|seen| seen.contains(&Change::Defined), EVENT);
    if !seen.contains(&Change::Defined) {
        warn!(
            "libvirt sent no event about the definition of '{domain}' within {} s: a concurrent \
                change by another client would be missed",
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

/// The texts that are read at events during our define: another client's, and finally ours.
fn capture(
    libvirt: &dyn Libvirt,
    domain: &DomainRef,
    watch: &Watch<'_>,
    before: &str,
) -> Vec<String> {
    let (mut count, mut captured) = (0, Vec::new());
    while captured.len() < CAPTURED && watch.before_end(count, EVENT) {
        count = watch.seen().len();
        // Of five calls of one client the worker uses four, so reads for several domains must not run at the same time.
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

/// Another client removed the definition, and only our define after it has created it again: removes it.
fn removed(
    libvirt: &dyn Libvirt,
    domain: &DomainRef,
    seen: &[Change],
) -> Result<Written, PrepareError> {
    let defines = seen
        .iter()
        .filter(|change| **change == Change::Defined)
        .count();
    // Another client has defined it again after its removal, so the present definition may be its own.
    if defines > 1 || seen.last() != Some(&Change::Defined) {
        return Ok(Written::Changed);
    }
    let undefined = libvirt.undefine(&domain.uuid);
    undefined.map_err(|why| failed(domain, why))?;
    warn!(
        "another client undefined '{domain}' while its definition was completed: undefined it again"
    );
    Err(PrepareError::NotFound(domain.name.clone()))
}

/// Writes the other client's definition again, which ours has replaced.
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
            "another client changed the definition of '{domain}' while it was completed: restored \
                that change"
        );
    }
    Ok(Written::Changed)
}

fn suspected(domain: &DomainRef) -> Note {
    warn!(
        "another client changed the definition of '{domain}' while it was completed, and that \
            change may be lost ({})",
        Code::XmlOverwritten
    );
    Note {
        code: Code::XmlOverwritten,
        device: None,
        text: format!(
            "another client changed the definition while it was completed: compare 'virsh dumpxml \
                --inactive {domain}' with that client's definition"
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
