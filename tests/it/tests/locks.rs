//! A locked host, from the command line to the end of its session and after: out at once, out for good, and out also after a restart.

use std::path::Path;
use std::time::{Duration, Instant};

use agent_session::{EnrolError, EnrolOptions, IdentityFolder, enrol};
use anyhow::{Context, Result};
use proto_model::exit;
use proto_transport::{ClientIdentity, JoinToken, Trust, connect, install_provider};
use proto_wire::v1::agent_message::Body;
use proto_wire::v1::agents_client::AgentsClient;
use proto_wire::v1::{AgentMessage, ControllerMessage, Hello, RenewRequest};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use tests_harness::report;
use tests_it::{Controller, impossible};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Code, Status, Streaming};

/// From the command to the end of the session.
const CUT_WITHIN: Duration = Duration::from_secs(2);

/// A session without a host behind it.
struct Session {
    _out: mpsc::Sender<AgentMessage>,
    orders: Streaming<ControllerMessage>,
}

async fn join(controller: &Controller, state: &Path) -> Result<Result<(), EnrolError>> {
    let made = controller.fracas(&["tokens", "create", "--label", "env=staging", "-o", "json"])?;
    let made: serde_json::Value = serde_json::from_str(&made.out)?;
    let wish = EnrolOptions {
        controller: controller.address("agents")?,
        token: JoinToken::parse(made["token"].as_str().context("a token")?)?,
        identity: IdentityFolder::at(state.join("identity")),
        name: "web".into(),
        machine_id: "m".into(),
        agent_version: "1".into(),
    };
    Ok(enrol(wish).await.map(drop))
}

async fn dial(controller: &Controller, state: &Path) -> Result<AgentsClient<Channel>> {
    let file = |name: &str| state.join("identity").join(name);
    let client = ClientIdentity {
        certificate: CertificateDer::from_pem_file(file("cert.pem"))?,
        key_pem: std::fs::read_to_string(file("key.pem"))?,
    };
    let trust = Trust::Authorities(vec![CertificateDer::from_pem_file(file("authority.pem"))?]);
    let channel = connect(&controller.address("agents")?, trust, Some(&client)).await?;
    Ok(AgentsClient::new(channel))
}

async fn session(controller: &Controller, state: &Path) -> Result<Result<Session, Status>> {
    let (out, stream) = mpsc::channel(4);
    let hello = Hello {
        nonce: "n".into(),
        instance: "i".into(),
        boot_id: "b".into(),
        facts: Some(proto_wire::v1::HostFacts::default()),
        catalogue_json: "[]".into(),
        catalogue_digest: proto_model::catalogue::Catalogue::default().digest(),
        cleanliness: proto_wire::v1::Cleanliness::Clean.into(),
        ..Hello::default()
    };
    let body = Some(Body::Hello(hello));
    out.send(AgentMessage { seq: 1, body }).await?;
    let begun = dial(controller, state).await?.session(ReceiverStream::new(stream)).await;
    Ok(begun.map(|answer| Session {
        _out: out,
        orders: answer.into_inner(),
    }))
}

/// When and how it ended.
async fn end(mut session: Session) -> (Instant, Status) {
    loop {
        match session.orders.message().await {
            Ok(Some(_)) => {}
            Ok(None) => return (Instant::now(), Status::ok("closed")),
            Err(status) => return (Instant::now(), status),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_locked_host_is_cut_off_within_two_seconds_and_stays_out_until_it_is_unlocked() -> Result<()> {
    if let Some(why) = impossible() {
        report::skip(&why);
        return Ok(());
    }
    install_provider();
    let (folder, state) = (tempfile::tempdir()?, tempfile::tempdir()?);
    let controller = Controller::start(folder.path())?;
    join(&controller, state.path()).await??;
    let ended = tokio::spawn(end(session(&controller, state.path()).await??));
    assert!(controller.fracas(&["hosts"])?.out.contains("connected"));

    assert_eq!(
        controller.fracas(&["hosts", "lock", "web"])?.code,
        i32::from(exit::USAGE),
        "a lock needs its reason"
    );
    let asked = Instant::now();
    let locked = controller.fracas(&["hosts", "lock", "web", "--reason", "its key was copied"])?;
    assert_eq!(locked.code, 0, "{locked:?}");
    let (at, status) = tokio::time::timeout(Duration::from_secs(10), ended).await??;
    let took = at.saturating_duration_since(asked);
    assert!(took < CUT_WITHIN, "the session ended {took:?} after the command");
    assert!(
        status.code() == Code::PermissionDenied && status.message().contains("its key was copied"),
        "{status}"
    );
    is_out(&controller, state.path()).await?;

    controller.kill()?;
    let controller = Controller::start(folder.path())?;
    is_out(&controller, state.path()).await?;

    let unlocked = controller.fracas(&["hosts", "unlock", "web", "--reason", "a mistake"])?;
    assert_eq!(unlocked.code, 0, "{unlocked:?}");
    let _session = session(&controller, state.path()).await??;
    assert!(controller.fracas(&["hosts"])?.out.contains("connected"));
    Ok(())
}

/// No session, no renewal, no joining again, no fault; and everybody can see why.
async fn is_out(controller: &Controller, state: &Path) -> Result<()> {
    let refused = session(controller, state).await?.err().context("a session was given")?;
    assert!(
        refused.code() == Code::PermissionDenied && refused.message().contains("locked"),
        "{refused}"
    );
    let renewal = dial(controller, state).await?.renew(RenewRequest::default()).await;
    assert_eq!(renewal.err().map(|status| status.code()), Some(Code::PermissionDenied));
    let again = join(controller, state).await?.err().context("it joined again")?;
    assert!(again.to_string().contains("locked"), "{again}");
    let listed = controller.fracas(&["hosts"])?;
    assert!(
        listed.out.contains("locked") && listed.err.contains("its key was copied"),
        "{listed:?}"
    );
    let attack = controller.fracas(&["attack", "cpu.burn", "--on", "web", "--for", "10s"])?;
    assert!(attack.code == i32::from(exit::ERROR) && attack.err.contains("locked"), "{attack:?}");
    Ok(())
}
