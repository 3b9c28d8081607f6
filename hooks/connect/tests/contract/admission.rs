//! The decisions about calls, with a modelled agent: what it is asked, and what becomes of the call.

use std::fs;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ask::Affects;
use connect::admission::{Admission, Agent};
use connect::forward::{Gate, Verdict};
use connect::packet::{HEAD, Header};
use connect::procedure::{Arguments, Call};
use connect::splitter::Handling;
use connect::xdr::Reader;
use hooks::agent::Reply;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tempfile::TempDir;

use crate::forward::forwarding;
use crate::packet::{call, define, numbers, packet, parsed, string};

const GPU: &str = "<devices><hostdev mode='subsystem' type='pci'><source><address domain='0x0009' bus='0x01' slot='0x00' function='0x0'/>\
                   </source></hostdev></devices>";
const MARK: &str = "<metadata><v:prepared xmlns:v='urn:variantd:1'/></metadata>";
const UUID: [u8; 16] = [
    0x6f, 0x1f, 0x0b, 0x9e, 0x3c, 0x1e, 0x4b, 0x3a, 0x9a, 0x39, 0x0d, 0x0c, 0x7b, 0x9f, 0x6a, 0x11,
];

fn guest(content: &str) -> String {
    format!("<domain type='kvm'><name>d</name>{content}</domain>")
}

/// An agent that gives this answer to each definition, and notes what it is asked.
#[derive(Clone)]
struct Modelled {
    answer: Option<Reply>,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Agent for Modelled {
    fn complete(&self, xml: &str) -> Reply {
        self.asked.lock().expect("log").push(xml.to_owned());
        let completed = || Reply::Done(xml.replace("</domain>", "<new/></domain>"));
        self.answer.clone().unwrap_or_else(completed)
    }

    fn attach(&self, uuid: &str, xml: &str, affects: Affects) -> Reply {
        let asked = format!("{uuid} {affects:?} {xml}");
        self.asked.lock().expect("log").push(asked);
        let completed = || Reply::Done(xml.replace("<source>", "<driver name='vfio'/><source>"));
        self.answer.clone().unwrap_or_else(completed)
    }

    fn settle(&self, uuid: &str) {
        self.asked.lock().expect("log").push(uuid.to_owned());
    }
}

struct Scene {
    gate: Admission,
    agent: Modelled,
    run: TempDir,
    _pci: TempDir,
}

/// What became of a call.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    Forwarded(Vec<u8>),
    Refused(u32, String),
}

impl Scene {
    /// The agent has listed `0009:01:00.0`; the host has `0009:02:00.0` as well.
    fn start(answer: Option<Reply>) -> Self {
        let run = tempfile::tempdir().expect("directory");
        fs::write(run.path().join("devices"), "0009:01:00.0\n").expect("a list");
        let pci = tempfile::tempdir().expect("directory");
        for function in ["0009:01:00.0", "0009:02:00.0"] {
            fs::create_dir(pci.path().join(function)).expect("a function");
        }
        let agent = Modelled {
            answer,
            asked: Arc::default(),
        };
        Self {
            gate: Admission::new(run.path().into(), pci.path().into(), agent.clone())
                .expect("a gate"),
            agent,
            run,
            _pci: pci,
        }
    }

    fn asked(&self) -> Vec<String> {
        self.agent.asked.lock().expect("log").clone()
    }

    /// The outcome of a call, which the gate holds.
    fn outcome(&mut self, bytes: &[u8]) -> Outcome {
        let packet = parsed(bytes);
        assert_eq!(self.gate.handling(&packet.header), Handling::Hold);
        self.gate.take(packet);
        self.next()
    }

    fn next(&mut self) -> Outcome {
        loop {
            match self.gate.verdict() {
                Some(Verdict::Forward(packet)) => return Outcome::Forwarded(packet.bytes),
                Some(Verdict::Reply(packet)) => return refusal(&packet.bytes),
                None => self.wait(),
            }
        }
    }

    fn wait(&self) {
        let limit = Timespec::try_from(Duration::from_secs(20)).expect("a time");
        let notifier = self.gate.notifier();
        let mut waited = [PollFd::from_borrowed_fd(notifier.as_fd(), PollFlags::IN)];
        assert_eq!(poll(&mut waited, Some(&limit)), Ok(1), "no verdict");
    }
}

/// Code and message of an error reply.
fn refusal(bytes: &[u8]) -> Outcome {
    let mut reader = Reader::new(&bytes[HEAD..]);
    let code = reader.number().expect("a code");
    reader.number().expect("a domain");
    let message = reader.optional().expect("a text").expect("a message");
    Outcome::Refused(code, String::from_utf8_lossy(message.bytes).into_owned())
}

