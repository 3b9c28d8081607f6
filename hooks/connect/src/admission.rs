//! Decides about the calls that carry a definition or a device, or start a domain, with the agent's answers.
//!
//! | definition, or device to attach | agent's answer | the call |
//! |---|---|---|
//! | unrelated guest | not asked | forwarded |
//! | relevant | completed | forwarded with the completed definition |
//! | relevant | refused | answered with the refusal |
//! | has a PCI device that this host does not have | completed or refused | as for a relevant guest |
//! | has such a device | none | forwarded, with a warning |
//! | relevant | none, or of another version | answered with an error that says what to do |
//! | has a PCI device, and no agent ran since boot | none | forwarded, with a warning |
//!
//! A start waits until the agent has no change of the domain pending, and is then forwarded whatever the answer was: libvirt's hook
//! verifies the guest. A call whose arguments cannot be read is forwarded, because the daemon refuses it.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::iter;
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Once;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use ask::Affects;
use domain::printable::Printable;
use hooks::agent::Reply;
use hooks::answer::{TOO_LARGE, one_line};
use hooks::input::{Input, Unreadable};
use hooks::relevance::{Relevance, parse};

use crate::failure::{self, CONFIG_UNSUPPORTED, OPERATION_FAILED};
use crate::forward::{Gate, Verdict};
use crate::packet::{Header, Packet};
use crate::procedure::{Arguments, Call, Definition, replace};
use crate::splitter::Handling;

/// Calls that wait for the agent before the client is read no more. Keepalive stops then, and libvirt's daemon closes a connection
/// that does not answer for 30 s (`keepalive_interval`, `keepalive_count` in its settings). A hanging agent takes 20 s for each call.
const CALLS: usize = 64;
/// Cost of the waiting calls, in bytes, before the client is read no more; one call has at most 8 MiB more.
const COST: usize = 16 << 20;
/// Cost of a descriptor: 128 of them wait, far fewer than a process may open (1,024).
const DESCRIPTOR: usize = 128 << 10;
/// The definition of a snapshot's guest for its next start (libvirt's src/conf/snapshot_conf.c).
const INACTIVE: &str = "inactiveDomain";

/// The agent, as this program asks it. Each call has a deadline of its own.
pub trait Agent: Send + Sync + 'static {
    /// Completes a definition.
    fn complete(&self, xml: &str) -> Reply;
    /// Completes a device that is to be attached to this domain.
    fn attach(&self, uuid: &str, xml: &str, affects: Affects) -> Reply;
    /// Waits until no change of this domain is pending.
    fn settle(&self, uuid: &str);
}

/// The gate of one connection.
pub struct Admission {
    run: PathBuf,
    /// Where the kernel shows PCI functions.
    pci: PathBuf,
    jobs: Sender<Job>,
    done: Receiver<Decided>,
    notifier: UnixStream,
    ready: VecDeque<Verdict>,
    /// Jobs whose verdict was not taken yet.
    pending: usize,
    /// Their cost.
    cost: usize,
}

/// A verdict, and the cost of its call.
struct Decided(usize, Verdict);

/// A held call, and what the agent must answer before it goes on.
struct Job {
    packet: Packet,
    question: Question,
}

enum Question {
    Complete(Vec<Text>),
    /// The domain, and its device.
    Attach(String, Affects, Text),
    Settle(String),
}

/// A string of the arguments.
struct Text {
    span: Range<usize>,
    text: String,
    /// The definitions in it, in their order.
    parts: Vec<Part>,
}

struct Part {
    range: Range<usize>,
    /// It may be forwarded unchanged when no agent answers.
    optional: bool,
}

/// A call is not forwarded: the code of libvirt's error, and its message.
struct Refusal(u32, String);

impl Admission {
    /// For the agent of the run directory `run`, on a host whose PCI functions are in the directory `pci`; a thread of its own asks
    /// the agent.
    ///
    /// # Errors
    /// The thread or its notifier cannot be made.
    pub fn new(run: PathBuf, pci: PathBuf, agent: impl Agent) -> io::Result<Self> {
        let (jobs, taken) = channel::<Job>();
        let (decided, done) = channel();
        let (notifier, notify) = UnixStream::pair()?;
        // `verdict` reads a byte that may not be there yet.
        notifier.set_nonblocking(true)?;
        let mut notify = notify;
        let work = move || {
            for job in taken {
                let cost = cost(&job.packet);
                let verdict = Decided(cost, job.decide(&agent));
                if decided.send(verdict).is_err() || notify.write_all(&[0]).is_err() {
                    break;
                }
            }
        };
        thread::Builder::new().name("agent".into()).spawn(work)?;
        Ok(Self {
            run,
            pci,
            jobs,
            done,
            notifier,
            ready: VecDeque::new(),
            pending: 0,
            cost: 0,
        })
    }

