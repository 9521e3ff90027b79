//! Who may join, and what a refusal costs and gives away.

use std::os::unix::fs::PermissionsExt;

use agent_session::EnrolError;
use controller_conductor::HostGateway;
use proto_model::host::Membership;
use proto_transport::{AUTHORITY_LIFE_MS, Authority, JoinToken, Trust, connect};
use proto_wire::v1::agents_client::AgentsClient;
use proto_wire::v1::enrolment_client::EnrolmentClient;
use proto_wire::v1::{EnrolRequest, RenewRequest};
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
    let records = controller.store.call(|store| store.hosts()).await.unwrap();
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
    let id = revoked.id.clone();
    controller
        .store
        .call(move |store| store.revoke_token(&id, &actor(), now()))
        .await
        .unwrap();
    assert!(refusal(host().path(), &controller, &revoked, "b").await.contains("revoked"));
    let unknown = JoinToken::generate(&controller.authority.fingerprint());
    assert!(refusal(host().path(), &controller, &unknown, "b").await.contains("not valid"));
    assert_eq!(controller.dispatcher.hosts().len(), 1);
}

#[tokio::test]
async fn a_token_of_another_authority_never_shows_its_secret() {
    let (dir, host) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let controller = Controller::start(dir.path()).await;
    let foreign = Authority::make(AUTHORITY_LIFE_MS, now()).unwrap();
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
async fn wrong_tokens_are_limited_and_right_ones_are_not_from_the_same_address_too() {
    let dir = tempfile::tempdir().unwrap();
    let controller = Controller::start(dir.path()).await;
    let trust = Trust::Authorities(vec![controller.authority.certificate().clone()]);
    let outsider = EnrolmentClient::new(connect(&controller.address.to_string(), trust, None).await.unwrap());
    let guess = EnrolRequest {
        token: JoinToken::generate(&controller.authority.fingerprint()).to_string(),
        hostname: "web".into(),
        ..EnrolRequest::default()
    };
    let one = || {
        let (mut outsider, guess) = (outsider.clone(), guess.clone());
        async move { outsider.enrol(guess).await.unwrap_err().message().to_owned() }
    };
    assert_eq!(one().await, "the join token is not valid");
    // Many at a time, however slow the machine is: two more are listened to each second.
    let mut refusals = Vec::new();
    for _ in 0..50 {
        refusals.extend(tokio::task::JoinSet::from_iter((0..8).map(|_| one())).join_all().await);
        if refusals.iter().any(|refusal| refusal.contains("too many wrong join tokens")) {
            break;
        }
    }
    let limited = refusals
        .iter()
        .filter(|refusal| refusal.contains("too many wrong join tokens"))
        .count();
    assert!(limited > 0, "none of {} guesses was limited", refusals.len());
    let token = controller.token(20, 60_000).await;
    for n in 0..20 {
        let host = tempfile::tempdir().unwrap();
        join(host.path(), controller.address, &token, &format!("web{n}")).await.unwrap();
    }
    assert_eq!((controller.used(&token).await, controller.dispatcher.hosts().len()), (20, 20));
}

#[tokio::test]
async fn the_token_is_checked_before_anything_else_of_a_request_and_a_long_one_is_not_read() {
    let dir = tempfile::tempdir().unwrap();
    let controller = Controller::start(dir.path()).await;
    let trust = Trust::Authorities(vec![controller.authority.certificate().clone()]);
    let channel = connect(&controller.address.to_string(), trust, None).await.unwrap();
    let mut outsider = EnrolmentClient::new(channel.clone());
    let wish = |token: &JoinToken, csr_der: Vec<u8>| EnrolRequest {
        token: token.to_string(),
        csr_der,
        hostname: "no name at all".into(),
        ..EnrolRequest::default()
    };
    let guess = JoinToken::generate(&controller.authority.fingerprint());
    let refused = outsider.enrol(wish(&guess, b"nonsense".to_vec())).await.unwrap_err();
    assert_eq!(
        (refused.code(), refused.message()),
        (Code::PermissionDenied, "the join token is not valid")
    );
    let token = controller.token(1, 60_000).await;
    let refused = outsider.enrol(wish(&token, vec![0; 17 << 10])).await.unwrap_err();
    assert_eq!(refused.code(), Code::OutOfRange, "{refused}");
    // Calls of hosts are refused to outsiders before their message is read, whatever its length.
    let renewal = RenewRequest { csr_der: vec![0; 2 << 20] };
    let refused = AgentsClient::new(channel).renew(renewal).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated, "{refused}");
    assert_eq!(controller.used(&token).await, 0);
}

