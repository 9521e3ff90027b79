//! What every store must keep of schedules, ticks and freezes.

use std::collections::BTreeMap;

use proto_model::event::FleetEventBody;
use proto_model::id::{FreezeId, RunId, ScheduleId};
use proto_model::schedule::{MissedRule, SkipReason, TickState};
use proto_model::time::Timestamp;

use super::given::{Make, actor, is_refused};
use crate::cadence::{FreezeRecord, ScheduleRecord, TickRecord};
use crate::records::StoreError;
use crate::store::Store;

pub(super) const CHECKS: &[fn(Make<'_>)] = &[
    a_schedule_has_its_name_alone,
    a_time_becomes_a_tick_once,
    a_pause_leaves_no_ticks_behind,
    a_tick_ends_once,
    ticks_outlive_their_schedule,
    a_time_asked_for_twice_is_refused,
    freezes_change_all_at_once,
];

fn a_schedule(name: &str) -> ScheduleRecord {
    ScheduleRecord {
        id: ScheduleId::generate(),
        name: name.to_owned(),
        file_text: "apiVersion: fracas/v1\n".into(),
        file_name: "x.yaml".into(),
        set: BTreeMap::from([("delay".into(), "2s".into())]),
        experiment: "checkout".into(),
        service: Some("shop".into()),
        environment: None,
        cron: "0 3 * * 2".into(),
        timezone: "Europe/Berlin".into(),
        window: Some("Mon-Fri 09:00-16:00".into()),
        missed: MissedRule::RunOnce,
        confirm: String::new(),
        paused: false,
        created_at: Timestamp(100),
        created_by: "root@local".into(),
        considered_until: Timestamp(100),
    }
}

fn a_tick(schedule: &ScheduleRecord, planned_at: i64, state: TickState) -> TickRecord {
    TickRecord {
        schedule: schedule.id.clone(),
        name: schedule.name.clone(),
        planned_at: Timestamp(planned_at),
        count: 1,
        manual: false,
        by: "schedule:weekly".into(),
        state,
        reason: None,
        message: None,
        run: None,
        decided_at: Timestamp(planned_at + 1),
    }
}

fn added(store: &mut dyn Store, name: &str) -> ScheduleRecord {
    let schedule = a_schedule(name);
    store.add_schedule(&schedule, &actor()).unwrap();
    schedule
}

/// States in the fleet log, in their order.
fn logged(store: &mut dyn Store) -> Vec<String> {
    let events = store.fleet_events(100).unwrap().into_iter();
    let words = events.filter_map(|event| match event.body {
        FleetEventBody::ScheduleChanged { change, .. } => Some(change),
        FleetEventBody::ScheduleTick { state, .. } => Some(state.as_str().to_owned()),
        FleetEventBody::FreezeChanged { change, reason, .. } => Some(format!("{change} {reason}")),
        _ => None,
    });
    words.collect()
}

fn a_schedule_has_its_name_alone(make: Make<'_>) {
    let mut store = make();
    assert_eq!(store.schedules().unwrap(), []);
    let weekly = added(store.as_mut(), "weekly");
    is_refused(store.add_schedule(&a_schedule("weekly"), &actor()), "taken");
    let early = added(store.as_mut(), "early");
    assert_eq!(store.schedules().unwrap(), [early.clone(), weekly.clone()]);
    assert_eq!(store.remove_schedule(&weekly.id, &actor(), Timestamp(9)).unwrap(), weekly);
    assert!(matches!(
        store.remove_schedule(&weekly.id, &actor(), Timestamp(9)),
        Err(StoreError::NotFound { .. })
    ));
    added(store.as_mut(), "weekly");
    assert_eq!(store.schedules().unwrap().len(), 2);
    assert_eq!(logged(store.as_mut()), ["added", "added", "removed", "added"]);
}

fn a_time_becomes_a_tick_once(make: Make<'_>) {
    let mut store = make();
    let (weekly, other) = (added(store.as_mut(), "weekly"), added(store.as_mut(), "other"));
    let ticks = [a_tick(&weekly, 150, TickState::Missed), a_tick(&weekly, 200, TickState::Due)];
    assert!(store.record_ticks(&weekly.id, Timestamp(100), Timestamp(210), &ticks).unwrap());
    assert!(!store.record_ticks(&weekly.id, Timestamp(100), Timestamp(210), &ticks).unwrap());
    assert_eq!(store.ticks(&weekly.id, 10).unwrap(), [ticks[1].clone(), ticks[0].clone()]);
    assert_eq!(store.ticks(&weekly.id, 1).unwrap(), [ticks[1].clone()]);
    assert_eq!(store.due_ticks().unwrap(), [ticks[1].clone()]);
    // A clock that went back decides the same time again: what is known of it stays.
    let again = [a_tick(&weekly, 200, TickState::Missed), a_tick(&weekly, 220, TickState::Due)];
    assert!(store.record_ticks(&weekly.id, Timestamp(210), Timestamp(230), &again).unwrap());
    assert_eq!(store.due_ticks().unwrap(), [ticks[1].clone(), again[1].clone()]);
    assert_eq!(store.ticks(&other.id, 10).unwrap(), []);
    assert_eq!(store.schedules().unwrap()[1].considered_until, Timestamp(230));
    assert_ne!(ticks[0].key(), ticks[1].key());
    assert_eq!(logged(store.as_mut()), ["added", "added", "missed", "due", "due"]);
}

fn a_pause_leaves_no_ticks_behind(make: Make<'_>) {
    let mut store = make();
    let weekly = added(store.as_mut(), "weekly");
    for _ in 0..2 {
        assert!(store.pause_schedule(&weekly.id, true, &actor(), Timestamp(150)).unwrap().paused);
    }
    let due = [a_tick(&weekly, 160, TickState::Due)];
    assert!(!store.record_ticks(&weekly.id, Timestamp(100), Timestamp(170), &due).unwrap());
    let resumed = store.pause_schedule(&weekly.id, false, &actor(), Timestamp(300)).unwrap();
    assert_eq!((resumed.paused, resumed.considered_until), (false, Timestamp(300)));
    assert_eq!(store.schedules().unwrap(), [resumed]);
    assert_eq!(store.ticks(&weekly.id, 10).unwrap(), []);
    assert_eq!(logged(store.as_mut()), ["added", "paused", "resumed"]);
    assert!(store.pause_schedule(&ScheduleId::generate(), true, &actor(), Timestamp(1)).is_err());
}

fn a_tick_ends_once(make: Make<'_>) {
    let mut store = make();
    let weekly = added(store.as_mut(), "weekly");
    let due = a_tick(&weekly, 150, TickState::Due);
    let started = TickRecord {
        state: TickState::Started,
        run: Some(RunId::generate()),
        ..due.clone()
    };
    let skipped = TickRecord {
        state: TickState::Skipped,
        reason: Some(SkipReason::Freeze),
        message: Some("year end".into()),
        ..due.clone()
    };
    is_refused(store.settle_tick(&started), "never due");
    store
        .record_ticks(&weekly.id, Timestamp(100), Timestamp(150), std::slice::from_ref(&due))
        .unwrap();
    is_refused(store.settle_tick(&due), "no end");
    assert_eq!(store.last_started(&weekly.id).unwrap(), None);
    for _ in 0..2 {
        store.settle_tick(&started).unwrap();
    }
    is_refused(store.settle_tick(&skipped), "started already");
    assert_eq!(store.due_ticks().unwrap(), []);
    assert_eq!(store.ticks(&weekly.id, 10).unwrap(), std::slice::from_ref(&started));
    let later = a_tick(&weekly, 250, TickState::Skipped);
    store
        .record_ticks(&weekly.id, Timestamp(150), Timestamp(250), std::slice::from_ref(&later))
        .unwrap();
    assert_eq!(store.last_started(&weekly.id).unwrap(), Some(started));
    assert_eq!(store.ticks(&weekly.id, 1).unwrap(), [later]);
    assert_eq!(logged(store.as_mut()), ["added", "due", "started", "skipped"]);
}

fn ticks_outlive_their_schedule(make: Make<'_>) {
    let mut store = make();
    let weekly = added(store.as_mut(), "weekly");
    let due = a_tick(&weekly, 150, TickState::Due);
    store
        .record_ticks(&weekly.id, Timestamp(100), Timestamp(150), std::slice::from_ref(&due))
        .unwrap();
    store.remove_schedule(&weekly.id, &actor(), Timestamp(160)).unwrap();
    assert_eq!(store.due_ticks().unwrap(), std::slice::from_ref(&due));
    assert!(!store.record_ticks(&weekly.id, Timestamp(150), Timestamp(170), &[]).unwrap());
    let skipped = TickRecord {
        state: TickState::Skipped,
        ..due
    };
    store.settle_tick(&skipped).unwrap();
    assert_eq!(store.ticks(&weekly.id, 10).unwrap(), [skipped]);
}

fn a_time_asked_for_twice_is_refused(make: Make<'_>) {
    let mut store = make();
    let weekly = added(store.as_mut(), "weekly");
    let asked = TickRecord {
        manual: true,
        by: "root@local".into(),
        ..a_tick(&weekly, 155, TickState::Due)
    };
    store.add_tick(&asked).unwrap();
    is_refused(store.add_tick(&asked), "already");
    assert_eq!(store.due_ticks().unwrap(), [asked]);
}

fn freezes_change_all_at_once(make: Make<'_>) {
    let mut store = make();
    let freeze = |from: i64, reason: &str| FreezeRecord {
        id: FreezeId::generate(),
        from: Timestamp(from),
        until: Timestamp(from + 50),
        reason: reason.into(),
        environment: Some("production".into()),
        calendar: None,
        created_at: Timestamp(1),
        created_by: "root@local".into(),
    };
    let (late, early, third) = (freeze(500, "late"), freeze(100, "early"), freeze(900, "third"));
    store
        .change_freezes(&[late.clone(), early.clone()], &[], &actor(), Timestamp(1))
        .unwrap();
    assert_eq!(store.freezes().unwrap(), [early.clone(), late.clone()]);
    let nobody = store.change_freezes(
        std::slice::from_ref(&third),
        &[early.id.clone(), FreezeId::generate()],
        &actor(),
        Timestamp(2),
    );
    assert!(matches!(nobody, Err(StoreError::NotFound { what: "freeze", .. })));
    assert_eq!(store.freezes().unwrap(), [early.clone(), late.clone()]);
    store
        .change_freezes(std::slice::from_ref(&third), &[early.id], &actor(), Timestamp(3))
        .unwrap();
    assert_eq!(store.freezes().unwrap(), [late, third]);
    assert_eq!(
        logged(store.as_mut()),
        ["added late", "added early", "removed early", "added third"]
    );
}
