//! A store that comes back from a copy: later than everything before it, and nothing of the old order is obeyed again.

use controller_conductor::{GatewayError, HostEvent};
use proto_model::id::RunId;
use proto_wire::v1;

use crate::agent::{Agent, Bare, hello};
use crate::controller::{Controller, SETTINGS};
use crate::eventually;
use crate::sessions::{injection, joined, start};

fn returned(said: HostEvent) -> Option<()> {
    matches!(said, HostEvent::Returned { .. }).then_some(())
}

/// The last one to close a store brings its log home.
async fn closed(dir: &std::path::Path) {
    eventually("the store is closed", || !dir.join("store.db-wal").exists()).await;
}

#[tokio::test]
async fn a_restored_store_is_obeyed_and_the_one_it_replaces_no_longer() {
    let (dir, host, controller) = joined().await;
    let before = controller.store.call(|store| store.epoch()).await.unwrap();
    let address = controller.killed().await;
    let (store, copy) = (dir.path().join("store.db"), dir.path().join("copy.db"));
    closed(dir.path()).await;
    std::fs::copy(&store, &copy).unwrap();

    // The original goes on for a while, and the host obeys it.
    let mut original = Controller::start_with(dir.path(), SETTINGS, address).await;
    let agent = Agent::start(host.path());
    original.hears("the session", returned).await;
    start(&original, &injection(), &RunId::generate()).await.unwrap();
    eventually("it acts", || agent.script().active.len() == 1).await;
    let of_original = original.store.call(|store| store.epoch()).await.unwrap();
    let address = original.killed().await;

    closed(dir.path()).await;
    std::fs::copy(&copy, &store).unwrap();
    let mut restored = Controller::start_with(dir.path(), SETTINGS, address).await;
    let now = restored.store.call(|store| store.epoch()).await.unwrap();
    assert!(before < of_original && of_original < now, "{before} {of_original} {now}");
    restored.hears("the session again", returned).await;
    eventually("the orphan is stopped", || agent.script().active.is_empty()).await;
    start(&restored, &injection(), &RunId::generate()).await.unwrap();
    eventually("the restored one is obeyed", || agent.script().active.len() == 1).await;
}

#[tokio::test]
async fn a_copy_that_still_runs_elsewhere_gives_no_faults_to_hosts_that_know_better() {
    let (_dir, host, controller) = joined().await;
    let late = v1::Hello {
        store_epoch: controller.store.call(|store| store.epoch()).await.unwrap() + 1,
        ..hello("i", "n")
    };
    let _bare = Bare::dial(host.path(), controller.address, late).await.unwrap();
    let refused = start(&controller, &injection(), &RunId::generate()).await.unwrap_err();
    assert!(
        matches!(&refused, GatewayError::OrderRefused { code, .. } if code == "stale_store_epoch"),
        "{refused}"
    );
}
