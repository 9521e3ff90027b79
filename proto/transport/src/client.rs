//! Dialling: to the controller over TLS 1.3 with our own trust, or over its socket on the same machine.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use http::Uri;
use hyper_util::rt::TokioIo;
use rustls::crypto::aws_lc_rs;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use tokio::net::{TcpSocket, TcpStream, UnixStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::transport::{Channel, Endpoint};
use tower::service_fn;

use crate::error::TransportError;
use crate::identity::{fingerprint_of, fingerprint_of_key};
use crate::trust::Trust;
use crate::verify::{OurController, lives};

const CONNECT_WITHIN: Duration = Duration::from_secs(5);
const KEEPALIVE_EVERY: Duration = Duration::from_secs(10);
const KEEPALIVE_WITHIN: Duration = Duration::from_secs(20);

/// What to show.
#[derive(Clone)]
pub struct ClientIdentity {
    pub certificate: CertificateDer<'static>,
    pub key_pem: String,
}

impl ClientIdentity {
    /// True when the certificate is for this very key.
    pub fn is_whole(&self) -> bool {
        use rcgen::PublicKeyData;
        let key = rcgen::KeyPair::from_pem(&self.key_pem).ok();
        let of_key = key.map(|key| fingerprint_of(&key.subject_public_key_info()));
        of_key.is_some() && of_key == fingerprint_of_key(&self.certificate)
    }
}

/// Connects to `host:port`.
pub async fn connect(address: &str, trust: Trust, identity: Option<&ClientIdentity>) -> Result<Channel, TransportError> {
    let name = server_name(address, &trust)?;
    let tls = TlsConnector::from(Arc::new(client_config(trust, identity)?));
    let dial = address.to_owned();
    let connector = service_fn(move |_: Uri| dial_tls(dial.clone(), name.clone(), tls.clone()));
    let endpoint = endpoint(&format!("http://{address}"))?;
    endpoint
        .connect_with_connector(connector)
        .await
        .map_err(|source| TransportError::Connect {
            address: address.to_owned(),
            source,
        })
}

/// Connects to the controller's socket.
pub async fn connect_unix(path: &Path) -> Result<Channel, TransportError> {
    let socket: PathBuf = path.to_owned();
    let connector = service_fn(move |_: Uri| {
        let socket = socket.clone();
        async move { UnixStream::connect(socket).await.map(TokioIo::new) }
    });
    let endpoint = endpoint("http://controller.local")?;
    endpoint
        .connect_with_connector(connector)
        .await
        .map_err(|source| TransportError::Connect {
            address: path.display().to_string(),
            source,
        })
}

fn endpoint(uri: &str) -> Result<Endpoint, TransportError> {
    let endpoint =
        Endpoint::from_shared(uri.to_owned()).map_err(|_| TransportError::Address(uri.trim_start_matches("http://").to_owned()))?;
    Ok(endpoint
        .connect_timeout(CONNECT_WITHIN)
        .http2_keep_alive_interval(KEEPALIVE_EVERY)
        .keep_alive_timeout(KEEPALIVE_WITHIN)
        .keep_alive_while_idle(true))
}

/// Where the name is not what is checked (see `OurController`), TLS wants one all the same.
fn server_name(address: &str, trust: &Trust) -> Result<ServerName<'static>, TransportError> {
    let name = match trust {
        Trust::Named(_) => address.rsplit_once(':').map_or(address, |(name, _)| name),
        Trust::Authorities(_) | Trust::Fingerprint(_) => "controller.fracas",
    };
    let bare = name.trim_start_matches('[').trim_end_matches(']').to_owned();
    ServerName::try_from(bare).map_err(|_| TransportError::Address(address.to_owned()))
}

async fn dial_tls(address: String, name: ServerName<'static>, tls: TlsConnector) -> std::io::Result<TokioIo<TlsStream<TcpStream>>> {
    let stream = TcpStream::connect(&address).await?;
    Ok(TokioIo::new(shake_hands(stream, name, &tls).await?))
}

/// The bare stream, from a chosen address of this machine: for tools that hold many connections and speak HTTP/2 on them themselves.
pub async fn connect_from(
    from: IpAddr,
    controller: SocketAddr,
    trust: Trust,
    identity: Option<&ClientIdentity>,
) -> Result<TlsStream<TcpStream>, TransportError> {
    let address = controller.to_string();
    let name = server_name(&address, &trust)?;
    let tls = TlsConnector::from(Arc::new(client_config(trust, identity)?));
    let dialled = async {
        let socket = if from.is_ipv4() {
            TcpSocket::new_v4()?
        } else {
            TcpSocket::new_v6()?
        };
        socket.bind(SocketAddr::new(from, 0))?;
        let stream = tokio::time::timeout(CONNECT_WITHIN, socket.connect(controller)).await??;
        shake_hands(stream, name, &tls).await
    };
    dialled.await.map_err(|source| TransportError::Dial { address, source })
}

async fn shake_hands(stream: TcpStream, name: ServerName<'static>, tls: &TlsConnector) -> std::io::Result<TlsStream<TcpStream>> {
    stream.set_nodelay(true)?;
    tokio::time::timeout(CONNECT_WITHIN, tls.connect(name, stream))
        .await
        .map_err(|_| std::io::Error::other("TLS handshake took longer than 5 s"))?
}

fn client_config(trust: Trust, identity: Option<&ClientIdentity>) -> Result<ClientConfig, TransportError> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone()).with_protocol_versions(&[&rustls::version::TLS13])?;
    let builder = match trust {
        Trust::Named(authorities) => {
            let mut roots = RootCertStore::empty();
            let mut living = authorities.into_iter().filter(|authority| lives(authority, UnixTime::now()));
            living.try_for_each(|authority| roots.add(authority))?;
            if roots.is_empty() {
                return Err(TransportError::Invalid(
                    "no authority is trusted any more: each one has ended; ask the controller's administrator for the present one"
                        .to_owned(),
                ));
            }
            builder.with_root_certificates(roots)
        }
        Trust::Authorities(_) | Trust::Fingerprint(_) => builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(OurController::new(trust, provider))),
    };
    let mut config = match identity {
        None => builder.with_no_client_auth(),
        Some(identity) => {
            let key = PrivateKeyDer::from_pem_slice(identity.key_pem.as_bytes())
                .map_err(|e| TransportError::Invalid(format!("read our key: {e}")))?;
            builder.with_client_auth_cert(vec![identity.certificate.clone()], key)?
        }
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}