fn domain() -> Vec<u8> {
    [&string("d")[..], &UUID, &numbers(&[u32::MAX])].concat()
}

#[test]
fn unrelated_guest_is_forwarded_without_a_question() {
    let mut scene = Scene::start(None);
    for content in [
        "",
        "<devices><disk/></devices>",
        &GPU.replace("0x01", "0x02"),
    ] {
        let bytes = define(1, &guest(content));
        assert_eq!(scene.outcome(&bytes), Outcome::Forwarded(bytes));
    }
    assert!(scene.asked().is_empty());
    assert!(!scene.gate.is_busy());
}

#[test]
fn guest_with_a_covered_device_or_a_mark_is_completed() {
    let mut scene = Scene::start(None);
    for content in [GPU, MARK] {
        let (xml, completed) = (guest(content), guest(&format!("{content}<new/>")));
        assert_eq!(
            scene.outcome(&define(1, &xml)),
            Outcome::Forwarded(define(1, &completed))
        );
    }
    assert_eq!(scene.asked(), [guest(GPU), guest(MARK)]);
}

#[test]
fn guest_with_a_device_that_the_host_does_not_have_is_refused_by_the_agent() {
    let missing = guest(&GPU.replace("0x01", "0x77"));
    let why = "'0009:77:00.0': this host has no such PCI device (VD-DEV-001)";
    let mut scene = Scene::start(Some(Reply::Refused(why.into())));
    assert_eq!(
        scene.outcome(&define(1, &missing)),
        Outcome::Refused(67, why.into())
    );
    let asked = [missing.clone()];
    assert_eq!(scene.asked(), asked);
    let snapshot = string(&format!("<domainsnapshot>{missing}</domainsnapshot>"));
    let bytes = call(185, 1, &[domain(), snapshot, numbers(&[1])].concat());
    assert_eq!(scene.outcome(&bytes), Outcome::Forwarded(bytes));
    assert_eq!(scene.asked(), asked, "a snapshot may have an absent device");
    let mut scene = Scene::start(Some(Reply::Unreachable("no name".into())));
    let bytes = define(1, &missing);
    assert_eq!(scene.outcome(&bytes), Outcome::Forwarded(bytes));
}

#[test]
fn refusal_of_the_agent_is_the_callers_error() {
    let mut scene = Scene::start(Some(Reply::Refused(
        "'0009:01:00.0': not\n so (VD-DEV-001)".into(),
    )));
    let outcome = scene.outcome(&define(1, &guest(GPU)));
    assert_eq!(
        outcome,
        Outcome::Refused(67, "'0009:01:00.0': not so (VD-DEV-001)".into())
    );
}

#[test]
fn relevant_guest_is_refused_when_no_agent_answers() {
    let answers = [
        (Reply::Unreachable("no name".into()), "VD-AGT-001"),
        (Reply::Foreign("no method".into()), "VD-HOK-003"),
        (Reply::Full("a quota".into()), "VD-AGT-001"),
        (
            Reply::Late(Duration::from_secs(20)),
            "journalctl -u variantd",
        ),
        (Reply::Broken, "journalctl -u variantd"),
    ];
    for (answer, expected) in answers {
        let mut scene = Scene::start(Some(answer));
        for content in [GPU, MARK] {
            match scene.outcome(&define(1, &guest(content))) {
                Outcome::Refused(9, message) => assert!(message.contains(expected), "{message}"),
                other => unreachable!("{other:?}"),
            }
        }
        let bytes = define(2, &guest(""));
        assert_eq!(scene.outcome(&bytes), Outcome::Forwarded(bytes));
    }
}

#[test]
fn guest_with_an_unknown_device_passes_when_no_agent_answers() {
    let mut scene = Scene::start(Some(Reply::Unreachable("no name".into())));
    fs::remove_file(scene.run.path().join("devices")).expect("the list");
    let bytes = define(1, &guest(GPU));
    assert_eq!(scene.outcome(&bytes), Outcome::Forwarded(bytes));
    assert_eq!(scene.asked(), [guest(GPU)]);
}

#[test]
fn too_large_definition_with_a_mark_is_refused_and_without_one_passes() {
    let mut scene = Scene::start(None);
    let filler = "<description/>".repeat(100_000);
    let bytes = define(1, &guest(&filler));
    assert_eq!(scene.outcome(&bytes), Outcome::Forwarded(bytes));
    match scene.outcome(&define(1, &guest(&format!("{MARK}{filler}")))) {
        Outcome::Refused(67, message) => assert!(message.contains("VD-HOK-001"), "{message}"),
        other => unreachable!("{other:?}"),
    }
    assert!(scene.asked().is_empty());
}

