//! Which times become which ticks: in time, too late, after a pause, when the clock goes back, and what stands in the way.

use controller_store::{FreezeRecord, ScheduleRecord};
use proto_model::document::{ErrorBody, HostError};
use proto_model::id::{FreezeId, HostName};
use proto_model::schedule::MissedRule;

use crate::world::{Meanwhile, Will, World, actor, at, due, hourly, set};

async fn with(schedule: &ScheduleRecord) -> (World, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let world = World::open(folder.path());
    let schedule = schedule.clone();
    world
        .store
        .call(move |store| store.add_schedule(&schedule, &actor()))
        .await
        .unwrap();
    (world, folder)
}

#[tokio::test]
async fn a_time_that_comes_is_started_once() {
    set("2026-11-23T10:30:00Z");
    let schedule = hourly(MissedRule::Skip);
    let (mut world, _folder) = with(&schedule).await;
    set("2026-11-23T10:59:59Z");
    world.beat().await;
    assert_eq!(world.words(&schedule).await, "");
    set("2026-11-23T11:00:00Z");
    for _ in 0..3 {
        world.beat().await;
    }
    assert_eq!(world.words(&schedule).await, "started");
    assert_eq!(world.runs().await, 1);
    let tick = world.ticks(&schedule).await.remove(0);
    assert_eq!(tick.planned_at, at("2026-11-23T11:00:00Z"));
    let key = tick.key();
    assert_eq!(world.store.call(move |store| store.run_by_key(&key)).await.unwrap(), tick.run);
    assert_eq!(tick.by, "schedule:hourly");
}

#[tokio::test]
async fn the_run_before_it_has_to_be_over() {
    set("2026-11-23T10:30:00Z");
    let schedule = hourly(MissedRule::Skip);
    let (mut world, _folder) = with(&schedule).await;
    for hour in ["11", "12"] {
        set(&format!("2026-11-23T{hour}:00:05Z"));
        world.beat().await;
    }
    assert_eq!(world.words(&schedule).await, "started skipped:previous_running");
    world.finish_all().await;
    set("2026-11-23T13:00:05Z");
    world.beat().await;
    assert_eq!(world.words(&schedule).await, "started skipped:previous_running started");
}

#[tokio::test]
async fn what_was_missed_is_skipped_or_run_once() {
    for (rule, expected) in [(MissedRule::Skip, "missed*5"), (MissedRule::RunOnce, "missed*4 started")] {
        set("2026-11-23T10:30:00Z");
        let schedule = hourly(rule);
        let (mut world, _folder) = with(&schedule).await;
        set("2026-11-23T15:30:00Z");
        for _ in 0..2 {
            world.beat().await;
        }
        assert_eq!(world.words(&schedule).await, expected);
        let newest = world.ticks(&schedule).await.remove(0);
        assert_eq!(newest.planned_at, at("2026-11-23T15:00:00Z"), "{expected}");
    }
}

#[tokio::test]
async fn the_last_of_many_is_still_in_time() {
    set("2026-11-23T10:30:00Z");
    let schedule = hourly(MissedRule::Skip);
    let (mut world, _folder) = with(&schedule).await;
    set("2026-11-23T13:00:59Z");
    world.beat().await;
    assert_eq!(world.words(&schedule).await, "missed*2 started");
}

#[tokio::test]
async fn a_pause_plans_nothing() {
    set("2026-11-23T10:30:00Z");
    let schedule = hourly(MissedRule::RunOnce);
    let (mut world, _folder) = with(&schedule).await;
    let paused_at = set("2026-11-23T10:40:00Z");
    let id = schedule.id.clone();
    world
        .store
        .call(move |store| store.pause_schedule(&id, true, &actor(), paused_at))
        .await
        .unwrap();
    set("2026-11-23T12:00:10Z");
    world.beat().await;
    let resumed_at = set("2026-11-23T12:30:00Z");
    let id = schedule.id.clone();
    world
        .store
        .call(move |store| store.pause_schedule(&id, false, &actor(), resumed_at))
        .await
        .unwrap();
    world.beat().await;
    assert_eq!(world.words(&schedule).await, "");
    set("2026-11-23T13:00:10Z");
    world.beat().await;
    assert_eq!(world.words(&schedule).await, "started");
}

