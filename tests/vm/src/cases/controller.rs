//! The controller is killed while faults act: they end with their leases, or as soon as it is back.

use anyhow::Result;

use super::held::{Held, LEASE_LOST, clean_after};
use super::{Case, Extent, Figures};
use crate::site::Site;

pub(super) const CASES: [Case; 1] = [Case {
    name: "kill-controller",
    what: "the controller is killed during a partition and a filled volume, and its unit starts it again",
    extent: Extent::Long,
    run: killed,
}];

const CONTROLLER: &str = "controller=$(systemctl show --property MainPID --value fracas-controller)";
fn killed(site: &mut Site, figures: &mut Figures<'_>) -> Result<()> {
    let held = Held::begin(site)?;
    let took = clean_after(site, CONTROLLER, "kill -KILL $controller")?;
    figures.add("clean after kill -9 of the controller", took, LEASE_LOST);
    // A controller that is back stops what it finds acting.
    held.expect_ended(site, &["lease_lost", "stop"])
}
