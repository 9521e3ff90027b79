//! What the site shows: declared services, their judged runs, and the moment that ages are counted to. It draws nothing.

use std::collections::BTreeMap;

use proto_model::evidence::{Levels, Publication};
use proto_model::finished::FinishedRun;
use proto_model::history::Tally;
use proto_model::service::Service;
use proto_model::time::Timestamp;
use serde::{Deserialize, Serialize};

use crate::known::Evidence;
use crate::levels::weigh;
use crate::past::{Past, of_service};

/// A service with the time its file was applied.
#[derive(Debug, Clone, PartialEq)]
pub struct Shown {
    pub service: Service,
    pub applied_at: Timestamp,
}

/// What `history.json` says of a service's month.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MonthLine {
    pub month: String,
    pub runs: usize,
    /// Where its data is.
    pub path: String,
    /// Over that file.
    pub digest: String,
}

/// What the pages say of a service, without every one of its runs.
#[derive(Debug, Clone, Default)]
pub struct View {
    /// What its level is computed from, its newest runs in each environment, and the decided ones that coverage is of.
    pub runs: Vec<FinishedRun>,
    /// All of its runs, counted.
    pub tally: Vec<Tally>,
    /// Where all of its runs are listed, the newest first.
    pub months: Vec<MonthLine>,
}

/// What is published: declared services and their judged runs.
pub struct Site<'a> {
    pub(super) services: &'a [Shown],
    views: BTreeMap<&'a str, &'a View>,
    others: u64,
    /// The last thing in the log: everything on the pages is as of then.
    pub(super) as_of: Timestamp,
}

impl<'a> Site<'a> {
    /// A view of each of the services, in the same order; `judged` is how many runs have a verdict, of these services or of none.
    pub fn of(services: &'a [Shown], views: &'a [View], judged: u64) -> Self {
        let applied = services.iter().map(|shown| shown.applied_at);
        let spoken = views.iter().flat_map(|view| &view.runs).filter_map(|run| Some(run.speaks()?.2));
        let owned: u64 = views.iter().flat_map(|view| &view.tally).map(|tally| tally.runs).sum();
        Self {
            services,
            as_of: applied.chain(spoken).max().unwrap_or(Timestamp(0)),
            views: services.iter().map(|shown| shown.service.name.as_str()).zip(views).collect(),
            others: judged.saturating_sub(owned),
        }
    }

    /// Decided runs of each service that the site shows.
    pub fn points(&self) -> BTreeMap<String, u32> {
        let count = |shown: &Shown| {
            let decided: u64 = self.tally(&shown.service).iter().filter(|t| t.decided).map(|t| t.runs).sum();
            (shown.service.name.clone(), u32::try_from(decided).unwrap_or(u32::MAX))
        };
        self.services.iter().map(count).filter(|(_, points)| *points > 0).collect()
    }

    pub(super) fn runs(&self, service: &Service) -> &'a [FinishedRun] {
        self.views.get(service.name.as_str()).map_or(&[], |view| &view.runs)
    }

    pub(super) fn tally(&self, service: &Service) -> &'a [Tally] {
        self.views.get(service.name.as_str()).map_or(&[], |view| &view.tally)
    }

    pub(super) fn months(&self, service: &Service) -> &'a [MonthLine] {
        self.views.get(service.name.as_str()).map_or(&[], |view| &view.months)
    }

    pub(super) fn past(&self, service: &Service) -> Vec<Past<'a>> {
        of_service(&service.name, self.runs(service), self.as_of)
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
            runs: self.runs(service),
            publications: std::slice::from_ref(&this),
            now: self.as_of,
        })
    }

    /// Judged runs that no declared service owns: they have no page, and the index says how many.
    pub(super) fn unowned(&self) -> u64 {
        self.others
    }
}
