//! Listening: TLS 1.3 with a client certificate asked for, handshakes side by side and bounded, so that a slow client harms nobody.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::server::NoServerSessionStorage;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Sleep, sleep, sleep_until, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::server::Connected;

use crate::admission::{Admission, LogLimiter};
use crate::error::TransportError;
use crate::identity::{Identity, PeerInfo};
use crate::local::ACCEPT_AGAIN;
use crate::standing::Standing;
use crate::verify::ClientsOfOurs;

/// Connections that wait to be served.
const WAITING: usize = 16;

/// The listener's certificate, exchangeable while it listens.
#[derive(Clone)]
pub struct ServerTls(Arc<ArcSwap<ServerConfig>>);

impl ServerTls {
    /// Clients of all these authorities are let in; the first one is in force, and has issued the certificate.
    pub fn new(
        authorities: &[CertificateDer<'static>],
        certificate: CertificateDer<'static>,
        key_pem: &str,
    ) -> Result<Self, TransportError> {
        Ok(Self(Arc::new(ArcSwap::from_pointee(config(authorities, certificate, key_pem)?))))
    }

    /// New connections get this certificate; those that are up stay.
    pub fn renew(
        &self,
        authorities: &[CertificateDer<'static>],
        certificate: CertificateDer<'static>,
        key_pem: &str,
    ) -> Result<(), TransportError> {
        self.0.store(Arc::new(config(authorities, certificate, key_pem)?));
        Ok(())
    }
}

fn config(
    authorities: &[CertificateDer<'static>],
    certificate: CertificateDer<'static>,
    key_pem: &str,
) -> Result<ServerConfig, TransportError> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let key =
        PrivateKeyDer::from_pem_slice(key_pem.as_bytes()).map_err(|e| TransportError::Invalid(format!("read the listener's key: {e}")))?;
    let clients = ClientsOfOurs::new(authorities, &provider)?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(Arc::new(clients))
        // The authority in force goes along, so that a newcomer can find the one whose fingerprint it was given.
        .with_single_cert(std::iter::once(certificate).chain(authorities.first().cloned()).collect(), key)?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    // A resumed session would bring back a certificate that was judged long ago.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}

/// A connection whose other end is known as far as it has shown itself.
pub struct TlsIo {
    stream: TlsStream<TcpStream>,
    peer: PeerInfo,
    standing: Standing,
    admission: Admission,
    /// For as long as the peer has no identity.
    watch: Option<Watch>,
}

/// What ends the connection of a peer without an identity.
struct Watch {
    evicted: oneshot::Receiver<()>,
    deadline: Pin<Box<Sleep>>,
}

impl Connected for TlsIo {
    type ConnectInfo = PeerInfo;
    fn connect_info(&self) -> PeerInfo {
        self.peer.clone()
    }
}

impl Drop for TlsIo {
    fn drop(&mut self) {
        self.standing.close();
    }
}

/// Accepts until the stream is dropped. Listeners of one program share an admission.
pub fn incoming(listener: TcpListener, tls: ServerTls, admission: &Admission) -> ReceiverStream<io::Result<TlsIo>> {
    let (sender, receiver) = mpsc::channel(WAITING);
    tokio::spawn(accept(listener, tls, admission.clone(), sender));
    ReceiverStream::new(receiver)
}

async fn accept(listener: TcpListener, tls: ServerTls, admission: Admission, sender: mpsc::Sender<io::Result<TlsIo>>) {
    let failures = LogLimiter::default();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = sender.closed() => return,
        };
        let (stream, address) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                if let Some(suppressed) = failures.allow() {
                    tracing::error!(%error, suppressed, "a connection was not accepted");
                }
                sleep(ACCEPT_AGAIN).await;
                continue;
            }
        };
        let Some(newcomer) = admission.newcomer(address.ip()) else {
            continue;
        };
        let (acceptor, admission, sender) = (TlsAcceptor::from(tls.0.load_full()), admission.clone(), sender.clone());
        tokio::spawn(async move {
            let Some((seat, evicted)) = admission.handshake(newcomer, address.ip()).await else {
                return;
            };
            let within = admission.limits().handshake;
            let shaken = async {
                // Who begins is not silent: its seat is its own for as long as a handshake takes.
                stream.readable().await?;
                seat.protect(admission.limits().activity);
                acceptor.accept(stream).await
            };
            let shaken = tokio::select! {
                shaken = timeout(within, shaken) => shaken,
                Ok(()) = evicted => return admission.note_eviction(address.ip()),
            };
            match shaken {
                Ok(Ok(stream)) => {
                    drop(seat);
                    if let Some(io) = TlsIo::admit(stream, address, admission) {
                        let _ = sender.send(Ok(io)).await;
                    }
                }
                Ok(Err(error)) => admission.note_failure(address.ip(), &format!("TLS handshake: {error}")),
                Err(_) => admission.note_failure(address.ip(), &format!("TLS handshake took longer than {} s", within.as_secs())),
            }
        });
    }
}

impl TlsIo {
    /// Finds a seat for a connection: by its identity, or else among those of its address.
    fn admit(stream: TlsStream<TcpStream>, address: SocketAddr, admission: Admission) -> Option<Self> {
        let mut peer = PeerInfo::of(address, stream.get_ref().1.peer_certificates());
        let named = (peer.identity != Identity::None).then(|| peer.identity.uri());
        let (standing, watch) = match named.and_then(|identity| admission.identified(&identity)) {
            Some(seat) => (Standing::identified(admission.clone(), seat), None),
            None => {
                let (seat, evicted) = admission.outsider(address.ip())?;
                let standing = Standing::outsider(admission.clone(), seat);
                let deadline = Box::pin(sleep(admission.limits().unidentified));
                (standing, Some(Watch { evicted, deadline }))
            }
        };
        peer.standing = Some(standing.clone());
        Some(Self {
            stream,
            peer,
            standing,
            admission,
            watch,
        })
    }

    /// An error as soon as the connection may not stay.
    fn may_stay(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        let Some(watch) = &mut self.watch else { return Ok(()) };
        if let Poll::Ready(evicted) = Pin::new(&mut watch.evicted).poll(cx) {
            self.watch = None;
            // Without a word the seat is not needed any more: the peer is identified.
            return match evicted {
                Ok(()) => {
                    self.admission.note_eviction(self.peer.address.ip());
                    Err(io::Error::new(
                        io::ErrorKind::ConnectionAborted,
                        "the connection made room for another",
                    ))
                }
                Err(_) => Ok(()),
            };
        }
        while watch.deadline.as_mut().poll(cx).is_ready() {
            match self.standing.ends_at() {
                None => {
                    self.watch = None;
                    return Ok(());
                }
                Some(at) if at <= tokio::time::Instant::now() => {
                    let why = "no identity and no finished request in time";
                    self.admission.note_failure(self.peer.address.ip(), why);
                    return Err(io::Error::new(io::ErrorKind::TimedOut, why));
                }
                Some(at) => watch.deadline = Box::pin(sleep_until(at)),
            }
        }
        Ok(())
    }
}

impl AsyncRead for TlsIo {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.may_stay(cx)?;
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for TlsIo {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.may_stay(cx)?;
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.may_stay(cx)?;
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