#[tokio::test]
async fn a_clock_that_goes_back_starts_nothing_twice() {
    set("2026-11-23T10:30:00Z");
    let schedule = hourly(MissedRule::Skip);
    let (mut world, _folder) = with(&schedule).await;
    set("2026-11-23T11:00:10Z");
    world.beat().await;
    world.finish_all().await;
    set("2026-11-23T10:59:50Z");
    world.beat().await;
    set("2026-11-23T11:00:10Z");
    world.beat().await;
    assert_eq!((world.words(&schedule).await.as_str(), world.runs().await), ("started", 1));
    // A clock that had been a month ahead by mistake: times are planned again, the known one is left alone.
    set("2026-12-23T11:30:00Z");
    world.beat().await;
    set("2026-11-23T10:59:00Z");
    world.beat().await;
    set("2026-11-23T11:00:10Z");
    world.beat().await;
    set("2026-11-23T12:00:10Z");
    world.beat().await;
    assert_eq!(world.runs().await, 2);
}

fn freeze(environment: Option<&str>) -> FreezeRecord {
    FreezeRecord {
        id: FreezeId::generate(),
        from: at("2026-11-23T11:00:00Z"),
        until: at("2026-11-23T12:00:00Z"),
        reason: "year end".into(),
        environment: environment.map(str::to_owned),
        calendar: None,
        created_at: at("2026-11-23T10:00:00Z"),
        created_by: "root@local".into(),
    }
}

#[tokio::test]
async fn a_freeze_holds_in_its_environment_until_its_end() {
    for (of, schedules, expected) in [
        (None, Some("staging"), "skipped:freeze started"),
        (Some("staging"), Some("staging"), "skipped:freeze started"),
        // Where the file names no environment, that of the plan is asked.
        (Some("staging"), None, "skipped:freeze started"),
        (Some("production"), Some("staging"), "started skipped:previous_running"),
    ] {
        let now = set("2026-11-23T10:30:00Z");
        let schedule = ScheduleRecord {
            environment: schedules.map(str::to_owned),
            ..hourly(MissedRule::Skip)
        };
        let (mut world, _folder) = with(&schedule).await;
        world
            .store
            .call(move |store| store.change_freezes(&[freeze(of)], &[], &actor(), now))
            .await
            .unwrap();
        for time in ["2026-11-23T11:00:00Z", "2026-11-23T12:00:00Z"] {
            set(time);
            world.beat().await;
        }
        assert_eq!(world.words(&schedule).await, expected, "{of:?} {schedules:?}");
    }
}

#[tokio::test]
async fn what_is_set_while_it_is_planned_still_holds() {
    set("2026-11-23T10:30:00Z");
    let schedule = ScheduleRecord {
        window: Some("Mon-Fri 09:00-11:30".into()),
        ..hourly(MissedRule::Skip)
    };
    for (meanwhile, expected, word) in [
        (Meanwhile::Freeze(freeze(None)), "skipped:freeze", "year end"),
        (Meanwhile::Freeze(freeze(Some("staging"))), "skipped:freeze", "staging is frozen"),
        (Meanwhile::Freeze(freeze(Some("production"))), "started", ""),
        (Meanwhile::Pause(schedule.id.clone()), "skipped:refused", "was paused"),
        (Meanwhile::Remove(schedule.id.clone()), "skipped:refused", "was removed"),
        (Meanwhile::Until("2026-11-23T11:31:00Z"), "skipped:window", "09:00-11:30"),
        (Meanwhile::Until("2026-11-23T11:01:00Z"), "started", ""),
    ] {
        set("2026-11-23T10:30:00Z");
        let (mut world, _folder) = with(&schedule).await;
        *world.fake.meanwhile.lock().unwrap() = Some(meanwhile);
        set("2026-11-23T11:00:00Z");
        world.beat().await;
        assert_eq!(*world.fake.planned.lock().unwrap(), 1, "{expected} {word}");
        assert_eq!(world.words(&schedule).await, expected, "{word}");
        assert_eq!(world.runs().await, usize::from(expected == "started"), "{expected} {word}");
        let message = world.ticks(&schedule).await.remove(0).message.unwrap_or_default();
        assert!(message.contains(word), "{message}");
    }
}