#[test]
fn call_beyond_the_limit_is_refused_before_its_payload() {
    let mut scene = Scene::start(None);
    let mut header = parsed(&define(1, "")).header;
    header.length = u32::try_from(Call::Definition.longest() + 1).expect("a length");
    assert_eq!(scene.gate.handling(&header), Handling::Discard);
    assert!(matches!(scene.next(), Outcome::Refused(9, message) if message.contains("VD-HOK-001")));
}

#[test]
fn malformed_and_foreign_texts_are_left_to_the_daemon() {
    let mut scene = Scene::start(None);
    let texts = [
        "",
        "<domain",
        "<!DOCTYPE a><domain/>",
        "<network/>",
        &guest(&MARK.replace("/>", ">")),
    ];
    for text in texts {
        let bytes = define(1, text);
        assert_eq!(scene.outcome(&bytes), Outcome::Forwarded(bytes), "{text}");
    }
    let bytes = call(11, 1, &numbers(&[9]));
    assert_eq!(scene.outcome(&bytes), Outcome::Forwarded(bytes));
}

/// Attach (8) has no flags.
fn attach(device: &str, flags: Option<u32>) -> Vec<u8> {
    let arguments = [domain(), string(device)].concat();
    match flags {
        None => call(8, 1, &arguments),
        Some(flags) => call(160, 1, &[arguments, numbers(&[flags])].concat()),
    }
}

/// The GPU as a device alone.
fn device() -> String {
    let device = GPU.strip_prefix("<devices>");
    let device = device.and_then(|device| device.strip_suffix("</devices>"));
    device.expect("a device").to_owned()
}

#[test]
fn attached_device_is_judged_with_its_domain_and_flags() {
    let mut scene = Scene::start(None);
    let uuid = "6f1f0b9e-3c1e-4b3a-9a39-0d0c7b9f6a11";
    let completed = device().replace("<source>", "<driver name='vfio'/><source>");
    // VIR_DOMAIN_AFFECT_LIVE is 1, VIR_DOMAIN_AFFECT_CONFIG 2; other flags are the daemon's.
    let calls = [
        (None, true, false),
        (Some(0), false, false),
        (Some(1), true, false),
        (Some(2), false, true),
        (Some(7), true, true),
    ];
    for (flags, live, config) in calls {
        assert_eq!(
            scene.outcome(&attach(&device(), flags)),
            Outcome::Forwarded(attach(&completed, flags)),
            "{flags:?}"
        );
        let affects = Affects { live, config };
        let asked = format!("{uuid} {affects:?} {}", device());
        assert_eq!(scene.asked().last(), Some(&asked), "{flags:?}");
    }
}

#[test]
fn unrelated_or_unreadable_device_is_attached_without_a_question() {
    let mut scene = Scene::start(None);
    let other = device().replace("0x01", "0x02");
    for text in ["<disk/>", &other, "<hostdev", "", "<!DOCTYPE a><hostdev/>"] {
        let bytes = attach(text, Some(2));
        assert_eq!(scene.outcome(&bytes), Outcome::Forwarded(bytes), "{text}");
    }
    let bytes = call(160, 1, &domain());
    assert_eq!(scene.outcome(&bytes), Outcome::Forwarded(bytes));
    assert!(scene.asked().is_empty());
}

#[test]
fn refused_device_is_not_attached() {
    let why = "'0009:01:00.0': a running guest cannot get its generic initiators (VD-NUM-016)";
    let mut scene = Scene::start(Some(Reply::Refused(why.into())));
    for device in [device(), device().replace("0x01", "0x77")] {
        let outcome = scene.outcome(&attach(&device, None));
        assert_eq!(outcome, Outcome::Refused(67, why.into()));
    }
    let mut scene = Scene::start(Some(Reply::Unreachable("no name".into())));
    match scene.outcome(&attach(&device(), None)) {
        Outcome::Refused(9, message) => assert!(message.contains("VD-AGT-001"), "{message}"),
        other => unreachable!("{other:?}"),
    }
    let absent = attach(&device().replace("0x01", "0x77"), None);
    assert_eq!(scene.outcome(&absent), Outcome::Forwarded(absent));
}

#[test]
fn start_waits_for_the_agent_and_is_forwarded() {
    let mut scene = Scene::start(Some(Reply::Refused("not so".into())));
    let bytes = call(9, 1, &domain());
    assert_eq!(scene.outcome(&bytes), Outcome::Forwarded(bytes.clone()));
    assert_eq!(scene.asked(), ["6f1f0b9e-3c1e-4b3a-9a39-0d0c7b9f6a11"]);
    fs::remove_file(scene.run.path().join("devices")).expect("the list");
    assert_eq!(scene.outcome(&bytes), Outcome::Forwarded(bytes));
    assert_eq!(scene.asked().len(), 1, "no agent has run since boot");
}

