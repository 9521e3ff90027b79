//! What changed on a plan's hosts since it was made: a plan that is run again must meet the hosts that it was made for.

use proto_model::plan::{Origin, Plan, PlannedHost};

use crate::fleet::Fleet;
use crate::targets::bar;

/// One sentence per change, each with its host; empty when the plan still fits.
pub fn difference(plan: &Plan, fleet: &Fleet) -> Vec<String> {
    plan.hosts.iter().flat_map(|planned| changes(planned, plan.origin, fleet)).collect()
}

fn changes(planned: &PlannedHost, origin: Origin, fleet: &Fleet) -> Vec<String> {
    let name = &planned.name;
    let Some(host) = fleet.known().find(|host| &host.name == name) else {
        return vec![format!("host {name} is gone")];
    };
    let now = fleet.planned(host);
    let mut words = Vec::new();
    if let Some(unfit) = bar(host, origin) {
        words.push(format!("host {name} {}", unfit.why));
    }
    if now.boot_id != planned.boot_id {
        words.push(format!(
            "host {name} has booted again (boot id {}, was {})",
            now.boot_id, planned.boot_id
        ));
    }
    if now.catalogue_digest != planned.catalogue_digest {
        words.push(format!("host {name} offers another catalogue of faults"));
    }
    let keys: std::collections::BTreeSet<&String> = now.labels.keys().chain(planned.labels.keys()).collect();
    for key in keys {
        let text = |value: Option<&String>| value.map_or("absent".to_owned(), |v| format!("{v:?}"));
        let (new, old) = (now.labels.get(key), planned.labels.get(key));
        if new != old {
            words.push(format!("host {name}: label {key} is {}, was {}", text(new), text(old)));
        }
    }
    words
}