#[tokio::test]
async fn a_pause_holds_for_a_tick_that_is_due_and_not_for_whoever_asks_for_one() {
    for (manual, expected) in [(false, "skipped:refused"), (true, "started")] {
        let now = set("2026-11-23T10:30:00Z");
        let schedule = hourly(MissedRule::Skip);
        let (mut world, _folder) = with(&schedule).await;
        let due = due(&schedule, manual);
        world.store.call(move |store| store.add_tick(&due)).await.unwrap();
        let id = schedule.id.clone();
        world
            .store
            .call(move |store| store.pause_schedule(&id, true, &actor(), now))
            .await
            .unwrap();
        world.beat().await;
        assert_eq!(world.words(&schedule).await, expected);
    }
}

#[tokio::test]
async fn outside_of_its_window_nothing_starts() {
    // 2026-11-23 is a Monday; 11:00 UTC is 12:00 in Berlin.
    set("2026-11-23T10:30:00Z");
    let schedule = ScheduleRecord {
        timezone: "Europe/Berlin".into(),
        window: Some("Mon-Fri 09:00-12:30".into()),
        ..hourly(MissedRule::Skip)
    };
    let (mut world, _folder) = with(&schedule).await;
    for time in ["2026-11-23T11:00:00Z", "2026-11-23T12:00:00Z"] {
        set(time);
        world.beat().await;
        world.finish_all().await;
    }
    assert_eq!(world.words(&schedule).await, "started skipped:window");
    let message = world.ticks(&schedule).await.remove(0).message.unwrap();
    assert!(message.contains("Mon-Fri") && message.contains("Europe/Berlin"), "{message}");
}

#[tokio::test]
async fn a_halt_is_a_reason_of_its_own_and_nothing_is_planned() {
    set("2026-11-23T10:30:00Z");
    let schedule = hourly(MissedRule::Skip);
    let (mut world, _folder) = with(&schedule).await;
    *world.fake.halted.lock().unwrap() = Some("halted by root@local: drill".into());
    set("2026-11-23T11:00:00Z");
    world.beat().await;
    assert_eq!(world.words(&schedule).await, "skipped:halted");
    assert_eq!(*world.fake.planned.lock().unwrap(), 0);
}

#[tokio::test]
async fn a_refusal_is_recorded_in_its_own_words() {
    let busy = |code: &str| HostError {
        name: HostName::parse("web").unwrap(),
        code: code.into(),
        message: "web is under run 7h2k9w3f8v1q0abc".into(),
    };
    let with_hosts = |code: &str, hosts: Vec<HostError>| ErrorBody {
        hosts,
        ..ErrorBody::new(code, "no room")
    };
    for (refusal, expected, word) in [
        (
            with_hosts("conflict", vec![busy("conflict")]),
            "skipped:claim_busy",
            "7h2k9w3f8v1q0abc",
        ),
        (with_hosts("unhealthy", vec![busy("injected")]), "skipped:claim_busy", "no room"),
        (
            with_hosts("unhealthy", vec![busy("injected"), busy("lost")]),
            "skipped:refused",
            "no room",
        ),
        (with_hosts("unattended", vec![]), "skipped:unattended", "no room"),
        (with_hosts("no_targets", vec![]), "skipped:refused", "no room"),
    ] {
        set("2026-11-23T10:30:00Z");
        let schedule = hourly(MissedRule::Skip);
        let (mut world, _folder) = with(&schedule).await;
        *world.fake.will.lock().unwrap() = Will::Refuse(refusal);
        set("2026-11-23T11:00:00Z");
        world.beat().await;
        assert_eq!(world.words(&schedule).await, expected);
        let message = world.ticks(&schedule).await.remove(0).message.unwrap();
        assert!(message.contains(word), "{message}");
    }
}
