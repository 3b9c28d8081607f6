//! Small definitions that were expensive to read before there were limits.

use std::time::{Duration, Instant};

use domain::Domain;
use hooks::input::Input;
use hooks::relevance::Relevance;
use inputs::target;

/// The limit for a debug build on a busy machine. Without limits they took minutes or all memory.
const LIMIT: Duration = Duration::from_secs(20);

fn guest(before: &str, devices: &str) -> String {
    format!(
        "<domain type='kvm'><name>d0</name><memory>1024</memory>{before}<os><type arch='x86_64' machine='q35'>hvm</type>\
         </os><devices>{devices}</devices></domain>"
    )
}

/// The code with which the agent refuses the definition. Agent and hook must both return in time.
fn refused(text: &str) -> String {
    let began = Instant::now();
    let refusal = Domain::parse(text).expect_err("it is refused");
    let _ = Relevance::of(&Input::from(text), "/nonexistent".as_ref());
    assert!(began.elapsed() < LIMIT, "it takes {:?}", began.elapsed());
    refusal.to_string()
}

fn too_large(text: &str) {
    let printed = refused(text);
    assert!(printed.contains("VD-XML-003"), "{printed}");
}

fn numbered(count: usize, item: impl Fn(usize) -> String) -> String {
    (0..count).map(item).collect()
}

#[test]
fn a_hundred_thousand_attributes_of_one_element() {
    let attributes = numbered(100_000, |number| format!(" a{number}=''"));
    too_large(&guest(
        &format!("<metadata><a{attributes}/></metadata>"),
        "",
    ));
}

#[test]
fn elements_in_each_other_each_with_a_namespace() {
    let open = numbered(40_000, |number| format!("<a xmlns:n{number}='u'>"));
    let text = format!("<domain>{open}{}</domain>", "</a>".repeat(40_000));
    too_large(&text);
}

#[test]
fn many_namespaces_side_by_side() {
    let elements = numbered(30_000, |number| format!("<a xmlns:n{number}='u'/>"));
    too_large(&guest(&format!("<metadata>{elements}</metadata>"), ""));
}

#[test]
fn two_hundred_thousand_elements_in_each_other() {
    too_large(&format!("<domain>{}", "<a>".repeat(200_000)));
}

#[test]
fn tens_of_thousands_of_cells() {
    // 16383 is the highest processor number that libvirt accepts (VIR_DOMAIN_CPUMASK_LEN).
    let cells = numbered(20_000, |number| {
        format!("<cell id='{number}' cpus='0-16383' memory='1'/>")
    });
    too_large(&guest(&format!("<cpu><numa>{cells}</numa></cpu>"), ""));
}

#[test]
fn a_cell_with_the_highest_number() {
    let cell = "<cpu><numa><cell id='4294967295' cpus='0' memory='1'/></numa></cpu>";
    too_large(&guest(cell, ""));
}

#[test]
fn four_thousand_million_processors() {
    too_large(&guest("<vcpu>4294967295</vcpu>", ""));
}

#[test]
fn a_node_set_that_names_all_numbers_a_hundred_thousand_times() {
    let set = vec!["0-65535"; 100_000].join(",");
    let hostdev = format!(
        "<hostdev mode='subsystem' type='pci'><source><address domain='9' bus='1' slot='0' function='0'/></source>\
         <acpi nodeset='{set}'/></hostdev>"
    );
    let text = guest("", &hostdev);
    let began = Instant::now();
    target("definition").expect("a fuzz target")(text.as_bytes());
    assert!(began.elapsed() < LIMIT, "it takes {:?}", began.elapsed());
}

/// libvirt's Rust bindings abort the process at one (RUSTSEC-2025-0126).
#[test]
fn a_null_character_is_refused_however_it_is_written() {
    let whole = guest("<title>a</title>", "");
    for null in ["\0", "&#0;", "&#x0;", "&#00;"] {
        let title = guest(&format!("<title>{null}</title>"), "");
        assert!(refused(&title).contains("VD-XML-001"), "{null:?} in a text");
        let machine = whole.replacen("machine='", &format!("machine='{null}"), 1);
        assert_ne!(machine, whole);
        assert!(
            refused(&machine).contains("VD-XML-001"),
            "{null:?} in a value"
        );
    }
}

#[test]
fn entities_and_document_types_are_refused() {
    let laughs = "<!DOCTYPE domain [<!ENTITY a 'ha'><!ENTITY b '&a;&a;&a;&a;'>]>".to_owned()
        + &guest("<title>&b;</title>", "");
    assert!(refused(&laughs).contains("VD-XML-002"), "a document type");
    assert!(
        refused(&guest("<title>&b;</title>", "")).contains("VD-XML-001"),
        "an entity"
    );
}
