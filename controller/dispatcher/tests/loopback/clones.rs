//! Two whole agents with one identity, as after a copied disk: both are named, nothing starts on either, and both can be stopped.

use controller_conductor::{GatewayError, HostGateway};
use proto_model::event::FleetEventBody;
use proto_model::id::{InjectionId, RunId};
use proto_model::injection::EndedBy;

use crate::agent::Agent;
use crate::controller::{name, now};
use crate::eventually;
use crate::sessions::{injection, joined, start};

/// What a copied disk has: the same key and certificate.
fn copied(from: &std::path::Path) -> tempfile::TempDir {
    let to = tempfile::tempdir().unwrap();
    std::fs::create_dir(to.path().join("identity")).unwrap();
    for file in std::fs::read_dir(from.join("identity")).unwrap() {
        let file = file.unwrap();
        std::fs::copy(file.path(), to.path().join("identity").join(file.file_name())).unwrap();
    }
    to
}

#[tokio::test]
async fn two_agents_with_one_identity_are_named_and_kept_from_starting_and_both_hear_stops_and_halts() {
    let (_dir, host, controller) = joined().await;
    let one = Agent::start(host.path());
    eventually("a session", || controller.is_connected("web")).await;
    start(&controller, &injection(), &RunId::generate()).await.unwrap();
    eventually("it acts", || one.script().active.len() == 1).await;
    let copy = copied(host.path());
    let two = Agent::start(copy.path());
    eventually("the clone is named", || {
        controller.host("web").unwrap().note.is_some_and(|note| note.contains("boot-1"))
    })
    .await;
    assert!(controller.is_connected("web"));
    for refused in [
        start(&controller, &injection(), &RunId::generate()).await.unwrap_err(),
        controller.dispatcher.preflight(&name("web"), vec![]).await.unwrap_err(),
    ] {
        assert!(
            matches!(&refused, GatewayError::OrderRefused { code, .. } if code == "clone"),
            "{refused}"
        );
    }
    let log = controller.store.call(|store| store.fleet_events(50)).await.unwrap();
    let seen = log
        .iter()
        .filter(|event| matches!(&event.body, FleetEventBody::HostCloneSeen { host, .. } if host == &name("web")));
    assert_eq!(seen.count(), 1);
    let id = InjectionId::generate();
    controller.dispatcher.stop(&name("web"), &id, EndedBy::Stop).await.unwrap();
    let halt = controller.latch.get().engage("ann", "clone", now());
    // The clone answers first, and the host itself is still waited for.
    one.script().stuck = true;
    let (dispatcher, state) = (controller.dispatcher.clone(), halt.clone());
    let halted = tokio::spawn(async move { dispatcher.halt(state, 10_000).await });
    eventually("the clone is halted", || two.was_told(&format!("halt {}", halt.epoch))).await;
    tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    assert!(!halted.is_finished(), "the clone's answer is not the host's");
    one.script().stuck = false;
    assert_eq!(halted.await.unwrap().answered, [name("web")]);
    for agent in [&one, &two] {
        eventually("each hears the stop and the halt", || {
            agent.was_told(&format!("stop {id} stop")) && agent.was_told(&format!("halt {}", halt.epoch))
        })
        .await;
    }
    assert!(one.script().active.is_empty(), "what acted was undone by the halt");
    assert_eq!(two.script().told.iter().filter(|told| told.starts_with("start")).count(), 0);
    drop(two);
    eventually("alone again", || controller.host("web").unwrap().note.is_none()).await;
    assert!(controller.is_connected("web"));
}
