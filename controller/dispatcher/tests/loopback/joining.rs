//! Who may join, and what a refusal costs and gives away.

use std::os::unix::fs::PermissionsExt;

use agent_session::EnrolError;
use controller_conductor::HostGateway;
use proto_model::host::Membership;
use proto_transport::{Authority, JoinToken, Trust, connect};
use proto_wire::v1::RenewRequest;
use proto_wire::v1::agents_client::AgentsClient;
use tonic::Code;

use crate::agent::{Agent, Bare, client, hello, join};
use crate::controller::{Controller, actor, identity, name, now};
use crate::eventually;

async fn refusal(dir: &std::path::Path, controller: &Controller, token: &JoinToken, host: &str) -> String {
    join(dir, controller.address, token, host).await.unwrap_err().to_string()
}

#[tokio::test]
async fn a_token_buys_an_identity_that_is_kept_private() {
    let (dir, host) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let controller = Controller::start(dir.path()).await;
    let token = controller.token(2, 60_000).await;
    let enrolled = join(host.path(), controller.address, &token, "Web").await.unwrap();
    assert_eq!(enrolled.host, name("web"));
    for file in ["key.pem", "cert.pem", "authority.pem", "controller"] {
        let mode = std::fs::metadata(identity(host.path()).join(file)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{file}");
    }
    let records = controller.store.hosts().await.unwrap();
    assert_eq!(records[0].labels["env"], "staging");
    assert_eq!(controller.used(&token).await, 1);
    // The answer may have been lost on its way: the same key may ask again.
    join(host.path(), controller.address, &token, "web").await.unwrap();
    assert_eq!((controller.used(&token).await, controller.dispatcher.hosts().len()), (2, 1));
}

#[tokio::test]
async fn used_up_expired_and_unknown_tokens_buy_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let controller = Controller::start(dir.path()).await;
    let host = || tempfile::tempdir().unwrap();
    let once = controller.token(1, 60_000).await;
    join(host().path(), controller.address, &once, "a").await.unwrap();
    assert!(refusal(host().path(), &controller, &once, "b").await.contains("no uses left"));
    let expired = controller.token(1, 0).await;
    assert!(refusal(host().path(), &controller, &expired, "b").await.contains("expired"));
    let revoked = controller.token(1, 60_000).await;
    controller.store.revoke_token(&revoked.id, &actor(), now()).await.unwrap();
    assert!(refusal(host().path(), &controller, &revoked, "b").await.contains("revoked"));
    let unknown = JoinToken::generate(&controller.authority.fingerprint());
    assert!(refusal(host().path(), &controller, &unknown, "b").await.contains("not valid"));
    assert_eq!(controller.dispatcher.hosts().len(), 1);
}

#[tokio::test]
async fn a_token_of_another_authority_never_shows_its_secret() {
    let (dir, other, host) = (
        tempfile::tempdir().unwrap(),
        tempfile::tempdir().unwrap(),
        tempfile::tempdir().unwrap(),
    );
    let controller = Controller::start(dir.path()).await;
    let foreign = Authority::open_or_create(other.path(), now()).unwrap();
    let mut token = controller.token(1, 60_000).await;
    token.fingerprint = foreign.fingerprint();
    let error = join(host.path(), controller.address, &token, "web").await.unwrap_err();
    assert!(matches!(error, EnrolError::Connect(_)), "{error}");
    assert_eq!(controller.used(&token).await, 0);
    assert!(!identity(host.path()).join("cert.pem").exists());
}

#[tokio::test]
async fn a_taken_name_is_refused_by_name_costs_no_use_and_is_no_secret_given_away() {
    let (dir, first, second) = (
        tempfile::tempdir().unwrap(),
        tempfile::tempdir().unwrap(),
        tempfile::tempdir().unwrap(),
    );
    let controller = Controller::start(dir.path()).await;
    let token = controller.token(5, 60_000).await;
    join(first.path(), controller.address, &token, "web").await.unwrap();
    let why = refusal(second.path(), &controller, &token, "web").await;
    assert!(why.contains("web") && why.contains("another key"), "{why}");
    assert_eq!(controller.used(&token).await, 1);
    let guess = JoinToken::generate(&controller.authority.fingerprint());
    assert!(refusal(second.path(), &controller, &guess, "web").await.contains("not valid"));
    assert!(refusal(second.path(), &controller, &token, "../x").await.contains("host name"));
}

