//! Documents as the controller sends them: parsed, stamped with version and kind, shown as rows; never changed otherwise.

use proto_model::document::API_VERSION;
use proto_model::time::Timestamp;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::failure::Failure;

/// A document that people see as a row of a table.
pub trait Shown: DeserializeOwned {
    const KIND: &'static str;
    /// As in "no hosts".
    const PLURAL: &'static str;
    fn name(&self) -> String;
    fn header(wide: bool) -> &'static [&'static str];
    fn row(&self, wide: bool, now: Timestamp) -> Vec<String>;
}

/// The document as JSON, with `apiVersion` and `kind` even where the controller left them out.
pub fn value(kind: &str, text: &str) -> Result<Value, Failure> {
    let mut value: Value = serde_json::from_str(text).map_err(|error| unreadable(kind, &error))?;
    if let Some(map) = value.as_object_mut()
        && !map.contains_key("apiVersion")
    {
        map.insert("apiVersion".to_owned(), json!(API_VERSION));
        map.entry("kind").or_insert_with(|| json!(kind));
    }
    Ok(value)
}

/// `{apiVersion, kind: "RunList", items}`
pub fn list(kind: &str, items: Vec<Value>) -> Value {
    json!({ "apiVersion": API_VERSION, "kind": format!("{kind}List"), "items": items })
}

pub fn read<T: DeserializeOwned>(kind: &str, value: &Value) -> Result<T, Failure> {
    T::deserialize(value).map_err(|error| unreadable(kind, &error))
}

pub fn read_all<T: Shown>(values: &[Value]) -> Result<Vec<T>, Failure> {
    values.iter().map(|value| read(T::KIND, value)).collect()
}

fn unreadable(kind: &str, error: &serde_json::Error) -> Failure {
    Failure::local(format!("cannot read the {kind} document that the controller sent: {error}"))
        .hint("this program may be older than the controller; -o json prints what was sent")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_is_stamped_once() {
        assert_eq!(
            value("Host", r#"{"name":"web"}"#).unwrap(),
            json!({"apiVersion":"fracas/v1","kind":"Host","name":"web"})
        );
        let stamped = r#"{"apiVersion":"fracas/v2","kind":"Machine"}"#;
        assert_eq!(value("Host", stamped).unwrap()["kind"], "Machine");
        assert!(value("Host", "{").is_err());
    }

    #[test]
    fn lists_have_their_published_shape() {
        assert_eq!(
            list("Run", vec![]).to_string(),
            r#"{"apiVersion":"fracas/v1","items":[],"kind":"RunList"}"#
        );
    }
}
