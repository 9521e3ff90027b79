//! A wall clock that is set while a run goes on: nothing of the run changes.

use proto_model::verdict::{Cleanup, RunEndedBy};

use crate::fleet::{Bench, step_the_wall_clock};
use crate::plans::{attack, wait};

#[tokio::test]
async fn steps_of_the_wall_clock_change_nothing() {
    for step in [30_000, -12_000, 3_600_000, -3_600_000] {
        let bench = Bench::new().await;
        let mut plan = attack(&["web", "cache"], 600);
        plan.steps.push(wait(1, 400));
        let started = std::time::Instant::now();
        let run = bench.start(plan).await.unwrap().run;
        bench.acting(&run).await;
        step_the_wall_clock(step);
        let document = bench.finished(&run).await;
        let took = started.elapsed();
        assert_eq!(
            (document.ended_by, document.cleanup, document.exit_code),
            (Some(RunEndedBy::Completed), Cleanup::Proven, Some(0)),
            "{step} ms: {:?}",
            document.reasons
        );
        assert!((1_000..6_000).contains(&took.as_millis()), "{step} ms: {took:?}");
        let lasted = document.finished_at.unwrap().since(document.created_at);
        assert!(
            u128::from(lasted) <= took.as_millis() + 100,
            "{step} ms: {lasted} ms by its own times"
        );
    }
}
