//! Mappings whose keys the reader does not know: that each key stands there once, at any depth.

use controller_reader::{Located, Node, Reader, child, place};
use proto_model::problem::Problem;

/// Keys written twice, at any depth.
pub(super) fn once(reader: &mut Reader, path: &str, at: &Located) {
    match &at.value {
        Node::Map(entries) => {
            for (i, (key, value)) in entries.iter().enumerate() {
                let here = child(path, &key.value);
                if entries[..i].iter().any(|(other, _)| other.value == key.value) {
                    let (line, column) = place(key);
                    reader.push(Problem::new(&here, format!("key {:?} is written twice", key.value)).at(line, column));
                }
                once(reader, &here, value);
            }
        }
        Node::List(items) => {
            for (i, item) in items.iter().enumerate() {
                once(reader, &format!("{path}[{i}]"), item);
            }
        }
        _ => {}
    }
}
