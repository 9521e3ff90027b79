//! Who may call what, and what a call does: one row for every call, default deny. It looks at nobody and calls nothing.

use proto_model::role::Role;

/// What a call does to the world; what is written down about it follows from that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deed {
    Reads,
    /// Written down before it happens; refused when it cannot be.
    Changes,
    /// Ends harm or shows that it has ended: never refused because it cannot be written down, and written after it happened.
    Stops,
}

/// One row: the call, the roles that may make it, and what it does.
pub type Row = (&'static str, &'static [Role], Deed);

use Deed::{Changes, Reads, Stops};

const EVERYBODY: &[Role] = &Role::ALL;
const ACTORS: &[Role] = &[Role::Operator, Role::Approver, Role::Administrator];
const OPERATORS: &[Role] = &[Role::Operator, Role::Administrator];
const ADMINISTRATORS: &[Role] = &[Role::Administrator];

pub const ACCESS: &[Row] = &[
    ("/fracas.v1.Experiments/Plan", ACTORS, Reads),
    ("/fracas.v1.Experiments/Run", OPERATORS, Changes),
    ("/fracas.v1.Runs/List", EVERYBODY, Reads),
    ("/fracas.v1.Runs/Show", EVERYBODY, Reads),
    ("/fracas.v1.Runs/Events", EVERYBODY, Reads),
    ("/fracas.v1.Runs/Watch", EVERYBODY, Reads),
    ("/fracas.v1.Runs/Report", EVERYBODY, Reads),
    ("/fracas.v1.Runs/Stop", ACTORS, Stops),
    ("/fracas.v1.Hosts/List", EVERYBODY, Reads),
    ("/fracas.v1.Hosts/Show", EVERYBODY, Reads),
    ("/fracas.v1.Hosts/Label", ADMINISTRATORS, Changes),
    ("/fracas.v1.Hosts/Cordon", OPERATORS, Changes),
    ("/fracas.v1.Hosts/Verify", ACTORS, Stops),
    ("/fracas.v1.Hosts/Doctor", EVERYBODY, Reads),
    ("/fracas.v1.Hosts/Accept", ADMINISTRATORS, Changes),
    ("/fracas.v1.Hosts/Lock", ADMINISTRATORS, Stops),
    ("/fracas.v1.Hosts/Remove", ADMINISTRATORS, Changes),
    ("/fracas.v1.Faults/List", EVERYBODY, Reads),
    ("/fracas.v1.Tokens/Create", ADMINISTRATORS, Changes),
    ("/fracas.v1.Tokens/List", ADMINISTRATORS, Reads),
    ("/fracas.v1.Tokens/Revoke", ADMINISTRATORS, Changes),
    ("/fracas.v1.Operators/Create", ADMINISTRATORS, Changes),
    ("/fracas.v1.Operators/List", ADMINISTRATORS, Reads),
    ("/fracas.v1.Operators/Revoke", ADMINISTRATORS, Changes),
    ("/fracas.v1.Authority/Show", EVERYBODY, Reads),
    ("/fracas.v1.Authority/Rotate", ADMINISTRATORS, Changes),
    ("/fracas.v1.Audit/List", ADMINISTRATORS, Reads),
    ("/fracas.v1.Schedules/Add", OPERATORS, Changes),
    ("/fracas.v1.Schedules/List", EVERYBODY, Reads),
    ("/fracas.v1.Schedules/Show", EVERYBODY, Reads),
    ("/fracas.v1.Schedules/Pause", OPERATORS, Changes),
    ("/fracas.v1.Schedules/Resume", OPERATORS, Changes),
    ("/fracas.v1.Schedules/Remove", OPERATORS, Changes),
    ("/fracas.v1.Schedules/RunNow", OPERATORS, Changes),
    ("/fracas.v1.Schedules/Due", EVERYBODY, Reads),
    ("/fracas.v1.Freezes/Add", OPERATORS, Changes),
    ("/fracas.v1.Freezes/List", EVERYBODY, Reads),
    ("/fracas.v1.Freezes/Remove", ADMINISTRATORS, Changes),
    ("/fracas.v1.Freezes/Import", ADMINISTRATORS, Changes),
    ("/fracas.v1.Evidence/ApplyService", OPERATORS, Changes),
    ("/fracas.v1.Evidence/ListServices", EVERYBODY, Reads),
    ("/fracas.v1.Evidence/ShowService", EVERYBODY, Reads),
    ("/fracas.v1.Evidence/RemoveService", ADMINISTRATORS, Changes),
    ("/fracas.v1.Evidence/Levels", EVERYBODY, Reads),
    ("/fracas.v1.Evidence/Site", EVERYBODY, Reads),
    ("/fracas.v1.Evidence/Pages", EVERYBODY, Reads),
    ("/fracas.v1.Evidence/Publish", OPERATORS, Changes),
    ("/fracas.v1.Emergency/Halt", EVERYBODY, Stops),
    ("/fracas.v1.Emergency/Release", ADMINISTRATORS, Changes),
    ("/fracas.v1.Emergency/Status", EVERYBODY, Reads),
];

/// The row of a call; without one nobody may make it.
pub fn row(call: &str) -> Option<&'static Row> {
    ACCESS.iter().find(|(name, ..)| *name == call)
}