    /// What the agent is asked about a call; `None` when it is forwarded at once.
    fn question(&self, packet: &Packet) -> Result<Option<Question>, Refusal> {
        let call = Call::of(&packet.header);
        let arguments = call.map(|call| call.arguments(&packet.bytes[packet.arguments()..]));
        let texts = match arguments {
            Some(Ok(Arguments::Definitions(definitions))) => {
                let texts = definitions
                    .iter()
                    .map(|one| self.text(one, iter::once(0..one.text.len()), needs_answer));
                texts.collect::<Result<Vec<_>, _>>()?
            }
            Some(Ok(Arguments::Snapshot(snapshot))) => {
                let parts = contained(snapshot.text).into_iter();
                // Its device may have been removed since: a snapshot must stay restorable from a backup.
                vec![self.text(&snapshot, parts, is_relevant)?]
            }
            Some(Ok(Arguments::Attach {
                domain,
                device,
                affects,
            })) => {
                let text = self.text(&device, iter::once(0..device.text.len()), needs_answer)?;
                let is_asked = !text.parts.is_empty();
                let domain = uuid_text(domain);
                return Ok(is_asked.then_some(Question::Attach(domain, affects, text)));
            }
            Some(Ok(Arguments::Start(uuid))) => {
                // The agent writes the list at its start. Without it no agent has run since boot, so nothing is pending.
                let known = self.run.join("devices").exists();
                return Ok(known.then(|| Question::Settle(uuid_text(uuid))));
            }
            // Arguments that cannot be read are for the daemon, whose error names what is wrong.
            Some(Ok(Arguments::Nothing) | Err(_)) | None => return Ok(None),
        };
        let asked: Vec<Text> = texts
            .into_iter()
            .filter(|text| !text.parts.is_empty())
            .collect();
        Ok((!asked.is_empty()).then_some(Question::Complete(asked)))
    }

    /// The definitions in a string that the agent is asked about.
    fn text(
        &self,
        outer: &Definition<'_>,
        parts: impl Iterator<Item = Range<usize>>,
        asks: fn(&Relevance) -> bool,
    ) -> Result<Text, Refusal> {
        let mut relevant = Vec::new();
        for range in parts {
            let input = Input::from(&outer.text[range.clone()]);
            let relevance = Relevance::with(&input, &self.run, &self.pci);
            if let (Some(Unreadable::TooLarge(size)), true) =
                (&relevance.unreadable, relevance.marked)
            {
                return Err(Refusal(CONFIG_UNSUPPORTED, too_large(*size)));
            }
            if relevance.unreadable.is_none() && asks(&relevance) {
                let optional = !relevance.marked && !relevance.device;
                relevant.push(Part { range, optional });
            }
        }
        Ok(Text {
            span: outer.span.clone(),
            text: if relevant.is_empty() {
                String::new()
            } else {
                outer.text.to_owned()
            },
            parts: relevant,
        })
    }
}

impl Gate for Admission {
    fn handling(&mut self, header: &Header) -> Handling {
        match Call::of(header) {
            None => Handling::Pass,
            Some(call) if header.size() <= call.longest() => Handling::Hold,
            // A start that is longer than its arguments can be is not a valid call.
            Some(Call::Start) => Handling::Pass,
            Some(_) => {
                let refusal = Refusal(OPERATION_FAILED, too_large(header.size()));
                self.ready.push_back(refusal.verdict(header));
                Handling::Discard
            }
        }
    }

    fn take(&mut self, packet: Packet) {
        let verdict = match self.question(&packet) {
            Err(refusal) => refusal.verdict(&packet.header),
            Ok(None) => Verdict::Forward(packet),
            Ok(Some(question)) => {
                let cost = cost(&packet);
                self.pending += 1;
                self.cost += cost;
                match self.jobs.send(Job { packet, question }) {
                    Ok(()) => return,
                    Err(unsent) => {
                        self.pending -= 1;
                        self.cost -= cost;
                        let why = "the thread that asks the agent has ended";
                        Refusal(OPERATION_FAILED, why.into()).verdict(&unsent.0.packet.header)
                    }
                }
            }
        };
        self.ready.push_back(verdict);
    }

    fn has_room(&self) -> bool {
        self.pending < CALLS && self.cost < COST
    }

    fn is_busy(&self) -> bool {
        self.pending > 0
    }

    fn notifier(&self) -> BorrowedFd<'_> {
        self.notifier.as_fd()
    }

    fn verdict(&mut self) -> Option<Verdict> {
        if let Some(ready) = self.ready.pop_front() {
            return Some(ready);
        }
        let Decided(cost, verdict) = self.done.try_recv().ok()?;
        // The thread sends the verdict before the byte, which may therefore be read by a later call.
        let _ = self.notifier.read(&mut [0]);
        self.pending -= 1;
        self.cost -= cost;
        Some(verdict)
    }
}

