//! What acts now and until when, the hosts and the newest runs, as one part of a page that is drawn again whenever something changes.

use std::sync::Arc;

use askama::Template;
use proto_model::host::Host;
use proto_model::time::Timestamp;

use crate::acting::Acting;
use crate::hosts::HostTable;
use crate::runs::RunLine;

/// What the page tells of, as it stood at one moment.
#[derive(Debug)]
pub struct Known {
    pub at: Timestamp,
    pub acting: Vec<Acting>,
    pub hosts: HostTable,
    pub runs: Vec<RunLine>,
}

impl Known {
    pub fn of(at: Timestamp, mut acting: Vec<Acting>, hosts: &[Arc<Host>], runs: Vec<RunLine>) -> Self {
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proto_model::host::{Availability, Connection, Membership};
    use proto_model::id::HostName;
    use proto_model::injection::Cleanliness;

    use super::*;

    const NOTHING: &str = "Nothing acts on any host.";

    fn host(name: &str, connection: Connection, cleanliness: Cleanliness, active_injections: u32) -> Arc<Host> {
        Arc::new(Host {
            name: HostName::parse(name).unwrap(),
            labels: BTreeMap::new(),
            facts: Default::default(),
            connection,
            cleanliness,
            availability: Availability::Open,
            membership: Membership::Enrolled,
            note: None,
            catalogue_digest: String::new(),
            active_injections,
            enrolled_at: Timestamp(0),
            last_seen: Some(Timestamp(0)),
            certificate_not_after: None,
            source_address: None,
            clock_offset_ms: None,
            authority: Default::default(),
        })
    }

    fn page(hosts: &[Arc<Host>]) -> String {
        Known::of(Timestamp(0), Vec::new(), hosts, Vec::new()).html()
    }

    #[test]
    fn nothing_acts_only_where_every_host_is_known_to_hold_nothing() {
        use Cleanliness::{Clean, Dirty, Faulted, Unproven};
        use Connection::{Connected, Lost};
        assert!(page(&[]).contains(NOTHING));
        let quiet = [host("web", Connected, Clean, 0), host("away", Lost, Clean, 0)];
        assert!(page(&quiet).contains(NOTHING));
        for (doubtful, says) in [
            (
                host("db", Connected, Clean, 1),
                "db counts 1 active injection that no unfinished run tells of",
            ),
            (host("db", Connected, Faulted, 2), "db counts 2 active injections"),
            (
                host("db", Lost, Faulted, 1),
                "db is lost; at the last sign of it, it counts 1 active injection",
            ),
            (host("db", Lost, Faulted, 0), "db is lost, and something acted there"),
            (host("db", Connected, Unproven, 0), "db is unproven"),
            (host("db", Lost, Unproven, 0), "db is unproven"),
            (host("db", Connected, Dirty, 0), "db is dirty"),
        ] {
            let page = page(&[quiet[0].clone(), doubtful]);
            assert!(
                page.contains(says) && page.contains("it is not known that nothing does"),
                "{says}: {page}"
            );
            assert!(!page.contains(NOTHING), "{says}: {page}");
        }
    }

    #[test]
    fn of_many_doubts_a_few_are_named_and_the_rest_is_counted() {
        let many: Vec<Arc<Host>> = (0..25)
            .map(|n| host(&format!("host-{n}"), Connection::Connected, Cleanliness::Unproven, 0))
            .collect();
        let page = page(&many);
        assert_eq!(page.matches("has not shown that nothing is left").count(), 10);
        assert!(page.contains("and 15 more hosts"), "{page}");
    }
}
