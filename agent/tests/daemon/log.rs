//! What the real agent writes to its log of names that others chose.

use std::collections::HashMap;

use zbus::{Variant, connection};

use crate::scene::{GUEST, Scene};

#[tokio::test]
async fn control_characters_of_a_guests_name_do_not_reach_the_log() {
    let scene = Scene::new();
    let mut agent = scene.start();
    agent.says("serves");
    let bus = connection::Builder::address(scene.bus.address()).build();
    let bus = bus.await.expect("bus");
    let hook = "org.variantd1.Hook";
    let xml = GUEST.replace(
        "<name>d0</name>",
        "<name>d\u{9b}31m&#10;ERROR forged</name>",
    );
    let body = (xml, HashMap::<&str, Variant<'_>>::new());
    let started = bus.call_method(
        Some(hook),
        "/org/variantd1/Hook",
        Some(hook),
        "Started",
        &body,
    );
    started.await.expect("an answer");
    let line = agent.says("guest ");
    assert!(line.contains(r"'d\u{9b}31m\u{a}ERROR forged"), "{line}");
}