/// Enrols so many hosts while outsiders guess; returns how long it took.
async fn enrol_among_guessers(hosts: u32, guessers: u32) -> std::time::Duration {
    let dir = tempfile::tempdir().unwrap();
    let controller = Controller::start(dir.path()).await;
    let token = controller.token(hosts, 600_000).await;
    let trust = || Trust::Authorities(vec![controller.authority.certificate().clone()]);
    let mut guessing = tokio::task::JoinSet::new();
    for _ in 0..guessers {
        let (address, trust) = (controller.address.to_string(), trust());
        let guess = JoinToken::generate(&controller.authority.fingerprint());
        guessing.spawn(async move {
            let mut client = EnrolmentClient::new(connect(&address, trust, None).await.unwrap());
            loop {
                let wish = EnrolRequest {
                    token: guess.to_string(),
                    ..EnrolRequest::default()
                };
                assert!(client.enrol(wish).await.is_err());
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
        });
    }
    let begun = std::time::Instant::now();
    let next = std::sync::Arc::new(std::sync::atomic::AtomicU32::new(0));
    let mut joining = tokio::task::JoinSet::new();
    for _ in 0..16 {
        let (next, address, token, trust) = (next.clone(), controller.address.to_string(), token.to_string(), trust());
        joining.spawn(async move {
            loop {
                let n = next.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                if n >= hosts {
                    return;
                }
                let mut client = EnrolmentClient::new(connect(&address, trust.clone(), None).await.unwrap());
                let (_, csr_der) = proto_transport::csr().unwrap();
                let wish = EnrolRequest {
                    token: token.clone(),
                    csr_der,
                    hostname: format!("host-{n}"),
                    ..EnrolRequest::default()
                };
                client.enrol(wish).await.unwrap();
            }
        });
    }
    joining.join_all().await;
    let took = begun.elapsed();
    assert_eq!(controller.used(&token).await, hosts);
    guessing.abort_all();
    took
}

#[tokio::test]
async fn ten_guessers_do_not_starve_those_with_a_valid_token() {
    let hosts = std::env::var("FRACAS_ENROL_HOSTS").ok().and_then(|n| n.parse().ok()).unwrap_or(100);
    let took = enrol_among_guessers(hosts, 10).await;
    println!("{hosts} hosts enrolled in {took:?}");
    assert!(took.as_millis() < u128::from(hosts) * 100, "{took:?}");
}

#[tokio::test]
async fn without_an_identity_of_ours_nothing_answers() {
    let (dir, foreign_dir, host) = (
        tempfile::tempdir().unwrap(),
        tempfile::tempdir().unwrap(),
        tempfile::tempdir().unwrap(),
    );
    let controller = Controller::start(dir.path()).await;
    let trust = || Trust::Authorities(vec![controller.authority.certificate().clone()]);
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
    let mut record = controller.store.call(|store| store.hosts()).await.unwrap().remove(0);
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
    let mut record = controller.store.call(|store| store.hosts()).await.unwrap().remove(0);
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

fn label<'a>(host: &'a proto_model::host::Host, key: &str) -> Option<&'a str> {
    host.labels.get(key).map(String::as_str)
}

#[tokio::test]
async fn labels_of_operators_outlive_a_new_enrolment() {
    let (dir, host) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let controller = Controller::start(dir.path()).await;
    let token = controller.token(2, 60_000).await;
    join(host.path(), controller.address, &token, "web").await.unwrap();
    let mut record = controller.store.call(|store| store.hosts()).await.unwrap().remove(0);
    assert_eq!(record.labels["env"], "staging");
    record.labels.insert("env".into(), "production".into());
    record.operator_labels.insert("env".into());
    controller.save(&record).await;
    join(host.path(), controller.address, &token, "web").await.unwrap();
    assert_eq!(label(&controller.host("web").unwrap(), "env"), Some("production"));
    // Also one that an operator removed: the token must not bring it back.
    record.labels.clear();
    controller.save(&record).await;
    join(host.path(), controller.address, &controller.token(1, 60_000).await, "web")
        .await
        .unwrap();
    assert_eq!(label(&controller.host("web").unwrap(), "env"), None);
}

#[tokio::test]
async fn a_reimaged_machine_takes_the_place_of_the_old_one_with_a_token_made_for_it() {
    let (dir, old, new) = (
        tempfile::tempdir().unwrap(),
        tempfile::tempdir().unwrap(),
        tempfile::tempdir().unwrap(),
    );
    let controller = Controller::start(dir.path()).await;
    let plain = controller.token(2, 60_000).await;
    join(old.path(), controller.address, &plain, "web").await.unwrap();
    let mut record = controller.store.call(|store| store.hosts()).await.unwrap().remove(0);
    record.labels.insert("role".into(), "cache".into());
    record.operator_labels.insert("role".into());
    controller.save(&record).await;
    let _agent = Agent::start(old.path());
    eventually("a session of the old machine", || controller.is_connected("web")).await;
    let refused = refusal(new.path(), &controller, &plain, "web").await;
    assert!(refused.contains("--replace web"), "{refused}");
    let replacement = controller.replacement("web").await;
    let refused = refusal(new.path(), &controller, &replacement, "db").await;
    assert!(
        refused.contains("replaces host web") && controller.host("db").is_none(),
        "{refused}"
    );
    assert_eq!(controller.used(&replacement).await, 0, "a mistake in a name costs no use");
    join(new.path(), controller.address, &replacement, "web").await.unwrap();
    eventually("the old machine's session has ended", || !controller.is_connected("web")).await;
    let host = controller.host("web").unwrap();
    assert_eq!((label(&host, "role"), label(&host, "env")), (Some("cache"), Some("staging")));
    let _new = Bare::dial(new.path(), controller.address, hello("i", "n")).await.unwrap();
    let refused = Bare::dial(old.path(), controller.address, hello("i", "m")).await.err().unwrap();
    assert!(refused.message().contains("another key"), "{refused}");
}
