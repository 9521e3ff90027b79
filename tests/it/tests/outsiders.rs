//! Outsiders who connect and say nothing, against a real controller: halts, enrolments and operators still get through.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use agent_session::{EnrolOptions, IdentityFolder, enrol};
use anyhow::{Context, Result};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use proto_model::exit;
use proto_transport::{JoinToken, install_provider};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};
use tests_harness::report;
use tests_it::{Controller, impossible};
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

/// Connections whose handshake is done and which then say nothing, and those that say nothing at all.
const IDLE: usize = 1_003;
const SILENT: usize = 320;
/// Outsiders' addresses.
const ADDRESSES: usize = 16;
const HALT_WITHIN: Duration = Duration::from_millis(200);

fn skipped() -> bool {
    let why = impossible();
    if let Some(why) = &why {
        report::skip(why);
    }
    why.is_some()
}

/// A connection from one of many machines: any address of 127.0.0.0/8 reaches the listener.
async fn dial(number: usize, to: SocketAddr) -> Result<TcpStream> {
    let last = u8::try_from(number % ADDRESSES)?;
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::from((Ipv4Addr::new(127, 0, 2, last + 1), 0)))?;
    let dialled = tokio::time::timeout(Duration::from_secs(5), socket.connect(to)).await;
    Ok(dialled.context("connect within 5 s")??)
}

fn connector(folder: &Path) -> Result<TlsConnector> {
    let authority = CertificateDer::from_pem_file(folder.join("state/authority/ca.pem"))?;
    let mut roots = RootCertStore::empty();
    roots.add(authority)?;
    let mut config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(TlsConnector::from(Arc::new(config)))
}

/// What outsiders hold, whether or not the controller has hung up since.
#[derive(Default)]
struct Outsiders {
    idle: Vec<TlsStream<TcpStream>>,
    silent: Vec<TcpStream>,
}

impl Outsiders {
    async fn come(&mut self, tls: &TlsConnector, listeners: [SocketAddr; 2]) -> Result<()> {
        for number in 0..IDLE {
            let stream = dial(number, listeners[number % 2]).await?;
            let name = ServerName::try_from("localhost")?;
            if let Ok(Ok(stream)) = tokio::time::timeout(Duration::from_secs(5), tls.connect(name, stream)).await {
                self.idle.push(stream);
            }
        }
        for number in 0..SILENT {
            self.silent.push(dial(number, listeners[number % 2]).await?);
        }
        Ok(())
    }
}

fn raise_open_files() -> Result<()> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    Ok(setrlimit(Resource::RLIMIT_NOFILE, hard.min(4_096), hard)?)
}

/// Every halt succeeds; the fastest of five shows that none waits behind outsiders, whatever else this machine has to do.
fn expect_halt(controller: &Controller, around: &str) -> Result<()> {
    let mut fastest = Duration::MAX;
    for _ in 0..5 {
        let begun = Instant::now();
        let halted = controller.fracas(&["halt", "--reason", around])?;
        fastest = fastest.min(begun.elapsed());
        assert_eq!(halted.code, i32::from(exit::OK), "{halted:?}");
    }
    assert!(fastest < HALT_WITHIN, "a halt takes {fastest:?} {around}");
    println!("a halt took {fastest:?} {around}");
    let released = controller.fracas(&["release", "--reason", "over"])?;
    assert_eq!(released.code, i32::from(exit::OK), "{released:?}");
    Ok(())
}

#[test]
fn a_crowd_that_says_nothing_keeps_nobody_out() -> Result<()> {
    if skipped() {
        return Ok(());
    }
    install_provider();
    raise_open_files()?;
    let folder = tempfile::tempdir()?;
    let controller = Controller::start(folder.path())?;
    let [agents, operators] = [controller.address("agents")?, controller.address("operators")?];
    let runtime = tokio::runtime::Runtime::new()?;
    let tls = connector(folder.path())?;
    let mut outsiders = Outsiders::default();
    runtime.block_on(outsiders.come(&tls, [agents.parse()?, operators.parse()?]))?;
    assert!(
        outsiders.idle.len() > IDLE / 2,
        "only {} handshakes were done",
        outsiders.idle.len()
    );
    expect_halt(&controller, "with outsiders at every door")?;
    // No honest handshake is refused: hosts join, and operators are answered over TLS.
    for number in 0..5 {
        let created = controller.fracas(&["tokens", "create", "-o", "json"])?;
        let token: serde_json::Value = serde_json::from_str(&created.out).with_context(|| format!("{created:?}"))?;
        let token = JoinToken::parse(token["token"].as_str().context("a token")?)?;
        runtime.block_on(enrol(EnrolOptions {
            controller: agents.clone(),
            token,
            identity: IdentityFolder::at(folder.path().join(format!("host{number}/identity"))),
            name: format!("web{number}"),
            machine_id: "m".into(),
            agent_version: "1".into(),
        }))?;
        let begun = Instant::now();
        let handshake = runtime.block_on(async {
            let stream = TcpStream::connect(&operators).await?;
            tls.connect(ServerName::try_from("localhost")?, stream).await?;
            anyhow::Ok(())
        });
        handshake.with_context(|| format!("honest handshake {number}"))?;
        assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    }
    let hosts = controller.fracas(&["hosts", "-o", "name"])?;
    assert_eq!(hosts.out.lines().count(), 5, "{hosts:?}");
    expect_halt(&controller, "at the end")?;
    let lines = controller.said()?.lines().filter(|line| line.contains("connection")).count();
    assert!(lines < 20, "{lines} lines about connections");
    drop(outsiders);
    Ok(())
}
