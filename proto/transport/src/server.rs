//! Listening: TLS 1.3 with a client certificate asked for, handshakes side by side and bounded, so that a slow client harms nobody.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv6Addr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::server::NoServerSessionStorage;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::server::Connected;

use crate::error::TransportError;
use crate::identity::PeerInfo;
use crate::verify::ClientsOfOurs;

/// How much one listener takes.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    pub handshake: Duration,
    pub handshakes_at_once: usize,
    pub connections_per_address: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            handshake: Duration::from_secs(5),
            handshakes_at_once: 256,
            connections_per_address: 64,
        }
    }
}

/// The listener's certificate, exchangeable while it listens.
#[derive(Clone)]
pub struct ServerTls(Arc<ArcSwap<ServerConfig>>);

impl ServerTls {
    pub fn new(authority: &CertificateDer<'static>, certificate: CertificateDer<'static>, key_pem: &str) -> Result<Self, TransportError> {
        Ok(Self(Arc::new(ArcSwap::from_pointee(config(authority, certificate, key_pem)?))))
    }

    /// New connections get this certificate; those that are up stay.
    pub fn renew(
        &self,
        authority: &CertificateDer<'static>,
        certificate: CertificateDer<'static>,
        key_pem: &str,
    ) -> Result<(), TransportError> {
        self.0.store(Arc::new(config(authority, certificate, key_pem)?));
        Ok(())
    }
}

fn config(
    authority: &CertificateDer<'static>,
    certificate: CertificateDer<'static>,
    key_pem: &str,
) -> Result<ServerConfig, TransportError> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let key =
        PrivateKeyDer::from_pem_slice(key_pem.as_bytes()).map_err(|e| TransportError::Invalid(format!("read the listener's key: {e}")))?;
    let clients = ClientsOfOurs::new(authority, &provider)?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(Arc::new(clients))
        // The authority goes along, so that a newcomer can find the one whose fingerprint it was given.
        .with_single_cert(vec![certificate, authority.clone()], key)?;
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
    _seat: Seat,
}

impl Connected for TlsIo {
    type ConnectInfo = PeerInfo;
    fn connect_info(&self) -> PeerInfo {
        self.peer.clone()
    }
}

/// Accepts until the stream is dropped.
pub fn incoming(listener: TcpListener, tls: ServerTls, limits: Limits) -> ReceiverStream<io::Result<TlsIo>> {
    let (sender, receiver) = mpsc::channel(16);
    tokio::spawn(accept(listener, tls, limits, sender));
    ReceiverStream::new(receiver)
}

async fn accept(listener: TcpListener, tls: ServerTls, limits: Limits, sender: mpsc::Sender<io::Result<TlsIo>>) {
    let handshakes = Arc::new(Semaphore::new(limits.handshakes_at_once));
    let seats = Seats::default();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = sender.closed() => return,
        };
        let (stream, address) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(error = %error, "connection not accepted");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let Some(seat) = seats.take(address.ip(), limits.connections_per_address) else {
            tracing::warn!(%address, limit = limits.connections_per_address, "too many connections from one address");
            continue;
        };
        let Ok(permit) = handshakes.clone().try_acquire_owned() else {
            tracing::warn!(%address, "too many handshakes at once");
            continue;
        };
        let (acceptor, sender) = (TlsAcceptor::from(tls.0.load_full()), sender.clone());
        tokio::spawn(async move {
            let shaken = tokio::time::timeout(limits.handshake, acceptor.accept(stream)).await;
            drop(permit);
            match shaken {
                Ok(Ok(stream)) => {
                    let peer = PeerInfo::of(address, stream.get_ref().1.peer_certificates());
                    let _ = sender.send(Ok(TlsIo { stream, peer, _seat: seat })).await;
                }
                Ok(Err(error)) => tracing::info!(%address, error = %error, "handshake refused"),
                Err(_) => tracing::info!(%address, "handshake too slow"),
            }
        });
    }
}

/// How many connections each address has.
#[derive(Clone, Default)]
struct Seats(Arc<Mutex<HashMap<IpAddr, usize>>>);

impl Seats {
    fn take(&self, address: IpAddr, limit: usize) -> Option<Seat> {
        let address = counted_as(address);
        let mut taken = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = taken.get(&address).copied().unwrap_or_default();
        if count >= limit {
            return None;
        }
        taken.insert(address, count + 1);
        Some(Seat {
            seats: self.clone(),
            address,
        })
    }
}

/// Who has one IPv6 address has its whole /64.
fn counted_as(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(v4) => IpAddr::V4(v4),
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX))),
    }
}

struct Seat {
    seats: Seats,
    address: IpAddr,
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut taken = self.seats.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = taken.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                taken.remove(&self.address);
            }
        }
    }
}

impl AsyncRead for TlsIo {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for TlsIo {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
