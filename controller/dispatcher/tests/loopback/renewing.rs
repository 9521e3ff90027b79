//! Certificates that live for seconds: renewed while the session stays up, and bought again after they ended.

use std::time::Duration;

use controller_conductor::HostEvent;
use controller_dispatcher::DispatcherSettings;
use proto_model::host::HostFacts;
use proto_model::time::Timestamp;
use proto_transport::not_after_of;
use proto_wire::v1::RenewRequest;
use tonic::Code;

use crate::agent::{Agent, Bare, Told, client, client_identity, hello, join};
use crate::controller::{Controller, SETTINGS, now};
use crate::eventually;

const SHORT: DispatcherSettings = DispatcherSettings {
    certificate_ms: 3_000,
    ..SETTINGS
};

#[tokio::test]
async fn a_session_outlives_its_certificate_and_the_next_dial_has_the_new_one() {
    let (dir, host) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut controller = Controller::start_with(dir.path(), SHORT, "127.0.0.1:0".parse().unwrap()).await;
    join(host.path(), controller.address, &controller.token(1, 60_000).await, "web")
        .await
        .unwrap();
    let end = |dir| not_after_of(&client_identity(dir).certificate).unwrap();
    let first = end(host.path());
    let _agent = Agent::start(host.path());
    eventually("a session", || controller.is_connected("web")).await;
    eventually("the first certificate has ended", || now() > first.plus_ms(1_000)).await;
    assert!(controller.is_connected("web") && end(host.path()) > first);
    while let Ok(said) = controller.said.try_recv() {
        assert!(!matches!(said, HostEvent::Lost { .. }), "the session stayed up");
    }
    let address = controller.killed().await;
    let controller = Controller::start_with(dir.path(), SHORT, address).await;
    eventually("it is back with a newer certificate", || controller.is_connected("web")).await;
}

#[tokio::test]
async fn a_host_that_slept_too_long_renews_first_and_may_do_nothing_before() {
    let (dir, host) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let brief = DispatcherSettings {
        certificate_ms: 1_000,
        ..SETTINGS
    };
    let controller = Controller::start_with(dir.path(), brief, "127.0.0.1:0".parse().unwrap()).await;
    let enrolled = join(host.path(), controller.address, &controller.token(1, 60_000).await, "web")
        .await
        .unwrap();
    eventually("the certificate has ended", || now() > enrolled.not_after.plus_ms(1_100)).await;
    let refused = Bare::dial(host.path(), controller.address, hello("i", "n")).await.err().unwrap();
    assert!(
        refused.code() == Code::Unauthenticated && refused.message().contains("expired"),
        "{refused}"
    );
    let address = controller.killed().await;
    let controller = Controller::start_with(dir.path(), SETTINGS, address).await;
    let _agent = Agent::start(host.path());
    eventually("a session with a new certificate", || controller.is_connected("web")).await;
}

#[tokio::test]
async fn a_renewal_keeps_its_key() {
    let (dir, host) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let controller = Controller::start(dir.path()).await;
    join(host.path(), controller.address, &controller.token(1, 60_000).await, "web")
        .await
        .unwrap();
    let (_, csr_der) = proto_transport::csr().unwrap();
    let mut client = client(host.path(), controller.address).await;
    let refused = tokio::time::timeout(Duration::from_secs(5), client.renew(RenewRequest { csr_der })).await;
    assert_eq!(refused.unwrap().unwrap_err().code(), Code::PermissionDenied);
}

const AHEAD_MS: u64 = 2 * 24 * 3_600_000;

/// A host two days ahead, whose own clock says that every certificate here has ended.
fn two_days_ahead() -> Timestamp {
    now().plus_ms(AHEAD_MS)
}

#[tokio::test]
async fn a_host_whose_clock_is_days_ahead_keeps_its_session_and_its_certificate() {
    let (dir, host) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let controller = Controller::start(dir.path()).await;
    join(host.path(), controller.address, &controller.token(1, 60_000).await, "web")
        .await
        .unwrap();
    let first = client_identity(host.path()).certificate;
    let _agent = Agent::start_at(host.path(), Told::default(), two_days_ahead, HostFacts::default);
    eventually("a session", || controller.is_connected("web")).await;
    let offset = controller.host("web").unwrap().clock_offset_ms.unwrap();
    let expected = i64::try_from(AHEAD_MS).unwrap();
    assert!((expected - offset).abs() < 30_000, "the host is shown as {offset} ms ahead");
    // As long as a renewal by the host's clock would take many times over.
    let until = now().plus_ms(1_500);
    eventually("time enough for a renewal", || now() > until).await;
    assert_eq!(
        client_identity(host.path()).certificate,
        first,
        "nothing was due by the controller's clock"
    );
    assert!(controller.is_connected("web"));
}
