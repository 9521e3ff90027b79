//! A kind of fault as the controller tells of it, and the list of all of them.

use proto_model::catalogue::{DurationRule, ExampleDescription, FaultKind};
use proto_model::injection::Reversal;
use proto_model::time::Timestamp;
use proto_wire::v1::FaultsListRequest;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::client::{ASK, Client};
use crate::documents::{self, Shown};
use crate::failure::Failure;

/// A kind of fault with the number of hosts that offer it.
#[derive(Debug, Clone, Deserialize)]
pub struct Fault {
    pub fault: FaultKind,
    pub summary: String,
    #[serde(default)]
    pub aliases: Vec<String>,
    pub reversal: Reversal,
    pub duration: DurationRule,
    #[serde(default)]
    pub params: Value,
    #[serde(default)]
    pub examples: Vec<ExampleDescription>,
    #[serde(default)]
    pub measured_by: String,
    #[serde(default)]
    pub undone_by: String,
    #[serde(default)]
    pub hosts: u32,
}

impl Fault {
    pub fn read(text: &str) -> Result<Self, Failure> {
        documents::read("Fault", &named(text)?)
    }

    /// Whether a word is its name, one of its other names, or in either or in its summary.
    pub fn speaks_of(&self, word: &str) -> bool {
        let word = word.to_lowercase();
        let texts = self.aliases.iter().chain([&self.summary]).map(|text| text.to_lowercase());
        texts.chain([self.fault.to_string()]).any(|text| text.contains(&word))
    }
}

/// The document with its kind of fault under `fault`, where `kind` holds the fault's own name.
fn named(text: &str) -> Result<Value, Failure> {
    let mut value = documents::value("Fault", text)?;
    if let Some(map) = value.as_object_mut()
        && map.get("kind").is_some_and(|kind| kind != "Fault")
        && let Some(name) = map.insert("kind".to_owned(), json!("Fault"))
    {
        map.entry("fault").or_insert(name);
    }
    Ok(value)
}

impl Shown for Fault {
    const KIND: &'static str = "Fault";
    const PLURAL: &'static str = "faults";

    fn name(&self) -> String {
        self.fault.to_string()
    }

    fn header(wide: bool) -> &'static [&'static str] {
        if wide {
            &["NAME", "UNDO", "HOSTS", "ALSO", "SUMMARY"]
        } else {
            &["NAME", "UNDO", "HOSTS", "SUMMARY"]
        }
    }

    fn row(&self, wide: bool, _: Timestamp) -> Vec<String> {
        let undo = match self.reversal {
            Reversal::Full => "full",
            Reversal::Irreversible { .. } => "IRREVERSIBLE",
        };
        let mut row = vec![self.name(), undo.to_owned(), self.hosts.to_string()];
        if wide {
            row.push(self.aliases.join(", "));
        }
        row.push(self.summary.clone());
        row
    }
}

/// Every fault some host offers, as documents.
pub async fn catalogue(client: &Client) -> Result<Vec<Value>, Failure> {
    let documents = client
        .call("list the faults", ASK, client.faults().list(FaultsListRequest {}))
        .await?;
    documents.items.iter().map(|text| named(text)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_is_read_whichever_key_names_it() {
        let rest = r#""summary":"","reversal":{"kind":"full"},"duration":"required""#;
        for text in [
            format!(r#"{{"apiVersion":"fracas/v1","kind":"Fault","kind":"cpu.burn",{rest}}}"#),
            format!(r#"{{"apiVersion":"fracas/v1","kind":"Fault","fault":"cpu.burn",{rest}}}"#),
            format!(r#"{{"kind":"cpu.burn",{rest}}}"#),
        ] {
            assert_eq!(Fault::read(&text).unwrap().fault.as_str(), "cpu.burn", "{text}");
            assert_eq!(named(&text).unwrap()["kind"], "Fault");
        }
    }
}
