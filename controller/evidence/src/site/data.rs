//! The site as data: every run that it shows, with its verdict, and every level with its lines.

use proto_model::document::API_VERSION;
use proto_model::finished::FinishedRun;
use serde_json::{Value, json};

use super::shown::{Site, run_path};

pub(super) fn history(site: &Site<'_>) -> String {
    let services = site.services.iter().map(|shown| {
        let runs: Vec<Value> = site.past(&shown.service).iter().map(|past| run(past.known)).collect();
        json!({ "service": shown.service, "applied_at": shown.applied_at, "levels": site.levels(&shown.service), "runs": runs })
    });
    let document = json!({ "apiVersion": API_VERSION, "kind": "History", "as_of": site.as_of, "services": services.collect::<Vec<_>>() });
    format!("{document:#}\n")
}

fn run(known: &FinishedRun) -> Value {
    json!({ "page": run_path(&known.summary.id), "run": known.summary, "worth": known.worth })
}
