//! Histories that end in `error` or `failed`: what broke, what was not done, what is not clean.

use proto_model::event::{RunPhase, StopCause};
use proto_model::injection::{CleanProof, EndedBy};
use proto_model::probe::Phase;
use proto_model::problem::Refusal;
use proto_model::verdict::{RunEndedBy, Verdict};

use crate::rules::{Row, dirty, drop_ref};

pub const ROWS: &[Row] = &[
    (
        "dirty",
        |s| {
            drop_ref(
                s.before("ggggg")
                    .acting()
                    .samples(Phase::During, "ggggg")
                    .undone(EndedBy::DurationElapsed)
                    .after("ggg")
                    .recovered()
                    .proven(dirty()),
            )
        },
        Verdict::Error,
        8,
        RunEndedBy::Completed,
        &["host_dirty"],
    ),
    (
        "unproven beats failed",
        |s| {
            drop_ref(
                s.before("ggggg")
                    .acting()
                    .samples(Phase::During, "gbbbb")
                    .undone(EndedBy::DurationElapsed)
                    .after("ggg")
                    .recovered()
                    .proven(CleanProof::unproven()),
            )
        },
        Verdict::Error,
        8,
        RunEndedBy::Completed,
        &["cleanup_unproven", "hypothesis_broke"],
    ),
    (
        "never asked for its proof",
        |s| {
            drop_ref(
                s.before("ggggg")
                    .acting()
                    .samples(Phase::During, "ggggg")
                    .undone(EndedBy::DurationElapsed)
                    .after("ggg")
                    .recovered(),
            )
        },
        Verdict::Error,
        8,
        RunEndedBy::Completed,
        &["cleanup_unproven"],
    ),
    (
        "broke under a confirmed effect",
        |s| {
            drop_ref(
                s.before("ggggg")
                    .acting()
                    .samples(Phase::During, "gbbbg")
                    .undone(EndedBy::DurationElapsed)
                    .after("ggg")
                    .recovered()
                    .clean(),
            )
        },
        Verdict::Failed,
        6,
        RunEndedBy::Completed,
        &["hypothesis_broke"],
    ),
    (
        "one bad sample is one too many",
        |s| {
            drop_ref(
                s.before("ggggg")
                    .acting()
                    .samples(Phase::During, "ggggb")
                    .undone(EndedBy::DurationElapsed)
                    .after("ggg")
                    .recovered()
                    .clean(),
            )
        },
        Verdict::Failed,
        6,
        RunEndedBy::Completed,
        &["hypothesis_broke"],
    ),
    (
        "did not recover",
        |s| {
            drop_ref(
                s.before("ggggg")
                    .acting()
                    .samples(Phase::During, "ggggg")
                    .undone(EndedBy::DurationElapsed)
                    .after("bbbgbgb")
                    .clean(),
            )
        },
        Verdict::Failed,
        6,
        RunEndedBy::Completed,
        &["not_recovered"],
    ),
    (
        "broke, then a guard ended it",
        |s| {
            drop_ref(
                s.before("ggggg")
                    .acting()
                    .samples(Phase::During, "gbbb")
                    .stop(StopCause::Guard)
                    .undone(EndedBy::Stop)
                    .clean(),
            )
        },
        Verdict::Failed,
        6,
        RunEndedBy::Guard,
        &["hypothesis_broke", "guard_broke"],
    ),
    (
        "broke, then a person ended it",
        |s| {
            drop_ref(
                s.before("ggggg")
                    .acting()
                    .samples(Phase::During, "gbbb")
                    .stop(StopCause::Operator)
                    .undone(EndedBy::Stop)
                    .clean(),
            )
        },
        Verdict::Failed,
        6,
        RunEndedBy::Operator,
        &["hypothesis_broke", "stopped"],
    ),
    (
        "refused in preflight",
        |s| {
            drop_ref(
                s.preflight(Some(Refusal::new("policy", "", "no")))
                    .stop(StopCause::Failure)
                    .phase(RunPhase::Verifying),
            )
        },
        Verdict::Error,
        1,
        RunEndedBy::Failure,
        &["refused"],
    ),
    (
        "refused when ordered",
        |s| drop_ref(s.before("ggggg").order().refused("policy").stop(StopCause::Failure).clean()),
        Verdict::Error,
        1,
        RunEndedBy::Failure,
        &["refused"],
    ),
    (
        "not applied",
        |s| {
            drop_ref(
                s.before("ggggg")
                    .order()
                    .undone(EndedBy::ApplyFailed)
                    .stop(StopCause::Failure)
                    .clean(),
            )
        },
        Verdict::Error,
        1,
        RunEndedBy::Failure,
        &["apply_failed"],
    ),
    (
        "ended early",
        |s| {
            drop_ref(
                s.before("ggggg")
                    .acting()
                    .samples(Phase::During, "ggg")
                    .undone(EndedBy::EndedEarly)
                    .stop(StopCause::Failure)
                    .clean(),
            )
        },
        Verdict::Error,
        1,
        RunEndedBy::Failure,
        &["ended_early"],
    ),
    (
        "a plan that was not followed",
        |s| {
            drop_ref(
                s.before("ggggg")
                    .acting()
                    .samples(Phase::During, "ggg")
                    .stop(StopCause::Failure)
                    .undone(EndedBy::Stop)
                    .clean(),
            )
        },
        Verdict::Error,
        1,
        RunEndedBy::Failure,
        &["not_followed"],
    ),
    (
        "an injection that nobody ended",
        |s| {
            drop_ref(
                s.before("ggggg")
                    .acting()
                    .samples(Phase::During, "ggg")
                    .after("ggg")
                    .recovered()
                    .clean(),
            )
        },
        Verdict::Error,
        1,
        RunEndedBy::Completed,
        &["not_carried_out"],
    ),
];
