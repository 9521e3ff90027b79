//! Where each file of a site is, below its folder.

use controller_report::html::Link;
use proto_model::id::RunId;

pub(super) fn run_path(run: &RunId) -> String {
    format!("runs/{run}.html")
}

/// A service's page: its name with everything that could mean something to a file system or an address written out.
pub fn file_name(service: &str) -> String {
    folder_name(service) + ".html"
}

/// The folder of its months.
pub(super) fn folder_name(service: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    let mut name = String::new();
    for c in service.chars() {
        if plain(c) {
            name.push(c);
        } else {
            name.push_str(&format!("~{:x}~", u32::from(c)));
        }
    }
    name
}

/// Where the page of a service's month is.
pub(super) fn month_path(service: &str, month: &str) -> String {
    format!("history/{}/{month}.html", folder_name(service))
}

/// Where the page of a service's run is, and the way back from it.
pub fn run_page(service: &str, run: &RunId) -> (String, Link) {
    let up = Link {
        text: service.to_owned(),
        href: format!("../services/{}", file_name(service)),
    };
    (run_path(run), up)
}
