//! What can be typed after `fracas-controller`.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Parser;
use proto_model::role::Role;

#[derive(Debug, Parser)]
#[command(
    name = "fracas-controller",
    version,
    about = "Plans and conducts experiments, and holds the sessions of every agent"
)]
pub struct Options {
    /// Addresses, times and policy by environment; need not exist.
    #[arg(long, default_value = "/etc/fracas/controller.toml", value_name = "FILE")]
    pub config: PathBuf,
    /// The store, the authority, the halt latch, reports.
    #[arg(long, default_value = "/var/lib/fracas/controller", value_name = "DIR")]
    pub state_dir: PathBuf,
    /// The administrators' socket.
    #[arg(long, default_value = "/run/fracas", value_name = "DIR")]
    pub run_dir: PathBuf,
    /// Where agents connect; goes before the configuration.
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub agents_address: Option<SocketAddr>,
    /// Where operators connect from other machines; goes before the configuration.
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub operators_address: Option<SocketAddr>,
    /// How long an agent may hold a fault without word from here: 2000 to 60000.
    #[arg(long, value_name = "MS", value_parser = clap::value_parser!(u64).range(2_000..=60_000))]
    pub lease_ms: Option<u64>,
    /// Log lines as JSON.
    #[arg(long)]
    pub log_json: bool,
    /// Issue a client certificate for an operator on another machine, write it to --out, and end.
    #[arg(long, value_name = "NAME", requires = "out")]
    pub issue_operator: Option<String>,
    /// What the operator of --issue-operator may be: viewer, operator, approver or administrator.
    #[arg(long, default_value = "administrator", value_name = "ROLE", value_parser = Role::parse, requires = "issue_operator")]
    pub role: Role,
    /// Where the operator's certificate, key and authority are written.
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Revoke the client certificates that were issued to this operator until now, or those of one key by its SHA-256, and end. A controller
    /// that runs obeys at once.
    #[arg(long, value_name = "NAME|SHA256", conflicts_with = "issue_operator")]
    pub revoke_operator: Option<String>,
    /// For drills: judge what is due or overdue as if it were so much later (36d, 12h, -30m). While it is set no schedule starts
    /// anything; the times of runs, certificates, leases and tokens stay the wall clock's.
    #[arg(long, hide = true, default_value = "0m", value_name = "OFFSET", allow_hyphen_values = true, value_parser = crate::clock::parse_offset)]
    pub clock_offset: i64,
    /// Check the configuration and end.
    #[arg(long)]
    pub check_config: bool,
    /// Write the manual page and completions into a folder and end; for packages.
    #[arg(long, hide = true, value_name = "DIR")]
    pub manual: Option<PathBuf>,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_grammar_is_sound() {
        super::Options::command().debug_assert();
    }
}
