//! Certificates that live for seconds: renewed while the session stays up, and bought again after they ended.

use std::time::Duration;

use controller_conductor::HostEvent;
use controller_dispatcher::DispatcherSettings;
use proto_transport::not_after_of;
use proto_wire::v1::RenewRequest;
use tonic::Code;

use crate::agent::{Agent, Bare, client, client_identity, hello, join};
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
