//! Histories that pass, that were cut short, or that say too little: `passed`, `aborted`, `inconclusive`.

use proto_model::event::{EventBody, RunPhase, StopCause};
use proto_model::injection::EndedBy;
use proto_model::probe::Phase;
use proto_model::verdict::{RunEndedBy, Verdict};

use crate::rules::{Row, drop_ref};

pub const ROWS: &[Row] = &[
    (
        "steady throughout",
        |s| {
            drop_ref(
                s.before("ggggg")
                    .acting()
                    .samples(Phase::During, "ggggg")
                    .undone(EndedBy::DurationElapsed)
                    .after("ggg")
                    .recovered()
                    .clean(),
            )
        },
        Verdict::Passed,
        0,
        RunEndedBy::Completed,
        &[],
    ),
    (
        "stopped by a person",
        |s| {
            drop_ref(
                s.before("ggggg")
                    .acting()
                    .samples(Phase::During, "ggg")
                    .stop(StopCause::Operator)
                    .undone(EndedBy::Stop)
                    .clean(),
            )
        },
        Verdict::Aborted,
        7,
        RunEndedBy::Operator,
        &["stopped"],
    ),
    (
        "halted",
        |s| {
            drop_ref(
                s.before("ggggg")
                    .acting()
                    .samples(Phase::During, "ggg")
                    .stop(StopCause::Halt)
                    .undone(EndedBy::Halt)
                    .clean(),
            )
        },
        Verdict::Aborted,
        7,
        RunEndedBy::Halt,
        &["halted"],
    ),
    (
        "halted while it was ordered",
        |s| drop_ref(s.before("ggggg").order().refused("halted").stop(StopCause::Halt).clean()),
        Verdict::Aborted,
        7,
        RunEndedBy::Halt,
        &["halted"],
    ),
    (
        "a guard",
        |s| {
            drop_ref(
                s.before("ggggg")
                    .acting()
                    .samples(Phase::During, "ggg")
                    .stop(StopCause::Guard)
                    .undone(EndedBy::Stop)
                    .clean(),
            )
        },
        Verdict::Aborted,
        7,
        RunEndedBy::Guard,
        &["guard_broke"],
    ),
    (
        "its own limit",
        |s| {
            drop_ref(
                s.before("ggggg")
                    .acting()
                    .samples(Phase::During, "ggg")
                    .stop(StopCause::Limit)
                    .undone(EndedBy::Stop)
                    .clean(),
            )
        },
        Verdict::Aborted,
        7,
        RunEndedBy::Limit,
        &["limit"],
    ),
    (
        "a lost host that came back clean",
        |s| {
            drop_ref(
                s.before("ggggg")
                    .acting()
                    .samples(Phase::During, "ggg")
                    .stop(StopCause::HostLost)
                    .undone(EndedBy::LeaseLost)
                    .clean(),
            )
        },
        Verdict::Aborted,
        7,
        RunEndedBy::HostLost,
        &["host_lost", "lease_lost"],
    ),
    (
        "a controller restart",
        |s| {
            drop_ref(
                s.before("ggggg")
                    .acting()
                    .push(EventBody::ControllerRestarted { down_ms: 9 })
                    .stop(StopCause::ControllerRestart)
                    .undone(EndedBy::LeaseLost)
                    .clean(),
            )
        },
        Verdict::Aborted,
        7,
        RunEndedBy::ControllerRestart,
        &["controller_restart", "lease_lost"],
    ),
    (
        "a restart while it was proven",
        |s| {
            drop_ref(
                s.before("ggggg")
                    .acting()
                    .samples(Phase::During, "ggg")
                    .undone(EndedBy::DurationElapsed)
                    .after("ggg")
                    .recovered()
                    .clean()
                    .push(EventBody::ControllerRestarted { down_ms: 9 }),
            )
        },
        Verdict::Aborted,
        7,
        RunEndedBy::ControllerRestart,
        &["controller_restart"],
    ),
    (
        "ended by the guardian, nobody stopped it",
        |s| {
            drop_ref(
                s.before("ggggg")
                    .acting()
                    .samples(Phase::During, "ggg")
                    .undone(EndedBy::Guardian)
                    .after("ggg")
                    .recovered()
                    .clean(),
            )
        },
        Verdict::Aborted,
        7,
        RunEndedBy::Completed,
        &["agent_lost"],
    ),
    (
        "ended by the kernel, nobody stopped it",
        |s| {
            drop_ref(
                s.before("ggggg")
                    .acting()
                    .samples(Phase::During, "ggg")
                    .undone(EndedBy::KernelExpiry)
                    .after("ggg")
                    .recovered()
                    .clean(),
            )
        },
        Verdict::Aborted,
        7,
        RunEndedBy::Completed,
        &["lease_lost"],
    ),
    (
        "an unsteady baseline",
        |s| drop_ref(s.before("gbggg").stop(StopCause::Baseline).phase(RunPhase::Verifying)),
        Verdict::Inconclusive,
        11,
        RunEndedBy::Completed,
        &["baseline_not_steady"],
    ),
    (
        "a baseline that nobody saw",
        |s| drop_ref(s.before("mmmmm").stop(StopCause::Baseline).phase(RunPhase::Verifying)),
        Verdict::Inconclusive,
        11,
        RunEndedBy::Completed,
        &["too_few_samples"],
    ),
    (
        "too many missing",
        |s| {
            drop_ref(
                s.before("ggggg")
                    .acting()
                    .samples(Phase::During, "gggmgmg")
                    .undone(EndedBy::DurationElapsed)
                    .after("ggg")
                    .recovered()
                    .clean(),
            )
        },
        Verdict::Inconclusive,
        11,
        RunEndedBy::Completed,
        &["too_few_samples"],
    ),
    (
        "a fifth missing is still enough",
        |s| {
            drop_ref(
                s.before("ggggg")
                    .acting()
                    .samples(Phase::During, "ggggm")
                    .undone(EndedBy::DurationElapsed)
                    .after("ggg")
                    .recovered()
                    .clean(),
            )
        },
        Verdict::Passed,
        0,
        RunEndedBy::Completed,
        &[],
    ),
    (
        "nobody saw it recover",
        |s| {
            drop_ref(
                s.before("ggggg")
                    .acting()
                    .samples(Phase::During, "ggggg")
                    .undone(EndedBy::DurationElapsed)
                    .after("bbmmmmmmmm")
                    .clean(),
            )
        },
        Verdict::Inconclusive,
        11,
        RunEndedBy::Completed,
        &["too_few_samples"],
    ),
    (
        "broke with no confirmed effect",
        |s| {
            drop_ref(
                s.before("ggggg")
                    .order()
                    .applied(false)
                    .windows("uu")
                    .samples(Phase::During, "gbbbg")
                    .undone(EndedBy::DurationElapsed)
                    .after("ggg")
                    .recovered()
                    .clean(),
            )
        },
        Verdict::Inconclusive,
        11,
        RunEndedBy::Completed,
        &["broke_unconfirmed", "effect_unexercised"],
    ),
    (
        "a mismatch",
        |s| {
            drop_ref(
                s.before("ggggg")
                    .order()
                    .applied(false)
                    .windows("cccm")
                    .samples(Phase::During, "ggggg")
                    .undone(EndedBy::DurationElapsed)
                    .after("ggg")
                    .recovered()
                    .clean(),
            )
        },
        Verdict::Inconclusive,
        11,
        RunEndedBy::Completed,
        &["effect_mismatch"],
    ),
    (
        "one mismatch in six is none",
        |s| {
            drop_ref(
                s.before("ggggg")
                    .order()
                    .applied(false)
                    .windows("cccccm")
                    .samples(Phase::During, "ggggg")
                    .undone(EndedBy::DurationElapsed)
                    .after("ggg")
                    .recovered()
                    .clean(),
            )
        },
        Verdict::Passed,
        0,
        RunEndedBy::Completed,
        &[],
    ),
    (
        "never observed",
        |s| {
            drop_ref(
                s.before("ggggg")
                    .order()
                    .applied(false)
                    .samples(Phase::During, "ggggg")
                    .undone(EndedBy::DurationElapsed)
                    .after("ggg")
                    .recovered()
                    .clean(),
            )
        },
        Verdict::Inconclusive,
        11,
        RunEndedBy::Completed,
        &["effect_unknown"],
    ),
    (
        "every injection was a no-op",
        |s| {
            drop_ref(
                s.before("ggggg")
                    .order()
                    .applied(true)
                    .samples(Phase::During, "ggggg")
                    .undone(EndedBy::DurationElapsed)
                    .after("ggg")
                    .recovered()
                    .clean(),
            )
        },
        Verdict::Inconclusive,
        11,
        RunEndedBy::Completed,
        &["all_noop"],
    ),
    (
        "an irreversible deed whose effect was seen",
        |s| {
            drop_ref(
                s.before("ggggg")
                    .order()
                    .applied(false)
                    .windows("c")
                    .samples(Phase::During, "ggggg")
                    .spent()
                    .after("ggg")
                    .recovered()
                    .clean(),
            )
        },
        Verdict::Passed,
        0,
        RunEndedBy::Completed,
        &[],
    ),
    (
        "an irreversible deed of which nothing was seen",
        |s| {
            drop_ref(
                s.before("ggggg")
                    .order()
                    .applied(false)
                    .samples(Phase::During, "ggggg")
                    .spent()
                    .after("ggg")
                    .recovered()
                    .clean(),
            )
        },
        Verdict::Inconclusive,
        11,
        RunEndedBy::Completed,
        &["effect_unknown"],
    ),
];
