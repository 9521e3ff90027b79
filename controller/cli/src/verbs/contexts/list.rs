//! `fracas contexts list`: every context, the chosen one marked.

use clap::Args;
use proto_model::document::API_VERSION;
use proto_model::exit;
use proto_model::time::Timestamp;
use serde::Deserialize;
use serde_json::json;

use super::file::File;
use crate::config::LOCAL;
use crate::console::Console;
use crate::context::Context;
use crate::documents::Shown;
use crate::failure::Failure;
use crate::globals::{Globals, HELP};

const EXAMPLES: &str = "\
Examples:
  fracas contexts list
  fracas contexts list -o name";

/// List contexts; the chosen one is marked
#[derive(Debug, Args)]
#[command(before_help = EXAMPLES, help_template = HELP)]
pub struct List {}

/// The JSON document `Context`.
#[derive(Deserialize)]
struct Row {
    name: String,
    server: String,
    current: bool,
    identity: String,
}

impl List {
    pub fn run(self, file: &File, globals: &Globals, console: &mut Console) -> Result<u8, Failure> {
        let chosen = Context::resolve(globals)?;
        let local = Context::resolve(&Globals {
            context: Some(LOCAL.to_owned()),
            ..globals.clone()
        })?;
        let document = |name: &str, server: &str, identity: &str| {
            let current = name == chosen.name;
            let kind = Row::KIND;
            json!({"apiVersion": API_VERSION, "kind": kind, "name": name, "server": server, "current": current, "identity": identity})
        };
        let mut items = vec![document(LOCAL, &local.address(), "user").to_string()];
        for remote in &file.config.contexts {
            let identity = match (&remote.token_file, &remote.certificate_file) {
                (Some(_), _) => "token",
                (None, Some(_)) => "certificate",
                (None, None) => "none",
            };
            items.push(document(&remote.name, &remote.server, identity).to_string());
        }
        console.list::<Row>(&items)?;
        Ok(exit::OK)
    }
}

impl Shown for Row {
    const KIND: &'static str = "Context";
    const PLURAL: &'static str = "contexts";

    fn name(&self) -> String {
        self.name.clone()
    }

    fn header(_: bool) -> &'static [&'static str] {
        &["NAME", "CURRENT", "SERVER", "IDENTITY"]
    }

    fn row(&self, _: bool, _: Timestamp) -> Vec<String> {
        let mark = if self.current { "*" } else { "" };
        vec![self.name.clone(), mark.to_owned(), self.server.clone(), self.identity.clone()]
    }
}