/// Whether the role is enough, or which would be, in words.
pub fn may(role: Role, row: &Row) -> Result<(), String> {
    let (_, roles, _) = row;
    if roles.contains(&role) {
        return Ok(());
    }
    let names: Vec<&str> = roles.iter().map(|role| role.as_str()).collect();
    Err(names.join(" or "))
}

/// A call as people read it: `Hosts/Cordon`.
pub fn short(call: &str) -> &str {
    call.trim_start_matches("/fracas.v1.")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Services that hosts call on a listener of their own.
    const OF_HOSTS: [&str; 2] = ["Agents", "Enrolment"];

    /// Every call of every service that the wire's files describe.
    fn calls_of_the_wire() -> Vec<String> {
        let wire = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../proto/wire");
        let folder = std::fs::read_dir(wire.join("fracas/v1")).unwrap();
        let files: Vec<_> = folder.map(|entry| entry.unwrap().path()).collect();
        let described = protox::compile(files, [wire]).unwrap();
        let mut calls = Vec::new();
        for file in &described.file {
            for service in file.service.iter().filter(|service| !OF_HOSTS.contains(&service.name())) {
                let calls_of = service.method.iter();
                calls.extend(calls_of.map(|method| format!("/{}.{}/{}", file.package(), service.name(), method.name())));
            }
        }
        calls
    }

    #[test]
    fn every_call_has_exactly_one_row_and_every_row_a_call() {
        let mut calls = calls_of_the_wire();
        let mut rows: Vec<String> = ACCESS.iter().map(|(name, ..)| (*name).to_owned()).collect();
        calls.sort();
        rows.sort();
        assert!(calls.len() > 20);
        assert_eq!(calls, rows);
    }

    /// Who may make each call, written once more and by hand: V viewer, O operator, A approver, D administrator.
    const WRITTEN: &str = "
        Experiments/Plan        -OAD    Experiments/Run         -O-D
        Runs/List               VOAD    Runs/Show               VOAD    Runs/Events             VOAD
        Runs/Watch              VOAD    Runs/Report             VOAD    Runs/Stop               -OAD
        Hosts/List              VOAD    Hosts/Show              VOAD    Hosts/Doctor            VOAD
        Hosts/Cordon            -O-D    Hosts/Verify            -OAD
        Hosts/Label             ---D    Hosts/Accept            ---D    Hosts/Lock              ---D
        Hosts/Remove            ---D
        Faults/List             VOAD
        Tokens/Create           ---D    Tokens/List             ---D    Tokens/Revoke           ---D
        Operators/Create        ---D    Operators/List          ---D    Operators/Revoke        ---D
        Authority/Show          VOAD    Authority/Rotate        ---D
        Audit/List              ---D
        Schedules/Add           -O-D    Schedules/Pause         -O-D    Schedules/Resume        -O-D
        Schedules/Remove        -O-D    Schedules/RunNow        -O-D
        Schedules/List          VOAD    Schedules/Show          VOAD    Schedules/Due           VOAD
        Freezes/Add             -O-D    Freezes/List            VOAD
        Freezes/Remove          ---D    Freezes/Import          ---D
        Evidence/ApplyService   -O-D    Evidence/Publish        -O-D    Evidence/RemoveService  ---D
        Evidence/ListServices   VOAD    Evidence/ShowService    VOAD
        Evidence/Levels         VOAD    Evidence/Site           VOAD
        Evidence/Pages          VOAD
        Emergency/Halt          VOAD    Emergency/Release       ---D    Emergency/Status        VOAD";

    #[test]
    fn the_roles_of_every_call_are_those_that_are_written_here() {
        let words: Vec<&str> = WRITTEN.split_whitespace().collect();
        let mut written: Vec<(&str, &str)> = words.chunks(2).map(|pair| (pair[0], pair[1])).collect();
        let letters = [
            (Role::Viewer, 'V'),
            (Role::Operator, 'O'),
            (Role::Approver, 'A'),
            (Role::Administrator, 'D'),
        ];
        assert_eq!(letters.len(), Role::ALL.len());
        let of = |row: &Row| letters.map(|(role, letter)| if may(role, row).is_ok() { letter } else { '-' });
        let in_table: Vec<(&str, String)> = ACCESS.iter().map(|row| (short(row.0), of(row).iter().collect())).collect();
        let mut in_table: Vec<(&str, &str)> = in_table.iter().map(|(call, roles)| (*call, roles.as_str())).collect();
        written.sort_unstable();
        in_table.sort_unstable();
        assert_eq!(in_table, written);
    }

    #[test]
    fn administrators_may_everything_and_viewers_change_nothing() {
        for row in ACCESS {
            assert!(may(Role::Administrator, row).is_ok(), "{}", row.0);
            assert!(
                row.2 != Deed::Changes || may(Role::Viewer, row).is_err(),
                "a viewer may change: {}",
                row.0
            );
        }
        assert!(may(Role::Viewer, row("/fracas.v1.Emergency/Halt").unwrap()).is_ok());
        let needed = may(Role::Viewer, row("/fracas.v1.Experiments/Run").unwrap()).unwrap_err();
        assert_eq!(needed, "operator or administrator");
        assert!(row("/fracas.v1.Runs/Forget").is_none());
    }
}
