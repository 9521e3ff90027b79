//! The site as data: every level with its lines, and where the runs of each month are, with the digest of what stands there.

use proto_model::document::API_VERSION;
use serde_json::json;

use super::shown::Site;

pub(super) fn history(site: &Site<'_>) -> String {
    let services = site.services.iter().map(|shown| {
        let service = &shown.service;
        json!({ "service": service, "applied_at": shown.applied_at, "levels": site.levels(service), "months": site.months(service) })
    });
    let document = json!({ "apiVersion": API_VERSION, "kind": "History", "as_of": site.as_of, "services": services.collect::<Vec<_>>() });
    format!("{document:#}\n")
}
