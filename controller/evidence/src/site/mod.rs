//! The published site as files: a function of services and runs alone, so that the same log gives the same bytes.
//!
//! Ages are counted to the last thing in the log and never to a clock. A page that is read is published: its own delivery is
//! the one that its levels count, and no earlier one changes what it says.

mod data;
mod feed;
mod maker;
mod metrics;
mod months;
mod pages;
mod paths;
mod shown;

use std::collections::BTreeMap;

use proto_model::id::sha256_text;

pub use maker::maker;
pub use months::{Month, month, month_of};
pub use pages::NEWEST;
pub use paths::{file_name, run_page};
pub use shown::{MonthLine, Shown, Site, View};

/// The file by which a folder is known to hold a site of ours.
pub const MARKER: &str = ".fracas-site";
const MARKER_TEXT: &str = "written by fracas publish; it is replaced as a whole\n";

impl Site<'_> {
    /// Every file but those of months and the runs' own pages, by path.
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

    /// What tells one state of the site from another: over `history.json`, which holds every fact of it or the digest of the file that does.
    pub fn digest(&self) -> String {
        sha256_text(data::history(self).as_bytes())
    }
}
