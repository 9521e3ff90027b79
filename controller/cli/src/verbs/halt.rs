//! `fracas halt`: stops everything everywhere; 0 only when every connected host has answered.

use clap::Args;
use proto_model::document::API_VERSION;
use proto_model::exit;
use proto_telling::stretch;
use proto_wire::v1::{HaltReply, HaltRequest};
use serde_json::{Value, json};

use crate::client::{Client, DEED};
use crate::console::Console;
use crate::failure::Failure;
use crate::globals::{Globals, HELP};
use crate::start::announce;

const EXAMPLES: &str = "\
Examples:
  fracas halt
  fracas halt --reason 'checkout is down'
  fracas release --reason 'checkout is back'";

/// Stop everything everywhere, undo it, and refuse new starts until released
#[derive(Debug, Args)]
#[command(before_help = EXAMPLES, help_template = HELP)]
pub struct Halt {
    /// Why, shown to everybody whose start is refused [default: by USER]
    #[arg(long)]
    reason: Option<String>,
}

impl Halt {
    pub async fn run(self, globals: &Globals, console: &mut Console) -> Result<u8, Failure> {
        let client = Client::connect(globals).await?;
        announce(console, &client, "every environment");
        let request = HaltRequest {
            reason: self.reason.unwrap_or_default(),
        };
        let reply = client.call("halt", DEED, client.emergency().halt(request)).await?;
        print(console, &reply)?;
        let all = reply.silent.is_empty() && reply.hosts_answered >= reply.hosts_told;
        if !all {
            console.note("a silent host undoes everything by itself when its lease is over; ask for its proof with `fracas hosts verify`");
        }
        Ok(if all { exit::OK } else { exit::ERROR })
    }
}

/// The answer to a halt or a release.
pub fn print(console: &mut Console, reply: &HaltReply) -> Result<(), Failure> {
    let document = document(reply);
    console.document(&document, if reply.engaged { "halted" } else { "released" }, |console| {
        console.lines(lines(reply));
        Ok(())
    })
}

fn document(reply: &HaltReply) -> Value {
    json!({"apiVersion": API_VERSION, "kind": "Halt", "engaged": reply.engaged, "epoch": reply.epoch, "hosts_told": reply.hosts_told,
        "hosts_answered": reply.hosts_answered, "silent": reply.silent, "undone": reply.undone, "took_ms": reply.took_ms})
}

fn lines(reply: &HaltReply) -> Vec<String> {
    let state = if reply.engaged {
        "engaged: nothing starts until `fracas release --reason ...`"
    } else {
        "released"
    };
    let mut lines = vec![
        format!("halt      {state} (epoch {})", reply.epoch),
        format!(
            "hosts     {} told, {} answered in {}",
            reply.hosts_told,
            reply.hosts_answered,
            stretch(reply.took_ms)
        ),
    ];
    if reply.engaged {
        lines.push(format!("undone    {}", reply.undone));
    }
    lines.extend(reply.silent.iter().map(|host| format!("silent    {host}")));
    lines
}
