//! Handshakes on loopback: who is believed, who is not, and what a silent or greedy client can do to others.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use proto_model::id::HostName;
use proto_model::role::Role;
use proto_model::time::Timestamp;
use proto_transport::{
    AUTHORITY_LIFE_MS, Admission, AnswerLayer, Authorities, Authority, ClientIdentity, Identity, Limits, PeerInfo, Quota, ServerTls, TlsIo,
    Trust, connect, csr, fingerprint_of, fingerprint_of_key, incoming,
};
use rcgen::{CertificateParams, KeyPair};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::{TcpListener, TcpStream};
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::server::Connected;
use tower::{Layer, Service};

const DAY_MS: u64 = 86_400_000;

type Incoming = ReceiverStream<std::io::Result<TlsIo>>;

fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    Timestamp(i64::try_from(since.as_millis()).unwrap())
}

struct Place {
    authority: Authority,
}

fn place() -> Place {
    Place {
        authority: Authority::make(AUTHORITY_LIFE_MS, now()).unwrap(),
    }
}

impl Place {
    fn tls(&self) -> ServerTls {
        let (certificate, key) = self.authority.issue_server(now(), DAY_MS).unwrap();
        ServerTls::new(&[self.authority.certificate().clone()], certificate, &key).unwrap()
    }

    async fn listen(&self, limits: Limits) -> (String, Incoming) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        (address, incoming(listener, self.tls(), &Admission::new(limits)))
    }

    fn host(&self, name: &str, valid_ms: u64) -> ClientIdentity {
        let key = KeyPair::generate().unwrap();
        // The request asks for a name that is not its own.
        let wish = CertificateParams::new(vec!["controller".to_owned()]).unwrap();
        let request = wish.serialize_request(&key).unwrap();
        let host = HostName::parse(name).unwrap();
        ClientIdentity {
            certificate: self.authority.issue_host(request.der(), &host, now(), valid_ms).unwrap(),
            key_pem: key.serialize_pem(),
        }
    }

    fn operator(&self, name: &str, valid_ms: u64) -> ClientIdentity {
        let (certificate, key_pem) = self.authority.issue_operator(name, Role::Viewer, now(), valid_ms).unwrap();
        ClientIdentity { certificate, key_pem }
    }

    fn trust(&self) -> Trust {
        Trust::Authorities(vec![self.authority.certificate().clone()])
    }
}

fn viewer(name: &str) -> Identity {
    Identity::Operator {
        name: name.into(),
        role: Role::Viewer,
    }
}

async fn peer(incoming: &mut Incoming) -> PeerInfo {
    let peer = tokio::time::timeout(Duration::from_secs(5), incoming.next()).await;
    peer.expect("a peer within 5 s").unwrap().unwrap().connect_info()
}

/// A client learns of a refusal only after its own handshake is done; so the listener is asked, with one more who is let in.
async fn nobody_but(place: &Place, address: &str, incoming: &mut Incoming) -> bool {
    let _marker = connect(address, place.trust(), Some(&place.operator("marker", DAY_MS)))
        .await
        .unwrap();
    peer(incoming).await.identity == viewer("marker")
}

#[tokio::test]
async fn the_peer_is_who_its_certificate_says_and_not_what_it_asked_for() {
    let place = place();
    let (address, mut incoming) = place.listen(Limits::default()).await;
    let host = place.host("web", DAY_MS);
    let _channel = connect(&address, place.trust(), Some(&host)).await.unwrap();
    let seen = peer(&mut incoming).await;
    assert_eq!(seen.identity, Identity::Host(HostName::parse("web").unwrap()));
    assert_eq!(
        seen.key_fingerprint.as_deref().map(str::to_owned),
        fingerprint_of_key(&host.certificate)
    );
    assert!(!seen.is_expired(now()));
    let _channel = connect(&address, place.trust(), Some(&place.operator("ann@example", DAY_MS)))
        .await
        .unwrap();
    assert_eq!(peer(&mut incoming).await.identity, viewer("ann@example"));
    let _channel = connect(&address, place.trust(), None).await.unwrap();
    assert_eq!(peer(&mut incoming).await.identity, Identity::None);
}

