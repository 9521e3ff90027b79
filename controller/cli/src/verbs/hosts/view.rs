//! Hosts as rows and as one page; pure text.

use proto_model::host::{Availability, Connection, Host, Membership};
use proto_model::quantity::Bytes;
use proto_model::time::Timestamp;

use crate::age::ago;
use crate::documents::Shown;

/// How far two clocks may be apart and still count as the same.
const AGREEING_MS: i64 = 5_000;

impl Shown for Host {
    const KIND: &'static str = "Host";
    const PLURAL: &'static str = "hosts";

    fn name(&self) -> String {
        self.name.to_string()
    }

    fn header(wide: bool) -> &'static [&'static str] {
        if wide {
            &[
                "NAME",
                "STATE",
                "CLEAN",
                "USE",
                "ENV",
                "LABELS",
                "FAULTS",
                "AGENT",
                "KERNEL",
                "ADDRESSES",
                "SEEN",
                "NOTE",
                "AGE",
            ]
        } else {
            &["NAME", "STATE", "CLEAN", "USE", "ENV", "LABELS", "FAULTS", "AGE"]
        }
    }

    fn row(&self, wide: bool, now: Timestamp) -> Vec<String> {
        let mut row = vec![
            self.name.to_string(),
            connection(self).to_owned(),
            self.cleanliness.as_str().to_owned(),
            availability(self).to_owned(),
            self.environment().to_owned(),
            labels(self),
            self.active_injections.to_string(),
        ];
        if wide {
            let seen = self.last_seen.map(|at| ago(at, now)).unwrap_or_default();
            let note = self.note.clone().unwrap_or_default();
            row.extend([
                self.facts.agent_version.clone(),
                self.facts.kernel.clone(),
                addresses(self),
                seen,
                note,
            ]);
        }
        row.push(ago(self.enrolled_at, now));
        row
    }
}

/// Everything that is known of one host.
pub fn page(host: &Host, now: Timestamp, paint: impl Fn(&str) -> String) -> Vec<String> {
    let facts = &host.facts;
    let seen = host
        .last_seen
        .map_or_else(|| "never".to_owned(), |at| format!("{} ago", ago(at, now)));
    let until = host.certificate_not_after.map_or_else(String::new, |at| at.to_string());
    let size = Bytes(facts.memory_bytes / (1 << 20) * (1 << 20));
    let rows = [
        ("host", host.name.to_string()),
        ("state", format!("{}, seen {seen}", paint(connection(host)))),
        ("clean", paint(host.cleanliness.as_str())),
        ("use", paint(availability(host))),
        ("note", host.note.clone().unwrap_or_default()),
        ("env", host.environment().to_owned()),
        ("labels", labels(host)),
        ("faults", format!("{} active", host.active_injections)),
        ("system", format!("{}, kernel {}, {}", facts.os, facts.kernel, facts.architecture)),
        ("size", format!("{} cpus, {size} memory", facts.cpus)),
        ("groups", facts.cgroups.clone()),
        ("addresses", addresses(host)),
        ("session", host.source_address.clone().unwrap_or_default()),
        ("agent", facts.agent_version.clone()),
        ("machine", facts.machine_id.clone()),
        ("boot", facts.boot_id.clone()),
        ("valid to", until),
        ("clock", clock(host)),
        ("enrolled", format!("{} ago", ago(host.enrolled_at, now))),
    ];
    let told = rows.into_iter().filter(|(_, text)| !text.is_empty());
    told.map(|(name, text)| format!("{name:<10}{text}")).collect()
}

/// Nothing while host and controller agree within seconds.
fn clock(host: &Host) -> String {
    match host.clock_offset_ms {
        Some(offset) if offset.saturating_abs() > AGREEING_MS => {
            let side = if offset > 0 { "ahead of" } else { "behind" };
            let by = ago(Timestamp(0), Timestamp(offset.saturating_abs()));
            format!("{by} {side} the controller's; set the clock that is wrong")
        }
        _ => String::new(),
    }
}

fn connection(host: &Host) -> &'static str {
    match (host.membership, host.connection) {
        (Membership::Locked, _) => "locked",
        (Membership::Removed, _) => "removed",
        (Membership::Enrolled, Connection::Connected) => "connected",
        (Membership::Enrolled, Connection::Lost) => "lost",
    }
}

fn availability(host: &Host) -> &'static str {
    match host.availability {
        Availability::Open => "open",
        Availability::Cordoned => "cordoned",
        Availability::Halted => "halted",
    }
}

fn labels(host: &Host) -> String {
    host.labels
        .iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect::<Vec<_>>()
        .join(",")
}

fn addresses(host: &Host) -> String {
    host.facts.addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}
