//! `fracas operators create`: makes a person's token; its secret is shown this once, or goes to a file that only you can read.

use std::path::{Path, PathBuf};

use clap::Args;
use proto_model::document::OperatorDocument;
use proto_model::exit;
use proto_model::quantity::Millis;
use proto_model::role::Role;
use proto_transport::{NewFile, create_private};
use proto_wire::v1::OperatorCreateRequest;

use crate::age::{ago, now};
use crate::client::{ASK, Client};
use crate::console::Console;
use crate::documents;
use crate::failure::Failure;
use crate::globals::HELP;
use crate::values;

const EXAMPLES: &str = "\
Examples:
  fracas operators create ann --role operator --ttl 30d
  fracas operators create pipeline@ci --role operator --ttl 7d --token-file ci.token";

/// Create an operator's token
#[derive(Debug, Args)]
#[command(before_help = EXAMPLES, help_template = HELP)]
pub struct Create {
    /// Whom it makes its bearer
    name: String,
    /// viewer, operator, approver or administrator
    #[arg(long, value_name = "ROLE", value_parser = Role::parse)]
    role: Role,
    /// How long it is good; at most 90d
    #[arg(long, default_value = "30d", value_name = "DURATION", value_parser = values::days)]
    ttl: Millis,
    /// Write the token to this new file (mode 0600) instead of printing it
    #[arg(long, value_name = "PATH")]
    token_file: Option<PathBuf>,
}

impl Create {
    pub async fn run(self, client: &Client, console: &mut Console) -> Result<u8, Failure> {
        // Before the token exists: one that cannot be kept is of no use.
        let file = self.token_file.as_deref().map(private).transpose()?;
        let request = OperatorCreateRequest {
            name: self.name,
            role: self.role.to_string(),
            ttl_ms: self.ttl.0,
        };
        let made = client.call("create the token", ASK, client.operators().create(request)).await;
        let reply = made.inspect_err(|_| discard(self.token_file.as_deref()))?;
        let mut value = documents::value("Operator", &reply.document_json)?;
        let operator: OperatorDocument = documents::read("Operator", &value)?;
        match (file, &self.token_file) {
            (Some(file), Some(path)) => {
                let written = file.fill(format!("{}\n", reply.token).as_bytes());
                written.map_err(|error| Failure::local(format!("cannot write {}: {error}; revoke {}", path.display(), operator.id)))?;
            }
            _ => value["token"] = reply.token.clone().into(),
        }
        console.document(&value, &operator.id, |console| {
            console.note(&told(&operator, self.token_file.as_deref()));
            if self.token_file.is_none() {
                console.line(&reply.token);
            }
            Ok(())
        })?;
        Ok(exit::OK)
    }
}

fn told(operator: &OperatorDocument, file: Option<&Path>) -> String {
    let (id, name, role, left) = (&operator.id, &operator.name, operator.role, ago(now(), operator.expires_at));
    match file {
        Some(path) => format!("token     {id} for {name} ({role}), good for {left}; written to {}", path.display()),
        None => format!("token     {id} for {name} ({role}), good for {left}; its secret is shown only now"),
    }
}

fn private(path: &Path) -> Result<NewFile, Failure> {
    create_private(path).map_err(|error| Failure::local(format!("cannot make {}: {error}", path.display())))
}

fn discard(path: Option<&Path>) {
    if let Some(path) = path {
        // It is empty, and ours.
        let _ = std::fs::remove_file(path);
    }
}
