//! What hosts are sent of a rotation, and what a connection is worth that outlives the trust in its certificate.

use std::time::{Duration, Instant};

use proto_transport::{Authority, RotationStep};
use proto_wire::v1::agent_message::Body as Said;
use proto_wire::v1::controller_message::Body;
use proto_wire::v1::{Hello, HostTrust, RenewRequest};
use tonic::{Code, Status};

use crate::agent::{Bare, client, client_identity, hello, join};
use crate::controller::{Controller, name, now};
use crate::eventually;

fn take(controller: &Controller, step: RotationStep) {
    assert!(controller.authorities.take(step, now()).unwrap());
    controller.dispatcher.tell_authorities();
}

#[tokio::test]
async fn a_connection_that_outlives_the_trust_in_its_certificate_gets_nothing() {
    let (dir, host) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let controller = Controller::start(dir.path()).await;
    let token = controller.token(1, 60_000).await;
    join(host.path(), controller.address, &token, "web").await.unwrap();
    let csr_der = Authority::csr_for(&client_identity(host.path()).key_pem).unwrap();
    let renewal = || RenewRequest { csr_der: csr_der.clone() };
    // The listener of these tests never learns of a rotation: its connections outlive each step.
    let mut open = client(host.path(), controller.address).await;
    let mut session = Bare::dial(host.path(), controller.address, hello("i", "n")).await.unwrap();
    take(&controller, RotationStep::Prepare);
    take(&controller, RotationStep::Switch);
    assert_eq!(open.renew(renewal()).await.unwrap().into_inner().trusted_der.len(), 2);
    take(&controller, RotationStep::Finish);
    let refused = |status: &Status| status.code() == Code::PermissionDenied && status.message().contains("not trusted any more");
    let status = open.renew(renewal()).await.unwrap_err();
    assert!(refused(&status), "{status}");
    let ended = loop {
        match session.order().await {
            Ok(Some(order)) => assert!(
                !matches!(order.body, Some(Body::Trust(_))),
                "an older agent would not understand it"
            ),
            Ok(None) => panic!("the session ended without a word"),
            Err(status) => break status,
        }
    };
    assert!(refused(&ended), "{ended}");
    let again = Bare::dial(host.path(), controller.address, hello("j", "m")).await.err().unwrap();
    assert!(refused(&again), "{again}");
}

#[tokio::test]
async fn a_host_is_sent_what_it_trusts_and_its_word_for_what_it_stored_is_kept() {
    let (dir, host) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let controller = Controller::start(dir.path()).await;
    let token = controller.token(1, 60_000).await;
    join(host.path(), controller.address, &token, "web").await.unwrap();
    let old = controller.authorities.current().fingerprint();
    let said = |authorities: Vec<String>| HostTrust {
        authorities,
        issuer: old.clone(),
    };
    let hello = Hello {
        trust: Some(said(vec![old.clone()])),
        ..hello("i", "n")
    };
    let mut session = Bare::dial(host.path(), controller.address, hello).await.unwrap();
    assert!(matches!(session.order().await.unwrap().unwrap().body, Some(Body::Welcome(_))));
    eventually("the host is taken in", || {
        controller
            .host("web")
            .is_some_and(|web| web.authority.trusts == std::slice::from_ref(&old))
    })
    .await;
    take(&controller, RotationStep::Prepare);
    let trust = loop {
        if let Some(Body::Trust(trust)) = session.order().await.unwrap().unwrap().body {
            break trust;
        }
    };
    let known = controller.authorities.rotation().fingerprints();
    let sent: Vec<String> = trust.authority_der.iter().map(|der| proto_transport::fingerprint_of(der)).collect();
    assert_eq!((sent.as_slice(), known.first()), (known.as_slice(), Some(&old)));
    assert_eq!(
        controller.host("web").unwrap().authority.trusts,
        std::slice::from_ref(&old),
        "what is only sent does not count"
    );
    session.say(Said::Trust(said(known.clone()))).await;
    let until = Instant::now() + Duration::from_secs(15);
    loop {
        let stored = controller.store.call(|store| store.host(&name("web"))).await.unwrap().unwrap();
        if stored.authority.trusts == known {
            break;
        }
        assert!(Instant::now() < until, "its word is not kept within 15 s");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
