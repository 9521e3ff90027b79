//! The first page: what acts now and until when, the hosts, the runs, and the halt. The middle is sent again whenever something changes.

use askama::Template;
use proto_model::halt::HaltState;
use proto_model::host::Host;
use proto_model::time::Timestamp;

use crate::acting::Acting;
use crate::frame::Frame;
use crate::hosts::HostTable;
use crate::runs::RunLine;
use crate::stop::StopForms;

/// What the page tells of, as it stood at one moment.
#[derive(Debug)]
pub struct Known {
    pub at: Timestamp,
    pub acting: Vec<Acting>,
    pub hosts: HostTable,
    pub runs: Vec<RunLine>,
}

impl Known {
    pub fn of(at: Timestamp, mut acting: Vec<Acting>, hosts: &[Host], runs: Vec<RunLine>) -> Self {
        acting.sort_by_key(|one| one.left_or_all(&at));
        Self {
            at,
            acting,
            hosts: HostTable::of(hosts),
            runs,
        }
    }

    /// Whether a reader would see anything new; countdowns go on by themselves.
    pub fn tells_the_same_as(&self, other: &Self) -> bool {
        (&self.acting, &self.hosts, &self.runs) == (&other.acting, &other.hosts, &other.runs)
    }

    /// The middle of the page alone.
    pub fn html(&self) -> String {
        Middle { known: self }.render().unwrap_or_default()
    }
}

#[derive(Template)]
#[template(path = "now_middle.html")]
struct Middle<'a> {
    known: &'a Known,
}

#[derive(Debug, Template)]
#[template(path = "now.html")]
pub struct Now<'a> {
    pub frame: &'a Frame,
    pub halt: &'a HaltState,
    pub may_release: bool,
    pub known: &'a Known,
}

impl Now<'_> {
    pub fn html(&self) -> String {
        self.render().unwrap_or_default()
    }

    fn forms(&self) -> String {
        let forms = StopForms {
            frame: self.frame,
            halt: self.halt,
            may_release: self.may_release,
        };
        forms.html()
    }
}
