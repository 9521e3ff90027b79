//! The authorities as lines; pure text.

use proto_model::document::{AuthorityDocument, AuthorityState, TrustedAuthority};

/// Names that are listed before the others are counted.
const NAMED: usize = 20;

pub fn lines(shown: &AuthorityDocument) -> Vec<String> {
    let mut lines = vec![format!("phase     {}, since {}", shown.phase, shown.since)];
    for authority in &shown.authorities {
        lines.extend(of_one(authority, shown.hosts));
    }
    if !shown.waiting.is_empty() {
        let more = shown.waiting.len().saturating_sub(NAMED);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        let first = &shown.waiting[..shown.waiting.len().min(NAMED)];
        lines.push(format!("waits for {}{more}", first.join(", ")));
    }
    let next = match shown.phase.as_str() {
        "prepared" => "fracas authority rotate switch",
        "switched" => "fracas authority rotate finish",
        _ => return lines,
    };
    lines.push(format!("next      {next}"));
    lines
}

fn of_one(authority: &TrustedAuthority, hosts: u32) -> [String; 3] {
    let state = match authority.state {
        AuthorityState::InForce => "in force",
        AuthorityState::Next => "next",
        AuthorityState::Previous => "previous",
    };
    [
        format!("{state:<9} {}", authority.fingerprint),
        format!("          from {} until {}", authority.begins, authority.ends),
        format!(
            "          trusted by {} of {hosts} hosts, has certified {}",
            authority.hosts_trusting, authority.hosts_certified
        ),
    ]
}
