//! The halt: before everything else, to everybody, also to those who come later.

use controller_conductor::{GatewayError, HostEvent, HostGateway};
use proto_model::id::RunId;
use proto_wire::v1;
use proto_wire::v1::agent_message::Body;
use proto_wire::v1::controller_message::Body as Order;

use crate::agent::{Agent, Bare, Told, hello, join};
use crate::controller::{Controller, SETTINGS, name, now};
use crate::eventually;
use crate::sessions::{injection, joined, start};

#[tokio::test]
async fn a_halt_reaches_those_who_are_there_and_those_who_come_later() {
    let (dir, host, controller) = joined().await;
    let agent = Agent::start(host.path());
    eventually("a session", || controller.is_connected("web")).await;
    start(&controller, &injection(), &RunId::generate()).await.unwrap();
    eventually("it acts", || !agent.script().active.is_empty()).await;
    let halt = controller.latch.get().engage("ann", "smoke", now());
    controller.latch.set(halt.clone()).unwrap();
    let outcome = controller.dispatcher.halt(halt.clone(), 5_000).await;
    assert_eq!(
        (outcome.told, outcome.answered, outcome.undone),
        (vec![name("web")], vec![name("web")], 1)
    );
    let refused = start(&controller, &injection(), &RunId::generate()).await.unwrap_err();
    assert_eq!(refused, GatewayError::Halted("smoke".into()));

    // Neither a restart of the controller nor another agent process forgets it.
    let address = controller.killed().await;
    drop(agent);
    let controller = Controller::start_with(dir.path(), SETTINGS, address).await;
    assert_eq!(controller.latch.get(), halt);
    let later = Agent::start_with(host.path(), Told::default());
    eventually("the newcomer is halted", || later.was_told(&format!("halt {}", halt.epoch))).await;
    let release = halt.release("ann", "was steam", now());
    controller.latch.set(release.clone()).unwrap();
    let outcome = controller.dispatcher.halt(release, 5_000).await;
    assert_eq!(outcome.answered, [name("web")]);
    assert!(later.script().halted.is_none());
    start(&controller, &injection(), &RunId::generate()).await.unwrap();
    eventually("faults may start again", || !later.script().active.is_empty()).await;
}

#[tokio::test]
async fn a_halt_does_not_wait_for_the_silent() {
    let (_dir, host, controller) = joined().await;
    let mut bare = Bare::dial(host.path(), controller.address, hello("i", "n")).await.unwrap();
    let halt = controller.latch.get().engage("ann", "smoke", now());
    let epoch = halt.epoch;
    let outcome = controller.dispatcher.halt(halt, 200).await;
    assert!(
        outcome.told == [name("web")] && outcome.answered.is_empty() && outcome.took_ms < 1_000,
        "{outcome:?}"
    );
    assert_eq!(controller.dispatcher.silent(epoch), [name("web")]);
    let late = v1::HaltAnswer {
        epoch,
        halted: true,
        undone: 1,
        failed: 0,
    };
    bare.say(Body::Halt(late)).await;
    eventually("a late answer is taken", || controller.dispatcher.silent(epoch).is_empty()).await;
}

#[tokio::test]
async fn a_newer_halt_that_only_a_host_remembers_holds_for_everybody() {
    let (_dir, host, mut controller) = joined().await;
    let remembers = v1::Hello {
        halt_epoch: 9,
        halted: true,
        halt_reason: "smoke".into(),
        ..hello("i", "n")
    };
    let _bare = Bare::dial(host.path(), controller.address, remembers).await.unwrap();
    let state = controller.latch.get();
    assert!(state.engaged && state.epoch == 9 && state.reason.contains("smoke"), "{state:?}");
    assert_eq!(controller.store.call(|store| store.halt()).await.unwrap(), state);
    let refused = start(&controller, &injection(), &RunId::generate()).await.unwrap_err();
    assert!(matches!(refused, GatewayError::Halted(_)));
    let heard = controller.hears("what ends the runs", |said| match said {
        HostEvent::Halted(halt) => Some(halt),
        _ => None,
    });
    assert_eq!(heard.await, state);
}

#[tokio::test]
async fn one_host_halts_the_fleet_once_and_everybody_hears_of_it() {
    let (_dir, host, controller) = joined().await;
    let other = tempfile::tempdir().unwrap();
    let token = controller.token(1, 60_000).await;
    join(other.path(), controller.address, &token, "db").await.unwrap();
    let agent = Agent::start(other.path());
    eventually("a session", || controller.is_connected("db")).await;
    let claims = |epoch: u64, nonce: &str| v1::Hello {
        halt_epoch: epoch,
        halted: true,
        halt_reason: "smoke".into(),
        ..hello("i", nonce)
    };
    let _first = Bare::dial(host.path(), controller.address, claims(9, "n")).await.unwrap();
    eventually("the other host is halted too", || agent.was_told("halt 9")).await;
    for again in 0..3 {
        let release = controller.latch.get().release("ann", "was steam", now());
        controller.latch.set(release.clone()).unwrap();
        controller.dispatcher.halt(release.clone(), 1_000).await;
        let _again = Bare::dial(host.path(), controller.address, claims(release.epoch + 1, &format!("m{again}")))
            .await
            .unwrap();
        assert!(!controller.latch.get().engaged, "halted again by the word of one host");
        assert!(agent.script().halted.is_none());
    }
}

#[tokio::test]
async fn a_release_that_a_host_has_seen_but_not_obeyed_is_told_again() {
    let (_dir, host, controller) = joined().await;
    let halt = controller.latch.get().engage("ann", "smoke", now());
    let release = halt.release("ann", "was steam", now());
    controller.latch.set(halt).unwrap();
    controller.latch.set(release.clone()).unwrap();
    let still_halted = v1::Hello {
        halt_epoch: release.epoch,
        halted: true,
        halt_reason: "smoke".into(),
        ..hello("i", "n")
    };
    let mut bare = Bare::dial(host.path(), controller.address, still_halted).await.unwrap();
    let told = loop {
        let order = bare.order().await.unwrap().expect("a release before the end");
        if matches!(order.body, Some(Order::Release(_))) {
            break order.halt_epoch;
        }
    };
    assert_eq!(told, release.epoch);
    assert!(!controller.latch.get().engaged);
}
