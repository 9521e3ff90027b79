//! A service's runs of one month: a page and a file of data, which stay as they are once the month is over and nothing of it changes.

use controller_report::html::{Link, Page, Section};
use proto_model::document::API_VERSION;
use proto_model::history::ListedRun;
use proto_model::id::sha256_text;
use proto_model::time::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::maker::maker;
use super::pages::history_sections;
use super::paths::{file_name, folder_name, month_path, run_path};
use super::shown::MonthLine;
use crate::past::Past;

/// The month's files, by path, and its line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Month {
    pub line: MonthLine,
    pub data: String,
    service: String,
}

/// The month of a moment, in UTC, such as 2026-11.
pub fn month_of(at: Timestamp) -> String {
    at.to_string().chars().take(7).collect()
}

/// Of a service's runs in this month, the newest first.
pub fn month(service: &str, month: &str, runs: &[ListedRun]) -> Month {
    let listed: Vec<Value> = runs.iter().map(run).collect();
    let document = json!({ "apiVersion": API_VERSION, "kind": "HistoryMonth", "service": service, "month": month, "runs": listed });
    let data = format!("{document:#}\n");
    let line = MonthLine {
        month: month.to_owned(),
        runs: runs.len(),
        path: format!("history/{}/{month}.json", folder_name(service)),
        digest: sha256_text(data.as_bytes()),
    };
    Month {
        line,
        data,
        service: service.to_owned(),
    }
}

fn run(listed: &ListedRun) -> Value {
    let known = &listed.known;
    json!({ "page": run_path(&known.summary.id), "events": listed.events, "run": known.summary, "worth": known.worth })
}

/// A month's line with what made it.
#[derive(Serialize, Deserialize)]
struct Kept {
    maker: String,
    line: MonthLine,
}

impl MonthLine {
    /// To be kept for as long as no run of the month changes.
    pub fn keep(&self) -> String {
        let line = self.clone();
        serde_json::to_string(&Kept { maker: maker(), line }).unwrap_or_default()
    }

    /// What was kept, if this version would make the same.
    pub fn kept(text: &str) -> Option<Self> {
        let kept: Kept = serde_json::from_str(text).ok()?;
        (kept.maker == maker()).then_some(kept.line)
    }
}

impl Month {
    /// The page and its path.
    pub fn page(&self, runs: &[ListedRun]) -> (String, String) {
        let past: Vec<Past<'_>> = runs.iter().filter_map(|listed| Past::of(&listed.known)).collect();
        let up = Link {
            text: self.service.clone(),
            href: format!("../../services/{}", file_name(&self.service)),
        };
        let page = Page {
            title: format!("{}: {}", self.service, self.line.month),
            up: Some(up),
            sections: history_sections(&past, "../..", usize::MAX, Section::default()),
            ..Page::default()
        };
        (month_path(&self.service, &self.line.month), page.html())
    }
}
