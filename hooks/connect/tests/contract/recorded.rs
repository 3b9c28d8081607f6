//! Calls of the real clients: where their definitions are found, and that only these bytes change.

use ask::Affects;
use connect::failure;
use connect::packet::{HEAD, Header};
use connect::procedure::{Arguments, Call, Definition, replace};
use connect::xdr::{Malformed, Reader};
use proptest::prelude::*;

use crate::packet::{call, numbers, packet, parsed, string};

const RECORDED: &str = include_str!("data/packets.txt");
/// The definition in each recorded call.
const XML: &str =
    "<domain type='test'><name>d</name><memory>1024</memory><os><type>hvm</type></os></domain>";
const OTHER: &str = "<domain type='test'><name>completed</name></domain>";

/// The packet of this name in the record.
fn recorded(name: &str) -> Vec<u8> {
    let mut lines = RECORDED.lines().filter(|line| !line.starts_with('#'));
    let found = lines.find_map(|line| line.split_once(' ').filter(|(first, _)| *first == name));
    let (_, digits) = found.expect("a recorded packet");
    let byte = |at| u8::from_str_radix(&digits[at..at + 2], 16).expect("hexadecimal");
    (0..digits.len()).step_by(2).map(byte).collect()
}

/// The definitions in a call, each with its span.
fn definitions(bytes: &[u8]) -> Vec<(String, std::ops::Range<usize>)> {
    let packet = parsed(bytes);
    let call = Call::of(&packet.header).expect("a call with a definition");
    let owned = |one: &Definition<'_>| (one.text.to_owned(), one.span.clone());
    match call.arguments(&packet.bytes[packet.arguments()..]) {
        Ok(Arguments::Definitions(found)) => found.iter().map(owned).collect(),
        Ok(Arguments::Snapshot(found)) => vec![owned(&found)],
        other => unreachable!("{other:?}"),
    }
}

/// The packet with this text in the place of its definition.
fn replaced(bytes: &[u8], text: &str) -> Vec<u8> {
    let texts: Vec<_> = definitions(bytes)
        .into_iter()
        .map(|(_, span)| (span, text.to_owned()))
        .collect();
    let mut packet = parsed(bytes);
    replace(&mut packet, &texts).expect("a short text");
    assert_eq!(packet.header.size(), packet.bytes.len());
    packet.bytes
}

#[test]
fn each_recorded_call_has_its_definition() {
    for name in ["10", "11", "232", "233", "236", "309", "389", "440", "441"] {
        let bytes = recorded(name);
        let found = definitions(&bytes);
        let texts: Vec<&str> = found.iter().map(|(text, _)| text.trim_end()).collect();
        let expected = XML.replace(
            "<name>d",
            if name == "10" || name == "309" {
                "<name>c"
            } else {
                "<name>d"
            },
        );
        assert_eq!(texts, [expected], "{name}");
    }
    for name in ["185", "411"] {
        let found = definitions(&recorded(name));
        assert!(found.len() == 1 && found[0].0.contains(XML), "{name}");
    }
}

#[test]
fn replacing_a_definition_by_itself_keeps_every_byte() {
    for name in [
        "10", "11", "185", "232", "233", "236", "309", "389", "411", "440", "441",
    ] {
        let bytes = recorded(name);
        let (text, _) = definitions(&bytes).remove(0);
        assert_eq!(replaced(&bytes, &text), bytes, "{name}");
    }
}

#[test]
fn replacing_a_definition_keeps_all_other_arguments() {
    for name in [
        "10", "11", "185", "232", "233", "236", "309", "389", "411", "440", "441",
    ] {
        let bytes = recorded(name);
        let (text, span) = definitions(&bytes).remove(0);
        let after = replaced(&bytes, OTHER);
        let found = definitions(&after);
        assert_eq!(found[0].0, OTHER, "{name}");
        let start = parsed(&bytes).arguments();
        let (before, rest) = (start + span.start, start + span.end);
        assert_eq!(after[4..before], bytes[4..before], "{name}");
        assert!(after.ends_with(&bytes[rest..]), "{name}");
        assert_eq!(replaced(&after, &text), bytes, "{name}");
    }
}

