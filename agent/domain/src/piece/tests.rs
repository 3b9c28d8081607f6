//! Each released text form, and how this version handles unknown ones.

use super::*;
use crate::Added;

/// Every form that 0.1.0 writes or reads.
fn forms() -> Vec<(&'static str, Piece)> {
    vec![
        ("acpi", Piece::Acpi),
        ("alias", Piece::Alias),
        ("arguments", Piece::Arguments),
        ("cells", Piece::Cells),
        ("commandline", Piece::CommandLine),
        ("cpu", Piece::Cpu),
        ("distances:0", Piece::Distances(0)),
        ("driver", Piece::Driver),
        ("egm:ua-gpu_0", Piece::Egm("ua-gpu_0".to_owned())),
        ("expander:12", Piece::Expander(12)),
        ("foreign:window", Piece::UsersWindow),
        ("iommufd", Piece::Iommufd),
        ("metadata", Piece::Metadata),
        ("model", Piece::Model),
        ("nodeset", Piece::Nodeset),
        ("numa", Piece::Numa),
        ("open:cell:1", Piece::Open(Opened::Cell(1))),
        ("open:cpu", Piece::Open(Opened::Cpu)),
        ("open:distances:1", Piece::Open(Opened::Distances(1))),
        ("open:metadata", Piece::Open(Opened::Metadata)),
        ("open:nodeset", Piece::Open(Opened::Nodeset)),
        ("open:numa", Piece::Open(Opened::Numa)),
        ("open:root", Piece::Open(Opened::Root)),
        ("override", Piece::Override),
        ("port:4", Piece::Port(4)),
        ("root", Piece::Root),
        ("sibling:0:10", Piece::Sibling { from: 0, to: 10 }),
        ("smmu:12", Piece::Smmu(12)),
        ("switch:3", Piece::Switch(3)),
        ("table:/a:b.aml", Piece::Table("/a:b.aml".to_owned())),
        ("width", Piece::Width(None)),
        ("width:46", Piece::Width(Some(46))),
        ("window", Piece::Window(None)),
        ("window:4096", Piece::Window(Some(4096))),
    ]
}

#[test]
fn each_form_of_0_1_0_is_read_and_written_back() {
    for (word, piece) in forms() {
        assert_eq!(word.parse(), Ok(piece.clone()), "{word}");
        assert_eq!(piece.to_string(), word);
    }
}

#[test]
fn a_mark_with_all_forms_is_written_back_byte_for_byte() {
    let words: Vec<&str> = forms().into_iter().map(|(word, _)| word).collect();
    let text = words.join(" ");
    let added: Added = text.parse().expect("infallible");
    assert_eq!(added.to_string(), text);
    for (word, piece) in forms() {
        assert!(added.has(&piece), "{word}");
    }
}

#[test]
fn pieces_are_written_in_the_order_of_their_text() {
    let text = "port:10 port:2 window:16384 window:4096";
    let added: Added = "window:4096 port:2  window:16384 port:10"
        .parse()
        .expect("infallible");
    assert_eq!(added.to_string(), text);
}

#[test]
fn unknown_piece_is_kept_in_the_mark_without_effect() {
    for word in [
        "later",
        "later:1",
        "port",
        "port:",
        "port:x",
        "port:-1",
        "port:+1",
        "port:01",
        "port:4294967296",
        "open",
        "open:cell",
        "open:cell:x",
        "open:port:1",
        "sibling:1",
        "sibling:1:",
        "foreign:x",
        "driver:1",
        "Driver",
        "window:1:2",
    ] {
        assert_eq!(word.parse(), Ok(Piece::Unknown(word.to_owned())));
        let added: Added = word.parse().expect("infallible");
        assert_eq!(added.to_string(), word);
        assert_eq!(added.ports().count(), 0);
    }
}
