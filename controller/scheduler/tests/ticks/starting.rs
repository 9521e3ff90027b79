//! A crash between the decision and the start, and right after the start: one tick, one run at most, whatever happened.

use controller_store::ScheduleRecord;
use proto_model::schedule::{MissedRule, TickState};

use crate::world::{Will, World, actor, due, hourly, set};

/// A controller that has decided and dies as `will` says; what the next one finds.
async fn crashed(will: Will, rule: MissedRule) -> (tempfile::TempDir, ScheduleRecord) {
    let folder = tempfile::tempdir().unwrap();
    set("2026-11-23T10:30:00Z");
    let schedule = hourly(rule);
    let world = World::open(folder.path());
    let added = schedule.clone();
    world.store.call(move |store| store.add_schedule(&added, &actor())).await.unwrap();
    *world.fake.will.lock().unwrap() = will.clone();
    set("2026-11-23T11:00:01Z");
    let fake = world.fake.clone();
    world
        .beat_and_die(async |store| {
            let accepted = !store.call(|store| store.runs(10, true)).await.unwrap().is_empty();
            let due = !store.call(|store| store.due_ticks()).await.unwrap().is_empty();
            due && (accepted || (matches!(will, Will::Die) && *fake.planned.lock().unwrap() == 1))
        })
        .await;
    drop(fake);
    (folder, schedule)
}

#[tokio::test]
async fn a_crash_before_the_start_is_made_up_for_in_time() {
    let (folder, schedule) = crashed(Will::Die, MissedRule::Skip).await;
    set("2026-11-23T11:00:20Z");
    let mut world = World::open(folder.path());
    assert_eq!(world.words(&schedule).await, "due");
    for _ in 0..2 {
        world.beat().await;
    }
    assert_eq!((world.words(&schedule).await.as_str(), world.runs().await), ("started", 1));
}

#[tokio::test]
async fn a_crash_before_the_start_is_missed_when_it_took_too_long() {
    for (rule, expected, runs) in [(MissedRule::Skip, "missed", 0), (MissedRule::RunOnce, "started", 1)] {
        let (folder, schedule) = crashed(Will::Die, rule).await;
        set("2026-11-23T11:20:00Z");
        let mut world = World::open(folder.path());
        world.beat().await;
        assert_eq!((world.words(&schedule).await.as_str(), world.runs().await), (expected, runs));
    }
}

#[tokio::test]
async fn a_crash_right_after_the_start_finds_its_run_again() {
    let (folder, schedule) = crashed(Will::StartAndDie, MissedRule::RunOnce).await;
    set("2026-11-23T11:20:00Z");
    let mut world = World::open(folder.path());
    let run = world.store.call(|store| store.runs(10, false)).await.unwrap().remove(0).id;
    for _ in 0..2 {
        world.beat().await;
    }
    assert_eq!((world.words(&schedule).await.as_str(), world.runs().await), ("started", 1));
    assert_eq!(world.ticks(&schedule).await.remove(0).run, Some(run));
    assert_eq!(
        *world.fake.planned.lock().unwrap(),
        0,
        "nothing is planned for a tick that has its run"
    );
}

#[tokio::test]
async fn a_tick_is_carried_out_by_one_at_a_time() {
    set("2026-11-23T10:30:00Z");
    let folder = tempfile::tempdir().unwrap();
    let world = World::open(folder.path());
    let schedule = hourly(MissedRule::Skip);
    let added = schedule.clone();
    world.store.call(move |store| store.add_schedule(&added, &actor())).await.unwrap();
    let asked = due(&schedule, true);
    let due = asked.clone();
    world.store.call(move |store| store.add_tick(&due)).await.unwrap();
    let carry = || world.scheduler.carry_out(world.fake.as_ref(), asked.clone());
    let (one, other) = tokio::join!(carry(), carry());
    let mut states = [one.unwrap().state, other.unwrap().state].map(TickState::as_str);
    states.sort_unstable();
    assert_eq!(states, ["due", "started"]);
    assert_eq!(world.runs().await, 1);
}