#[test]
fn start_names_its_domain() {
    for name in ["9", "196"] {
        let bytes = recorded(name);
        let packet = parsed(&bytes);
        let call = Call::of(&packet.header).expect("a start");
        let arguments = call.arguments(&packet.bytes[HEAD..]).expect("a domain");
        assert!(
            matches!(arguments, Arguments::Start(uuid) if uuid != [0; 16]),
            "{arguments:?}"
        );
    }
}

#[test]
fn attach_has_its_device_and_flags() {
    let bytes = recorded("160");
    let packet = parsed(&bytes);
    let flagged = Call::of(&packet.header).expect("an attach");
    let arguments = &bytes[HEAD..];
    let Ok(Arguments::Attach {
        domain,
        device,
        affects,
    }) = flagged.arguments(arguments)
    else {
        unreachable!("it is an attach");
    };
    assert_ne!(domain, [0; 16]);
    assert!(device.text.starts_with('<'), "{}", device.text);
    assert_eq!(device.span.end, arguments.len() - 4, "then the flags");
    println!("{affects:?}");
    // The call without flags has the same arguments before them.
    let plain = call(8, 1, &arguments[..arguments.len() - 4]);
    let plain_call = Call::of(&parsed(&plain).header).expect("an attach");
    let live = Affects {
        live: true,
        config: false,
    };
    let expected = Arguments::Attach {
        domain,
        device,
        affects: live,
    };
    assert_eq!(plain_call.arguments(&plain[HEAD..]), Ok(expected));
}

#[test]
fn restore_without_a_definition_is_forwarded() {
    let restore = call(233, 1, &[string("/a"), numbers(&[0, 0])].concat());
    assert!(definitions(&restore).is_empty());
}

#[test]
fn snapshot_without_redefine_has_nothing_to_complete() {
    let bytes = recorded("185");
    let flags = bytes.len() - 4;
    let plain = [&bytes[..flags], &[0; 4]].concat();
    let packet = parsed(&plain);
    let call = Call::of(&packet.header).expect("a snapshot");
    assert_eq!(call.arguments(&plain[HEAD..]), Ok(Arguments::Nothing));
}

/// Arguments as remote_protocol.x has them for the destination of a migration.
#[test]
fn a_migrations_destination_has_its_definition_in_each_version() {
    let long = numbers(&[0, 1]);
    let name = [numbers(&[1]), string("dname")].concat();
    let uri = [numbers(&[1]), string("tcp://b")].concat();
    let cookie = string("cookie");
    let end = [&long[..], &name, &long, &string(XML)].concat();
    let parameter = |field: &str, text: &str| [string(field), numbers(&[7]), string(text)].concat();
    let parameters = [
        numbers(&[4]),
        parameter("destination_name", "dname"),
        parameter("destination_xml", XML),
        [string("bandwidth"), numbers(&[4, 0, 9])].concat(),
        parameter("persistent_xml", OTHER),
    ]
    .concat();
    let parameters = [&parameters[..], &cookie, &numbers(&[0])].concat();
    let calls = [
        (108, [&uri[..], &end].concat(), vec![XML]),
        (148, end.clone(), vec![XML]),
        (214, [&cookie[..], &uri, &end].concat(), vec![XML]),
        (215, [&cookie[..], &end].concat(), vec![XML]),
        (303, parameters.clone(), vec![XML, OTHER]),
        (304, parameters, vec![XML, OTHER]),
    ];
    for (procedure, arguments, expected) in calls {
        let found = definitions(&call(procedure, 1, &arguments));
        let texts: Vec<&str> = found.iter().map(|(text, _)| &**text).collect();
        assert_eq!(texts, expected, "{procedure}");
    }
}

