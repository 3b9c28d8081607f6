//! JSON of our own types.

use serde::Serialize;

/// The text of a value of ours: of numbers, texts and lists, with texts as keys, which all can be written.
pub fn text(value: &(impl Serialize + ?Sized)) -> String {
    serde_json::to_string(value).expect("numbers, texts and lists, with texts as keys")
}