#[test]
fn both_definitions_of_a_snapshot_are_completed() {
    let mut scene = Scene::start(None);
    let inactive = guest(GPU)
        .replace("<domain", "<inactiveDomain")
        .replace("</domain", "</inactiveDomain");
    let text = format!(
        "<domainsnapshot><name>s</name>{}{inactive}</domainsnapshot>",
        guest(GPU)
    );
    let bytes = call(185, 1, &[domain(), string(&text), numbers(&[1])].concat());
    let Outcome::Forwarded(after) = scene.outcome(&bytes) else {
        unreachable!("it is not refused")
    };
    let packet = parsed(&after);
    let arguments = Call::Snapshot.arguments(&packet.bytes[HEAD..]);
    let expected = text.replace("</domain>", "<new/></domain>");
    let expected = expected.replace("</inactiveDomain>", "<new/></inactiveDomain>");
    match arguments {
        Ok(Arguments::Snapshot(found)) => assert_eq!(found.text, expected),
        other => unreachable!("{other:?}"),
    }
    assert_eq!(scene.asked(), [guest(GPU), guest(GPU)]);
    let memory = text.replace("<name>s</name>", "<memory snapshot='external' file='/a'/>");
    let bytes = call(185, 1, &[domain(), string(&memory), numbers(&[1])].concat());
    assert_eq!(scene.outcome(&bytes), Outcome::Forwarded(bytes));
}

#[test]
fn gate_takes_64_calls_and_decides_them_in_order() {
    let mut scene = Scene::start(None);
    for serial in 1..=64 {
        assert!(scene.gate.has_room());
        scene.gate.take(parsed(&define(serial, &guest(GPU))));
    }
    assert!(!scene.gate.has_room());
    for serial in 1..=64 {
        let completed = guest(&format!("{GPU}<new/>"));
        assert_eq!(scene.next(), Outcome::Forwarded(define(serial, &completed)));
    }
    assert!(scene.gate.has_room() && !scene.gate.is_busy());
}

#[test]
fn gate_takes_16_mib_of_calls() {
    let mut scene = Scene::start(None);
    let filler = "a".repeat(1_000_000);
    let bytes = define(1, &guest(&format!("{GPU}<title>{filler}</title>")));
    let mut taken = 0;
    while scene.gate.has_room() {
        scene.gate.take(parsed(&bytes));
        taken += 1;
    }
    assert_eq!(taken, 17);
    scene.next();
    assert!(scene.gate.has_room());
}

/// An agent that answers no call until the sender is dropped.
struct Hanging(Mutex<Receiver<()>>);

impl Agent for Hanging {
    fn complete(&self, _xml: &str) -> Reply {
        let _ = self.0.lock().expect("the receiver").recv();
        Reply::Late(Duration::from_secs(20))
    }

    fn attach(&self, _uuid: &str, xml: &str, _affects: Affects) -> Reply {
        self.complete(xml)
    }

    fn settle(&self, _uuid: &str) {}
}

#[test]
fn keepalive_passes_while_calls_wait_for_a_hanging_agent() {
    let run = tempfile::tempdir().expect("directory");
    fs::write(run.path().join("devices"), "0009:01:00.0\n").expect("a list");
    let (resume, hangs) = channel();
    let agent = Hanging(Mutex::new(hangs));
    let gate = Admission::new(run.path().into(), "/nonexistent".into(), agent).expect("a gate");
    let (mut client, mut daemon, ended) = forwarding(gate);
    let calls = 1..=20;
    let ping = packet(2, 1, 0, &[]);
    for serial in calls.clone() {
        let call = define(serial, &guest(GPU));
        client.write_all(&call).expect("sent");
        client.write_all(&ping).expect("sent");
        let mut received = vec![0; ping.len()];
        daemon.read_exact(&mut received).expect("a ping");
        assert_eq!(received, ping, "behind call {serial}");
    }
    drop(resume);
    for serial in calls {
        let mut head = [0; HEAD];
        client.read_exact(&mut head).expect("a reply");
        let header = Header::parse(&head).expect("a header");
        let mut payload = vec![0; header.size() - HEAD];
        client.read_exact(&mut payload).expect("its payload");
        let reply = [&head[..], &payload].concat();
        assert!(matches!(refusal(&reply), Outcome::Refused(9, _)));
        assert_eq!(header.serial, serial);
    }
    drop((client, daemon));
    ended.join().expect("the loop").expect("no fault");
}