#[test]
fn calls_of_other_programs_versions_and_kinds_are_forwarded() {
    let bytes = recorded("11");
    // program, version, kind
    for (at, value) in [(4, 0x2000_8087_u32), (8, 2), (16, 1), (16, 2), (16, 3)] {
        let mut other = bytes.clone();
        other[at..at + 4].copy_from_slice(&value.to_be_bytes());
        assert_eq!(Call::of(&parsed(&other).header), None, "{at} {value}");
    }
}

#[test]
fn refusal_has_the_layout_of_the_daemons_error() {
    let call = parsed(&recorded("185")).header;
    let ours = failure::reply(&call, 8, "not so");
    let theirs = parsed(&recorded("error-185"));
    let Header { length, .. } = theirs.header;
    assert_eq!(
        ours.header,
        Header {
            length: ours.header.length,
            ..theirs.header
        }
    );
    assert_eq!(length as usize, theirs.bytes.len());
    let shape = |bytes: &[u8]| -> Result<(Vec<Option<String>>, Vec<u32>), Malformed> {
        let mut reader = Reader::new(&bytes[HEAD..]);
        let (mut texts, mut numbers) = (Vec::new(), vec![reader.number()?, reader.number()?]);
        let text = |found: Option<connect::xdr::Text<'_>>| {
            found.map(|text| String::from_utf8_lossy(text.bytes).into_owned())
        };
        texts.push(text(reader.optional()?));
        numbers.extend([reader.number()?, reader.number()?]);
        for _ in 0..3 {
            texts.push(text(reader.optional()?));
        }
        numbers.extend([reader.number()?, reader.number()?, reader.number()?]);
        assert_eq!(reader.number(), Err(Malformed), "the end");
        Ok((texts, numbers))
    };
    let (texts, numbers) = shape(&ours.bytes).expect("our error");
    let (other_texts, other_numbers) = shape(&theirs.bytes).expect("the daemon's error");
    assert_eq!(texts[0].as_deref(), Some("not so"));
    let present = |texts: &[Option<String>]| texts.iter().map(Option::is_some).collect::<Vec<_>>();
    assert_eq!(present(&texts), present(&other_texts));
    // The second number is the domain of the error: the test driver's differs.
    assert_eq!(numbers[0], other_numbers[0]);
    assert_eq!(numbers[2..], other_numbers[2..]);
}

proptest! {
    /// Malformed arguments are an error, without a panic and without memory beyond the packet's.
    #[test]
    fn any_arguments_are_read_or_refused(procedure in 0_u32..460, bytes in any::<Vec<u8>>()) {
        let packet = parsed(&packet(0, procedure, 1, &bytes));
        if let Some(call) = Call::of(&packet.header) {
            let _ = call.arguments(&packet.bytes[packet.arguments()..]);
        }
    }

    /// A recorded call with one changed byte is read, refused, or forwarded; what is found lies in the packet.
    #[test]
    fn a_changed_byte_of_a_recorded_call_gives_no_text_outside_it(
        name in prop::sample::select(vec!["10", "11", "160", "185", "232", "233", "236", "309", "389", "411", "440", "441"]),
        at in any::<prop::sample::Index>(),
        value in any::<u8>(),
    ) {
        let mut bytes = recorded(name);
        let arguments = parsed(&bytes).arguments();
        let at = arguments + at.index(bytes.len() - arguments);
        bytes[at] = value;
        let packet = parsed(&bytes);
        let call = Call::of(&packet.header).expect("the head is unchanged");
        let payload = &packet.bytes[packet.arguments()..];
        match call.arguments(payload) {
            Ok(Arguments::Definitions(found)) => {
                prop_assert!(found.iter().all(|one| one.span.end <= payload.len()));
            }
            Ok(Arguments::Snapshot(found) | Arguments::Attach { device: found, .. }) => {
                prop_assert!(found.span.end <= payload.len());
            }
            Ok(_) | Err(Malformed) => {}
        }
    }
}
