//! What is forgotten after a time: plans that no run used. Runs, their events and the plans that they used are never deleted.

use std::time::Duration;

use proto_model::time::Timestamp;
use tokio::time::MissedTickBehavior;

use crate::service::Api;

const DAY_MS: u64 = 24 * 3_600_000;
/// How long a plan that no run used is kept: long after it has expired, so that who asks for it is told that.
const UNUSED_PLANS_KEPT_DAYS: u64 = 7;
/// How often it is looked what is to be forgotten.
const LOOK: Duration = Duration::from_secs(3_600);

impl Api {
    /// Until the program ends.
    pub async fn forget_what_is_old(self) {
        let mut look = tokio::time::interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            look.tick().await;
            let oldest = oldest_kept(self.now());
            match self.0.store.call(move |store| store.forget_plans(oldest)).await {
                Ok(0) => {}
                Ok(forgotten) => tracing::info!(forgotten, "plans that no run used are forgotten"),
                Err(error) => tracing::warn!(%error, "plans that no run used were not forgotten; it is tried again"),
            }
        }
    }
}

fn oldest_kept(now: Timestamp) -> Timestamp {
    Timestamp(now.0.saturating_sub_unsigned(UNUSED_PLANS_KEPT_DAYS * DAY_MS))
}

/// What is said of a plan that is not there.
pub(crate) fn no_plan(digest: &str) -> String {
    format!(
        "no plan {digest}: a plan that no run used is forgotten {UNUSED_PLANS_KEPT_DAYS} days after it was made; \
        plan again with `fracas plan FILE` and run the digest that it prints"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_is_kept_for_its_days_and_who_asks_later_is_told() {
        let now = Timestamp(1_700_000_000_000);
        assert_eq!(now.since(oldest_kept(now)), 7 * DAY_MS);
        let said = no_plan("sha256:00");
        assert!(
            said.contains("no plan sha256:00") && said.contains("7 days") && said.contains("fracas plan FILE"),
            "{said}"
        );
    }
}
