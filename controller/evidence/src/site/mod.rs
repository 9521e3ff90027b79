//! The published site as files: a function of services and runs alone, so that the same log gives the same bytes.
//!
//! Ages are counted to the last thing in the log and never to a clock. A page that is read is published: its own delivery is
//! the one that its levels count, and no earlier one changes what it says.

mod data;
mod feed;
mod metrics;
mod pages;

use std::collections::BTreeMap;

use controller_report::html::Link;
use proto_model::document::RunDocument;
use proto_model::evidence::{Levels, Publication};
use proto_model::id::{RunId, sha256_text};
use proto_model::service::Service;
use proto_model::time::Timestamp;

use crate::levels::{Evidence, weigh};
use crate::past::{Past, of_service};

/// The file by which a folder is known to hold a site of ours.
pub const MARKER: &str = ".fracas-site";
const MARKER_TEXT: &str = "written by fracas publish; it is replaced as a whole\n";

/// A service with the time its file was applied.
#[derive(Debug, Clone, PartialEq)]
pub struct Shown {
    pub service: Service,
    pub applied_at: Timestamp,
}

/// What is published: declared services and their judged runs.
pub struct Site<'a> {
    services: &'a [Shown],
    runs: &'a [RunDocument],
    others: usize,
    /// The last thing in the log: everything on the pages is as of then.
    as_of: Timestamp,
}

impl<'a> Site<'a> {
    /// `others` is how many judged runs, of none of these services, are not among `runs`.
    pub fn of(services: &'a [Shown], runs: &'a [RunDocument], others: usize) -> Self {
        let applied = services.iter().map(|shown| shown.applied_at);
        let named = |run: &&RunDocument| services.iter().any(|shown| run.service.as_deref() == Some(&shown.service.name));
        let finished = runs.iter().filter(named).filter_map(|run| run.finished_at);
        Self {
            services,
            runs,
            others,
            as_of: applied.chain(finished).max().unwrap_or(Timestamp(0)),
        }
    }

    /// Every file but the runs' own pages, by path.
    pub fn files(&self) -> BTreeMap<String, String> {
        let mut files = BTreeMap::from([
            (MARKER.to_owned(), MARKER_TEXT.to_owned()),
            ("index.html".to_owned(), pages::index(self)),
            ("history.json".to_owned(), data::history(self)),
            ("feed.xml".to_owned(), feed::feed(self)),
            ("metrics.prom".to_owned(), metrics::metrics(self)),
        ]);
        for shown in self.services {
            let path = format!("services/{}", file_name(&shown.service.name));
            files.insert(path, pages::service(self, &shown.service));
        }
        files
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
            let decided = self.past(&shown.service).iter().filter(|past| past.decided()).count();
            (shown.service.name.clone(), u32::try_from(decided).unwrap_or(u32::MAX))
        };
        self.services.iter().map(count).filter(|(_, points)| *points > 0).collect()
    }

    /// What tells one state of the site from another: over `history.json`, which holds every fact of it.
    pub fn digest(&self) -> String {
        sha256_text(data::history(self).as_bytes())
    }

    fn past(&self, service: &Service) -> Vec<Past<'a>> {
        of_service(&service.name, self.runs, self.as_of)
    }

    fn levels(&self, service: &Service) -> Levels {
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
    fn unowned(&self) -> usize {
        let owned: usize = self.services.iter().map(|shown| self.past(&shown.service).len()).sum();
        self.others + self.runs.iter().filter(|run| run.verdict.is_some()).count() - owned
    }
}

fn run_path(run: &RunId) -> String {
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
