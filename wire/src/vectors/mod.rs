//! The golden vectors in `spec/vectors`: what is written there is what this crate writes and reads.
//!
//! `UPDATE_VECTORS=1 cargo test -p wire vectors` writes them anew; a difference is a change of the protocol.

mod links;
mod messages;
mod sessions;

use std::path::PathBuf;
use std::string::String;
use std::vec::Vec;
use std::{format, fs};

use serde_json::Value;

/// One vector: named values in the order they are written.
type Vector = Vec<(&'static str, Value)>;

/// Holds the file of this name to `vectors`, and returns what stands in it.
fn golden(name: &str, about: &str, vectors: &[Vector]) -> Vec<Value> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../spec/vectors").join(name);
    let lines: Vec<String> = vectors.iter().map(line).collect();
    let about = Value::from(about);
    let expected = format!("{{\n\"about\": {about},\n\"vectors\": [\n{}\n]\n}}\n", lines.join(",\n"));
    if std::env::var_os("UPDATE_VECTORS").is_some() {
        fs::write(&path, &expected).unwrap();
    }
    let found = fs::read_to_string(&path).unwrap();
    for (found, expected) in found.lines().zip(expected.lines()) {
        assert_eq!(found, expected, "{name}");
    }
    assert_eq!(found.len(), expected.len(), "{name}");
    let mut document: Value = serde_json::from_str(&found).unwrap();
    serde_json::from_value(document["vectors"].take()).unwrap()
}

fn line(vector: &Vector) -> String {
    let fields: Vec<_> = vector.iter().map(|(name, value)| format!("\"{name}\": {value}")).collect();
    format!("{{{}}}", fields.join(", "))
}

/// A number that every JSON reader holds exactly; larger ones as hex text.
fn number(value: u64) -> Value {
    if value < 1 << 53 { Value::from(value) } else { Value::from(format!("0x{value:016x}")) }
}

fn hex(bytes: &[u8]) -> Value {
    Value::from(bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>())
}

fn unhex(value: &Value) -> Vec<u8> {
    let text = value.as_str().unwrap();
    assert!(text.len().is_multiple_of(2));
    let byte = |at| u8::from_str_radix(&text[at..at + 2], 16).unwrap();
    (0..text.len()).step_by(2).map(byte).collect()
}
