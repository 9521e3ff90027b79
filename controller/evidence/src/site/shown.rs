//! What the site shows: declared services, their judged runs, and the moment that ages are counted to. It draws nothing.

use std::collections::BTreeMap;

use controller_report::html::Link;
use proto_model::evidence::{Levels, Publication};
use proto_model::finished::FinishedRun;
use proto_model::id::RunId;
use proto_model::service::Service;
use proto_model::time::Timestamp;

use crate::known::Evidence;
use crate::levels::weigh;
use crate::past::{Past, of_service};

/// A service with the time its file was applied.
#[derive(Debug, Clone, PartialEq)]
pub struct Shown {
    pub service: Service,
    pub applied_at: Timestamp,
}

/// What is published: declared services and their judged runs.
pub struct Site<'a> {
    pub(super) services: &'a [Shown],
    pub(super) runs: &'a [FinishedRun],
    others: usize,
    /// The last thing in the log: everything on the pages is as of then.
    pub(super) as_of: Timestamp,
}

impl<'a> Site<'a> {
    /// `others` is how many judged runs, of none of these services, are not among `runs`.
    pub fn of(services: &'a [Shown], runs: &'a [FinishedRun], others: usize) -> Self {
        let applied = services.iter().map(|shown| shown.applied_at);
        let named = |run: &&FinishedRun| {
            services
                .iter()
                .any(|shown| run.summary.service.as_deref() == Some(&shown.service.name))
        };
        let finished = runs.iter().filter(named).filter_map(|run| run.summary.finished_at);
        Self {
            services,
            runs,
            others,
            as_of: applied.chain(finished).max().unwrap_or(Timestamp(0)),
        }
    }

    /// The runs that have a page, with its path and the way back from it.
    pub fn run_pages(&self) -> Vec<(&'a RunId, String, Link)> {
        let runs = self.services.iter().flat_map(|shown| self.past(&shown.service));
        let page = |past: Past<'a>| {
            let service = past.run.service.as_deref().unwrap_or_default();
            let up = Link {
                text: service.to_owned(),
                href: format!("../services/{}", file_name(service)),
            };
            (&past.run.id, run_path(&past.run.id), up)
        };
        runs.map(page).collect()
    }

    /// Decided runs of each service that the site shows.
    pub fn points(&self) -> BTreeMap<String, u32> {
        let count = |shown: &Shown| {
            let decided = self.past(&shown.service).iter().filter(|past| past.known.decided()).count();
            (shown.service.name.clone(), u32::try_from(decided).unwrap_or(u32::MAX))
        };
        self.services.iter().map(count).filter(|(_, points)| *points > 0).collect()
    }

    pub(super) fn past(&self, service: &Service) -> Vec<Past<'a>> {
        of_service(&service.name, self.runs, self.as_of)
    }

    pub(super) fn levels(&self, service: &Service) -> Levels {
        let this = Publication {
            at: self.as_of,
            by: "fracas".to_owned(),
            place: "this page".to_owned(),
            digest: String::new(),
            points: self.points(),
        };
        weigh(&Evidence {
            service,
            runs: self.runs,
            publications: std::slice::from_ref(&this),
            now: self.as_of,
        })
    }

    /// Judged runs that no declared service owns: they have no page, and the index says how many.
    pub(super) fn unowned(&self) -> usize {
        let owned: usize = self.services.iter().map(|shown| self.past(&shown.service).len()).sum();
        self.others + self.runs.iter().filter(|run| run.summary.verdict.is_some()).count() - owned
    }
}

pub(super) fn run_path(run: &RunId) -> String {
    format!("runs/{run}.html")
}

/// A service's page: its name with everything that could mean something to a file system or an address written out.
pub fn file_name(service: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    let mut name = String::new();
    for c in service.chars() {
        if plain(c) {
            name.push(c);
        } else {
            name.push_str(&format!("~{:x}~", u32::from(c)));
        }
    }
    name + ".html"
}