#[tokio::test]
async fn a_pinned_fingerprint_admits_its_own_authority_only() {
    let (ours, foreign) = (place(), place());
    let (address, _incoming) = ours.listen(Limits::default()).await;
    let pinned = Trust::Fingerprint(ours.authority.fingerprint());
    assert!(connect(&address, pinned, None).await.is_ok());
    for trust in [Trust::Fingerprint(foreign.authority.fingerprint()), foreign.trust()] {
        let error = connect(&address, trust, None).await.unwrap_err().to_string();
        assert!(error.contains("certificate"), "{error}");
    }
}

#[tokio::test]
async fn certificates_of_another_authority_are_refused() {
    let (ours, foreign) = (place(), place());
    let (address, mut incoming) = ours.listen(Limits::default()).await;
    let _channel = connect(&address, ours.trust(), Some(&foreign.host("web", DAY_MS))).await;
    assert!(nobody_but(&ours, &address, &mut incoming).await);
}

#[tokio::test]
async fn an_expired_host_is_let_in_to_renew_and_an_expired_operator_never() {
    let place = place();
    let (address, mut incoming) = place.listen(Limits::default()).await;
    let (host, operator) = (place.host("web", 1_000), place.operator("ann", 1_000));
    tokio::time::sleep(Duration::from_millis(2_100)).await;
    let _channel = connect(&address, place.trust(), Some(&host)).await.unwrap();
    let seen = peer(&mut incoming).await;
    assert!(matches!(seen.identity, Identity::Host(_)) && seen.is_expired(now()));
    let _channel = connect(&address, place.trust(), Some(&operator)).await;
    assert!(nobody_but(&place, &address, &mut incoming).await);
}

/// Serves this certificate as if it were a controller's.
async fn pose(certificates: Vec<CertificateDer<'static>>, key_pem: &str) -> SocketAddr {
    let key = PrivateKeyDer::from_pem_slice(key_pem.as_bytes()).unwrap();
    let provider = std::sync::Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(certificates, key)
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(std::sync::Arc::new(config));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            drop(acceptor.accept(stream).await);
        }
    });
    address
}

#[tokio::test]
async fn neither_a_host_nor_an_operator_can_pose_as_the_controller() {
    let place = place();
    for impostor in [place.host("evil", DAY_MS), place.operator("evil", DAY_MS)] {
        let chain = vec![impostor.certificate, place.authority.certificate().clone()];
        let address = pose(chain, &impostor.key_pem).await.to_string();
        for trust in [place.trust(), Trust::Fingerprint(place.authority.fingerprint())] {
            assert!(connect(&address, trust, None).await.is_err());
        }
    }
}

/// Another machine: any address of 127.0.0.0/8 reaches the listener.
async fn dial_from(last: u8, address: &str) -> TcpStream {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::from(([127, 0, 1, last], 0))).unwrap();
    socket.connect(address.parse().unwrap()).await.unwrap()
}

/// Whether the listener has hung up, asked without waiting.
fn is_closed(stream: &TcpStream) -> bool {
    !matches!(stream.try_read(&mut [0; 64]), Err(error) if error.kind() == std::io::ErrorKind::WouldBlock)
}

async fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let until = Instant::now() + Duration::from_secs(5);
    while !is_so() {
        assert!(Instant::now() < until, "not within 5 s: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn silent_connections_from_everywhere_keep_no_honest_handshake_out() {
    let place = place();
    let limits = Limits {
        handshakes: Quota { each: 8, all: 16 },
        ..Limits::default()
    };
    let (address, mut incoming) = place.listen(limits).await;
    let mut silent = Vec::new();
    for n in 0..80 {
        silent.push(dial_from(n % 10, &address).await);
    }
    // Ten addresses hold all handshakes; the honest one is let in at once, whichever certificate it has or has not.
    for identity in [None, Some(place.host("web", DAY_MS)), None] {
        let begun = Instant::now();
        let _channel = connect(&address, place.trust(), identity.as_ref()).await.unwrap();
        peer(&mut incoming).await;
        assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    }
    let closed = || silent.iter().filter(|stream| is_closed(stream)).count();
    eventually("all but 16 are hung up on", || closed() >= 64).await;
}

/// As when a fleet returns at once, each host from its own address.
#[tokio::test]
async fn who_has_no_handshake_yet_waits_for_its_turn_and_who_has_one_is_refused() {
    let place = place();
    let limits = Limits {
        handshakes: Quota { each: 4, all: 4 },
        silence: Duration::from_secs(2),
        ..Limits::default()
    };
    let (address, mut incoming) = place.listen(limits).await;
    let mut silent = Vec::new();
    for n in 0..4 {
        silent.push(dial_from(n, &address).await);
    }
    let again = dial_from(1, &address).await;
    eventually("a second handshake of the same address is refused", || is_closed(&again)).await;
    assert!(!silent.iter().any(is_closed), "the others are within their two seconds");
    let _channel = connect(&address, place.trust(), Some(&place.host("web", DAY_MS))).await.unwrap();
    peer(&mut incoming).await;
}

#[tokio::test]
async fn a_connection_without_identity_ends_in_time_unless_a_request_proves_one() {
    let place = place();
    let limits = Limits {
        unidentified: Duration::from_millis(300),
        ..Limits::default()
    };
    let (address, mut incoming) = place.listen(limits).await;
    let mut accepted = Vec::new();
    let mut held = Vec::new();
    for identity in [None, None, Some(place.host("web", DAY_MS))] {
        held.push(connect(&address, place.trust(), identity.as_ref()).await.unwrap());
        accepted.push(
            tokio::time::timeout(Duration::from_secs(5), incoming.next())
                .await
                .unwrap()
                .unwrap()
                .unwrap(),
        );
    }
    accepted[1].connect_info().identify("ann");
    let mut ends = Vec::new();
    for mut io in accepted {
        let drained = async move { while let Ok(1..) = tokio::io::AsyncReadExt::read(&mut io, &mut [0; 1_024]).await {} };
        ends.push(tokio::time::timeout(Duration::from_secs(1), drained).await.is_ok());
    }
    assert_eq!(
        ends,
        [true, false, false],
        "idle, identified by a request, identified by a certificate"
    );
}

#[tokio::test]
async fn a_finished_request_gives_an_outsider_more_time() {
    let place = place();
    let limits = Limits {
        unidentified: Duration::from_millis(500),
        ..Limits::default()
    };
    let (address, mut incoming) = place.listen(limits).await;
    let _channel = connect(&address, place.trust(), None).await.unwrap();
    let mut io = incoming.next().await.unwrap().unwrap();
    let peer = io.connect_info();
    let begun = Instant::now();
    let asks = tokio::spawn(async move {
        let mut service = AnswerLayer.layer(tower::service_fn(|_: http::Request<()>| async { Ok::<_, std::io::Error>(()) }));
        for _ in 0..4 {
            tokio::time::sleep(Duration::from_millis(250)).await;
            let mut request = http::Request::new(());
            request.extensions_mut().insert(peer.clone());
            service.call(request).await.unwrap();
        }
    });
    let drained = async { while let Ok(1..) = tokio::io::AsyncReadExt::read(&mut io, &mut [0; 1_024]).await {} };
    tokio::time::timeout(Duration::from_secs(5), drained)
        .await
        .expect("it ends after its last request");
    assert!(
        asks.is_finished() && begun.elapsed() >= Duration::from_millis(1_500),
        "{:?}",
        begun.elapsed()
    );
}

#[tokio::test]
async fn one_address_without_identity_cannot_take_everything() {
    let place = place();
    let limits = Limits {
        silence: Duration::from_millis(50),
        outsiders: Quota { each: 4, all: 6 },
        ..Limits::default()
    };
    let (address, mut incoming) = place.listen(limits).await;
    let mut held = Vec::new();
    for _ in 0..4 {
        held.push(admitted(&place, &address, &mut incoming, None).await.expect("a seat"));
    }
    // The fifth takes the seat of the oldest as soon as that has been silent for long enough.
    let until = Instant::now() + Duration::from_secs(5);
    while admitted(&place, &address, &mut incoming, None).await.is_none() {
        assert!(Instant::now() < until, "no seat is given up");
    }
    // Those who show who they are need none of these seats.
    for n in 0..8 {
        let host = place.host(&format!("web{n}"), DAY_MS);
        held.push(
            admitted(&place, &address, &mut incoming, Some(&host))
                .await
                .expect("a seat of its own"),
        );
    }
}

/// A connection at both its ends; `None` when the listener hangs up.
async fn admitted(
    place: &Place,
    address: &str,
    incoming: &mut Incoming,
    identity: Option<&ClientIdentity>,
) -> Option<(tonic::transport::Channel, TlsIo)> {
    let channel = connect(address, place.trust(), identity).await.ok()?;
    let accepted = tokio::time::timeout(Duration::from_millis(500), incoming.next()).await.ok()?;
    Some((channel, accepted?.ok()?))
}

#[tokio::test]
async fn a_handshake_that_is_too_slow_gives_its_place_back() {
    let place = place();
    let limits = Limits {
        handshake: Duration::from_millis(200),
        ..Limits::default()
    };
    let (address, _incoming) = place.listen(limits).await;
    let silent = TcpStream::connect(&address).await.unwrap();
    eventually("the silent client is given up", || is_closed(&silent)).await;
}

#[tokio::test]
async fn a_certificate_is_exchanged_while_the_listener_serves() {
    let place = place();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (expired, key) = place.authority.issue_server(Timestamp(now().0 - 10_000), 1_000).unwrap();
    let tls = ServerTls::new(&[place.authority.certificate().clone()], expired, &key).unwrap();
    let _incoming = incoming(listener, tls.clone(), &Admission::new(Limits::default()));
    assert!(connect(&address, place.trust(), None).await.is_err());
    let (fresh, key) = place.authority.issue_server(now(), DAY_MS).unwrap();
    tls.renew(&[place.authority.certificate().clone()], fresh, &key).unwrap();
    assert!(connect(&address, place.trust(), None).await.is_ok());
}

/// What tools do that compare names: `fracas` with a remote context, browsers, curl.
#[tokio::test]
async fn the_controller_can_carry_names_for_those_who_compare_them() {
    let place = place();
    let names = ["ctl.example".to_owned(), "10.0.0.1".to_owned()];
    let (certificate, _) = place.authority.issue_server_for(&names, now(), DAY_MS).unwrap();
    let parsed = rustls::server::ParsedCertificate::try_from(&certificate).unwrap();
    for (name, fits) in [("ctl.example", true), ("10.0.0.1", true), ("other.example", false)] {
        let name = rustls_pki_types::ServerName::try_from(name).unwrap();
        assert_eq!(rustls::client::verify_server_name(&parsed, &name).is_ok(), fits, "{name:?}");
    }
    assert_eq!(Identity::of_certificate(&certificate), Identity::Controller);
    assert!(place.authority.issue_server_for(&["not a name".to_owned()], now(), DAY_MS).is_err());
}

#[test]
fn an_authority_is_made_once_kept_private_and_never_replaced_when_damaged() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("authority");
    let open = || Authorities::open_or_create(&folder, AUTHORITY_LIFE_MS, now());
    let first = open().unwrap();
    assert!(first.created && first.current().fingerprint() == fingerprint_of(first.current().certificate()));
    let second = open().unwrap();
    assert!(!second.created && second.current().fingerprint() == first.current().fingerprint());
    assert_eq!(std::fs::metadata(&folder).unwrap().permissions().mode() & 0o777, 0o700);
    for file in std::fs::read_dir(&folder).unwrap() {
        assert_eq!(file.unwrap().metadata().unwrap().permissions().mode() & 0o777, 0o600);
    }
    let state = folder.join("authorities.json");
    let text = std::fs::read_to_string(&state).unwrap();
    let foreign = KeyPair::generate().unwrap().serialize_pem().replace('\n', "\\n");
    let (begin, end) = (
        text.find("-----BEGIN PRIVATE").unwrap(),
        text.rfind("-----END PRIVATE KEY-----\\n").unwrap(),
    );
    let swapped = format!("{}{foreign}{}", &text[..begin], &text[end + "-----END PRIVATE KEY-----\\n".len()..]);
    std::fs::write(&state, swapped).unwrap();
    let error = open().err().unwrap().to_string();
    assert!(error.contains("do not belong together"), "{error}");
    std::fs::write(&state, "{}").unwrap();
    assert!(open().is_err());
}

#[test]
fn a_request_that_was_tampered_with_buys_nothing() {
    let place = place();
    let host = HostName::parse("web").unwrap();
    let (key_pem, mut request) = csr().unwrap();
    let certificate = place.authority.issue_host(&request, &host, now(), DAY_MS).unwrap();
    assert!(
        ClientIdentity {
            certificate: certificate.clone(),
            key_pem
        }
        .is_whole()
    );
    let (other, _) = csr().unwrap();
    assert!(
        !ClientIdentity {
            certificate,
            key_pem: other
        }
        .is_whole()
    );
    *request.last_mut().unwrap() ^= 1;
    assert!(place.authority.issue_host(&request, &host, now(), DAY_MS).is_err());
    assert!(place.authority.issue_host(b"nonsense", &host, now(), DAY_MS).is_err());
    assert!(place.authority.issue_operator("../evil", Role::Viewer, now(), DAY_MS).is_err());
}
