//! Serialises types of this crate as JSON.

use serde::Serialize;
use serde_json::Value;

/// The JSON text of a value that consists of numbers, strings and lists with string keys, which cannot fail.
pub fn text(value: &(impl Serialize + ?Sized)) -> String {
    serde_json::to_string(value).expect("numbers, texts and lists, with texts as keys")
}

/// The same as a JSON value.
pub fn value(value: &impl Serialize) -> Value {
    serde_json::to_value(value).expect("numbers, texts and lists, with texts as keys")
}
