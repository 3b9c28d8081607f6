//! A definition parses the same with and without its siblings.

use proptest::prelude::*;

use super::super::Domain;
use super::super::read::read;
use super::*;

fn guest(cpu: &str) -> String {
    format!(
        "<domain type='kvm'>\n  <name>d0</name>\n  <cpu>\n    <numa>\n{cpu}    </numa>\n  </cpu>\n  <devices>\n    \
         <hostdev mode='subsystem' type='pci'>\n      <source>\n        <address domain='0x0009' bus='1' slot='0' function='0'/>\n      \
         </source>\n      <alias name='ua-1'/>\n    </hostdev>\n  </devices>\n</domain>\n"
    )
}

fn cell(id: u32, distances: &str) -> String {
    format!("      <cell id='{id}' memory='0'>\n        {distances}\n      </cell>\n")
}

fn row(count: u32) -> String {
    let sibling = |id| format!("\n          <sibling id='{id}' value='{}'/>", 10 + id);
    let siblings: String = (0..count).map(sibling).collect();
    format!("<distances>{siblings}\n        </distances>")
}

#[test]
fn all_siblings_of_a_large_guest_are_left_out() {
    let text = guest(&(0..40).map(|id| cell(id, &row(40))).collect::<String>());
    let outline = Outline::of(&text);
    assert!(!outline.parsed().contains("sibling"));
    let domain = read(&outline).expect("short");
    assert_eq!(domain, read(&Outline::whole(&text)).expect("whole"));
    assert_eq!(domain.cells[39].distances[&39], 49);
    let span = domain.cells[1].siblings[2].remove().span;
    assert_eq!(&text[span], "\n          <sibling id='2' value='12'/>");
    let alias = domain.hostdevs[0].alias_text.as_deref();
    assert_eq!(alias, Some("<alias name='ua-1'/>"));
}

#[test]
fn parser_reads_distances_that_libvirt_did_not_print() {
    for other in [
        "<distances/>",
        "<distances></distances>",
        "<distances ><sibling id='0' value='10'/></distances>",
        "<distances><sibling id=\"0\" value=\"10\"/></distances>",
        "<distances><sibling value='10' id='0'/></distances>",
        "<distances><sibling id='0' value='10'></sibling></distances>",
        "<distances><!-- mine --><sibling id='0' value='10'/></distances>",
        "<distances><sibling id='0' value='10'/><x/></distances>",
        "<distances><sibling id='0' value='256'/></distances>",
        "<distances><sibling id='' value='10'/></distances>",
        "<distances><sibling id='0' value='10'/></distances >",
    ] {
        let text = guest(&cell(0, other));
        assert!(Outline::of(&text).is_whole(), "{other}");
    }
}

#[test]
fn a_refusal_names_the_line_of_the_whole_text() {
    let text = guest(&(cell(0, &row(3)) + &cell(1, "<distances><sibling id='x'/></distances>")));
    let refusal = Domain::parse(&text).expect_err("no number");
    let whole = read(&Outline::whole(&text)).expect_err("no number");
    assert_eq!(refusal, whole);
    assert!(refusal.to_string().contains("line 13"), "{refusal}");
}

/// Fragments that end, open or hide an element, between whole rows.
fn piece() -> impl Strategy<Value = String> {
    let fixed = prop::sample::select(vec![
        "<!-- ",
        " -->",
        "<![CDATA[",
        "]]>",
        "<?a ",
        "?>",
        "<distances>",
        "</distances>",
        "<cell id='1'>",
        "</cell>",
        "<sibling id='1' value='20'/>",
        "<sibling id='1' value='9' />",
        "<a b='",
        "'/>",
        "\n",
        "ä",
        "<a xmlns='u'>",
        "</a>",
        "<!DOCTYPE a>",
    ]);
    prop_oneof![
        2 => fixed.prop_map(str::to_owned),
        1 => (1..4u32).prop_map(row),
        2 => (0..3u32, 1..4u32).prop_map(|(id, count)| cell(id, &row(count))),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn outline_and_whole_text_parse_the_same(pieces in prop::collection::vec(piece(), 1..8)) {
        let text = guest(&pieces.concat());
        let outline = Outline::of(&text);
        let (short, whole) = (read(&outline), read(&Outline::whole(&text)));
        prop_assert_eq!(short.is_ok(), whole.is_ok());
        prop_assert_eq!(short.ok(), whole.clone().ok());
        prop_assert_eq!(Domain::parse(&text), whole);
    }
}
