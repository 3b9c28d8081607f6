//! The log of the real agent with names that other users chose.

use hooks::agent::Reply;

use crate::scene::{GUEST, Scene};

#[test]
fn control_characters_of_a_guests_name_do_not_reach_the_log() {
    let scene = Scene::new();
    let mut agent = scene.start();
    agent.says("serves");
    let xml = GUEST.replace(
        "<name>d0</name>",
        "<name>d\u{9b}31m&#10;ERROR forged</name>",
    );
    assert_eq!(
        scene.asks_about("started", &xml),
        Reply::Done(String::new())
    );
    let line = agent.says("guest ");
    assert!(line.contains(r"'d\u{9b}31m\u{a}ERROR forged"), "{line}");
}
