//! `fracas attack`: one fault, some hosts, a duration; it never means a host that no selector names.

use clap::Args;
use proto_model::catalogue::nearest;
use proto_model::quantity::Millis;
use proto_probes::{AskedBy, Description};
use proto_wire::v1::plan_request::Wish;
use proto_wire::v1::{AttackWish, FaultsListRequest, PlanRequest};

use crate::client::{ASK, Client};
use crate::console::Console;
use crate::failure::Failure;
use crate::globals::{Globals, HELP};
use crate::pairs::{self, Pair};
use crate::start::{self, How, Start};
use crate::values;
use crate::verbs::faults::fault::Fault;

const EXAMPLES: &str = "\
Examples:
  fracas attack cpu.burn percent=60 --on role=web --pick 1 --for 20s
  fracas attack network.partition to=role=cache ports=6379 --on role=web --for 30s
  fracas attack process.pause unit=redis.service --on cache-1 --for 20s --probe 'http=http://web:8080/,within=300ms'
  fracas attack cpu.burn --on 'role in (web,api)' --pick 50% --for 5m --dry-run";

/// Inject one fault into some hosts for a while, and undo it
#[derive(Debug, Args)]
#[command(before_help = EXAMPLES, help_template = HELP)]
pub struct Attack {
    /// The fault, family.action; see `fracas faults`
    fault: String,
    /// Parameters, key=value; repeat a key for a list; see `fracas faults explain FAULT`
    #[arg(value_name = "KEY=VALUE")]
    params: Vec<Pair>,
    /// The hosts: "all", a name, or terms joined by commas (AND); repeated: OR
    #[arg(long, required = true, value_name = "SELECTOR", value_parser = values::selector)]
    on: Vec<String>,
    /// Only so many of them, a count or a percent, chosen by the seed
    #[arg(long, value_name = "N|P%", value_parser = values::pick)]
    pick: Option<String>,
    /// Makes the choice repeatable
    #[arg(long)]
    seed: Option<u64>,
    /// How long, with its unit: 30s, 5m
    #[arg(long = "for", value_name = "DURATION", value_parser = values::duration)]
    duration: Option<Millis>,
    /// Only hosts of this environment
    #[arg(long, value_name = "ENV")]
    env: Option<String>,
    /// What must hold meanwhile
    #[arg(long, value_name = "PROBE", help = probe_help(), long_help = probe_long_help())]
    probe: Vec<String>,
    /// Plan and ask each host; change nothing
    #[arg(long, conflicts_with_all = ["report", "junit"])]
    dry_run: bool,
    #[command(flatten)]
    how: How,
}

impl Attack {
    pub async fn run(self, globals: &Globals, console: &mut Console) -> Result<u8, Failure> {
        let name = format!("attack {}", self.fault);
        let outcome = match self.how.reports.begin(&name) {
            Ok(()) => self.started(&name, globals, console).await,
            Err(failure) => Err(failure),
        };
        self.how.reports.seen(console, &name, outcome)
    }

    async fn started(&self, name: &str, globals: &Globals, console: &mut Console) -> Result<u8, Failure> {
        let request = PlanRequest {
            wish: Some(Wish::Attack(self.wish()?)),
            ..PlanRequest::default()
        };
        let client = Client::connect(globals).await?;
        let result = if self.dry_run {
            let planned = start::plan(&client, request, None).await;
            planned.and_then(|(value, view)| start::print_plan(console, &value, &view))
        } else {
            let start = Start {
                client: &client,
                request,
                name,
                file: None,
                how: &self.how,
            };
            start.go(console).await
        };
        match result {
            Err(failure) if failure.error.code == "unknown_fault" => Err(suggest(&client, &self.fault, failure).await),
            other => other,
        }
    }

    fn wish(&self) -> Result<AttackWish, Failure> {
        Ok(AttackWish {
            fault: self.fault.clone(),
            params_json: pairs::to_json(&self.params)?.to_string(),
            on: self.on.clone(),
            pick: self.pick.clone().unwrap_or_default(),
            seed: self.seed,
            duration_ms: self.duration.map_or(0, |duration| duration.0),
            environment: self.env.clone().unwrap_or_default(),
            probes: self.probe.clone(),
        })
    }
}

/// The kinds of probe that the controller asks, in their own words.
fn asked_from_here() -> impl Iterator<Item = Description> {
    proto_probes::descriptions()
        .into_iter()
        .filter(|kind| kind.asked_by == AskedBy::Anyone)
}

fn probe_help() -> String {
    let kinds: Vec<&str> = asked_from_here().map(|kind| kind.kind).collect();
    format!(
        "What must hold meanwhile, such as http=URL,within=300ms; kinds: {}",
        kinds.join(", ")
    )
}

fn probe_long_help() -> String {
    let kinds = asked_from_here().map(|kind| format!("  {}\n      good when {}\n", proto_probes::usage(&kind), kind.summary));
    format!(
        "What must hold before, during and after; repeated: all of them. [ ] may be left out.\n\n{}",
        kinds.collect::<String>()
    )
}

/// Adds the fault that was probably meant, by name or by one of the field's other names.
async fn suggest(client: &Client, typed: &str, failure: Failure) -> Failure {
    if failure.error.message.contains("did you mean") {
        return failure;
    }
    let Ok(list) = client
        .call("list the faults", ASK, client.faults().list(FaultsListRequest {}))
        .await
    else {
        return failure;
    };
    let faults: Vec<Fault> = list.items.iter().filter_map(|item| Fault::read(item).ok()).collect();
    let alias = faults
        .iter()
        .find(|fault| fault.aliases.iter().any(|alias| alias.eq_ignore_ascii_case(typed)));
    let near = alias
        .map(|fault| fault.fault.as_str())
        .or_else(|| nearest(typed, faults.iter().map(|fault| fault.fault.as_str())));
    match near {
        Some(near) => failure.hint(format!("did you mean {near}?")),
        None => failure.hint("see `fracas faults`"),
    }
}