impl Job {
    fn decide(mut self, agent: &impl Agent) -> Verdict {
        let completed: Result<Vec<_>, _> = match self.question {
            Question::Settle(uuid) => {
                agent.settle(&uuid);
                return Verdict::Forward(self.packet);
            }
            Question::Complete(texts) => texts
                .into_iter()
                .map(|text| text.completed(|definition| ask(agent, definition)))
                .collect(),
            Question::Attach(domain, affects, text) => text
                .completed(|device| agent.attach(&domain, device, affects))
                .map(|text| vec![text]),
        };
        let replaced = completed.and_then(|texts| {
            let failed = |_| {
                let why = "the completed definition has more than 4 MiB, which libvirt does not read; make it smaller";
                Refusal(CONFIG_UNSUPPORTED, why.into())
            };
            replace(&mut self.packet, &texts).map_err(failed)
        });
        match replaced {
            Ok(()) => Verdict::Forward(self.packet),
            Err(refusal) => refusal.verdict(&self.packet.header),
        }
    }
}

impl Text {
    /// The text with its completed parts, and where it stands in the arguments.
    fn completed(self, ask: impl Fn(&str) -> Reply) -> Result<(Range<usize>, String), Refusal> {
        let mut text = self.text;
        // From the end, so that the ranges of the earlier parts stay valid.
        for part in self.parts.into_iter().rev() {
            match ask(&text[part.range.clone()]) {
                Reply::Done(completed) => text.replace_range(part.range, &completed),
                Reply::Refused(why) => {
                    return Err(Refusal(CONFIG_UNSUPPORTED, one_line(&why)));
                }
                reply @ (Reply::Unreachable(_) | Reply::Foreign(_)) if part.optional => {
                    warn(&ask::failure(&reply));
                }
                reply => return Err(Refusal(OPERATION_FAILED, ask::failure(&reply))),
            }
        }
        Ok((self.span, text))
    }
}

impl Refusal {
    fn verdict(self, call: &Header) -> Verdict {
        let Self(code, message) = self;
        Verdict::Reply(failure::reply(call, code, &Printable(&message).to_string()))
    }
}

fn cost(packet: &Packet) -> usize {
    packet.bytes.len() + packet.descriptors.len() * DESCRIPTOR
}

/// Prints the first warning of the connection. A client may have closed standard error, or may never read it: more warnings could
/// fill that pipe, and the connection would hang.
fn warn(sentence: &str) {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let _ = writeln!(io::stderr(), "warning: {}", Printable(sentence));
    });
}

fn is_relevant(relevance: &Relevance) -> bool {
    relevance.marked || relevance.device || relevance.unlisted.is_some()
}

/// The agent names a device that this host does not have; libvirt finds out at the start.
fn needs_answer(relevance: &Relevance) -> bool {
    is_relevant(relevance) || relevance.absent
}

fn too_large(size: usize) -> String {
    format!(
        "the definition has {size} bytes, more than 1 MiB ({TOO_LARGE}); make it smaller or use libvirt's own socket"
    )
}

/// The definitions in a snapshot or checkpoint, in their order. One with saved memory has none: its guest continues with the devices
/// that it had.
fn contained(text: &str) -> Vec<Range<usize>> {
    let Ok(document) = parse(text) else {
        return Vec::new();
    };
    let root = document.root_element();
    let child = |name: &str| root.children().find(|node| node.has_tag_name(name));
    let has_memory = match child("memory") {
        Some(memory) => memory.attribute("snapshot") != Some("no"),
        None => {
            child("state").is_some_and(|state| matches!(state.text(), Some("running" | "paused")))
        }
    };
    // Its devices must stay as they were saved: libvirt refuses a restore with another set of devices.
    if has_memory {
        return Vec::new();
    }
    let definitions = root
        .children()
        .filter(|node| node.has_tag_name("domain") || node.has_tag_name(INACTIVE));
    definitions.map(|node| node.range()).collect()
}

/// Completes one definition; that of a snapshot's inactive guest has another name, which the agent does not know.
fn ask(agent: &impl Agent, definition: &str) -> Reply {
    let start = format!("<{INACTIVE}");
    let end = format!("</{INACTIVE}>");
    let inner = definition.strip_prefix(&start);
    let Some(inner) = inner.and_then(|inner| inner.strip_suffix(&end)) else {
        return agent.complete(definition);
    };
    match agent.complete(&format!("<domain{inner}</domain>")) {
        Reply::Done(completed) => {
            let inner = completed.strip_prefix("<domain");
            match inner.and_then(|inner| inner.strip_suffix("</domain>")) {
                Some(inner) => Reply::Done(format!("{start}{inner}{end}")),
                None => Reply::Foreign("the completed definition is not a domain".into()),
            }
        }
        other => other,
    }
}

/// As libvirt prints it (virUUIDFormat).
fn uuid_text(uuid: [u8; 16]) -> String {
    let mut text = String::with_capacity(36);
    for (index, byte) in uuid.iter().enumerate() {
        if [4, 6, 8, 10].contains(&index) {
            text.push('-');
        }
        text.push_str(&format!("{byte:02x}"));
    }
    text
}