#[tokio::test]
async fn one_address_cannot_try_for_ever() {
    let dir = tempfile::tempdir().unwrap();
    let controller = Controller::start(dir.path()).await;
    let guess = JoinToken::generate(&controller.authority.fingerprint());
    let mut slowed = false;
    for _ in 0..40 {
        let host = tempfile::tempdir().unwrap();
        slowed |= refusal(host.path(), &controller, &guess, "web").await.contains("too many");
    }
    assert!(slowed);
}

#[tokio::test]
async fn without_an_identity_of_ours_nothing_answers() {
    let (dir, foreign_dir, host) = (
        tempfile::tempdir().unwrap(),
        tempfile::tempdir().unwrap(),
        tempfile::tempdir().unwrap(),
    );
    let controller = Controller::start(dir.path()).await;
    let trust = || Trust::Authority(controller.authority.certificate().clone());
    let channel = connect(&controller.address.to_string(), trust(), None).await.unwrap();
    let mut nobody = AgentsClient::new(channel);
    let renewal = nobody.renew(RenewRequest::default()).await.unwrap_err();
    assert_eq!(renewal.code(), Code::Unauthenticated);
    let session = nobody.session(tokio_stream::empty()).await.unwrap_err();
    assert_eq!(session.code(), Code::Unauthenticated);

    let foreign = Controller::start(foreign_dir.path()).await;
    join(host.path(), foreign.address, &foreign.token(1, 60_000).await, "web")
        .await
        .unwrap();
    let stranger = crate::agent::client_identity(host.path());
    // The handshake fails with the first thing that is said.
    let refused = match connect(&controller.address.to_string(), trust(), Some(&stranger)).await {
        Ok(channel) => AgentsClient::new(channel).renew(RenewRequest::default()).await.is_err(),
        Err(_) => true,
    };
    assert!(refused && controller.dispatcher.hosts().is_empty());
}

#[tokio::test]
async fn a_locked_host_is_cut_off_at_once_and_stays_out() {
    let (dir, host) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let controller = Controller::start(dir.path()).await;
    join(host.path(), controller.address, &controller.token(1, 60_000).await, "web")
        .await
        .unwrap();
    let _agent = Agent::start(host.path());
    eventually("a session", || controller.is_connected("web")).await;
    let mut record = controller.store.hosts().await.unwrap().remove(0);
    record.membership = Membership::Locked;
    controller.save(&record).await;
    eventually("the session has ended", || !controller.is_connected("web")).await;
    let refused = Bare::dial(host.path(), controller.address, hello("i", "n")).await.err().unwrap();
    assert!(
        refused.code() == Code::PermissionDenied && refused.message().contains("locked"),
        "{refused}"
    );
    let renewal = client(host.path(), controller.address).await.renew(RenewRequest::default()).await;
    assert_eq!(renewal.unwrap_err().code(), Code::PermissionDenied);
    let again = controller.token(1, 60_000).await;
    assert!(refusal(host.path(), &controller, &again, "web").await.contains("locked"));
}

#[tokio::test]
async fn a_removed_host_stays_out_until_its_name_is_taken_anew() {
    let (dir, host, heir) = (
        tempfile::tempdir().unwrap(),
        tempfile::tempdir().unwrap(),
        tempfile::tempdir().unwrap(),
    );
    let controller = Controller::start(dir.path()).await;
    let token = controller.token(2, 60_000).await;
    join(host.path(), controller.address, &token, "web").await.unwrap();
    let mut record = controller.store.hosts().await.unwrap().remove(0);
    record.membership = Membership::Removed;
    controller.save(&record).await;
    let refused = Bare::dial(host.path(), controller.address, hello("i", "n")).await.err().unwrap();
    assert!(
        refused.code() == Code::PermissionDenied && refused.message().contains("removed"),
        "{refused}"
    );
    join(heir.path(), controller.address, &token, "web").await.unwrap();
    let _heir = Bare::dial(heir.path(), controller.address, hello("i", "n")).await.unwrap();
    let refused = Bare::dial(host.path(), controller.address, hello("i", "m")).await.err().unwrap();
    assert!(refused.message().contains("another key"), "{refused}");
}
