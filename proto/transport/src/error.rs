//! What can go wrong before the first message.

use std::path::PathBuf;

#[derive(Debug, thiserror::Error)]
pub enum TransportError {
    #[error("{deed} {}", path.display())]
    File {
        deed: &'static str,
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("{deed}: {source}")]
    Certificate {
        deed: &'static str,
        #[source]
        source: rcgen::Error,
    },
    #[error("set up TLS: {0}")]
    Tls(#[from] rustls::Error),
    #[error("{0} is not host:port")]
    Address(String),
    #[error("connect to {address}: {}", causes(source))]
    Connect {
        address: String,
        #[source]
        source: tonic::transport::Error,
    },
    #[error("connect to {address}: {source}")]
    Dial {
        address: String,
        #[source]
        source: std::io::Error,
    },
    #[error("{0}")]
    Invalid(String),
}

/// The whole chain in one line: the last cause is the one that helps.
fn causes(error: &dyn std::error::Error) -> String {
    let (mut text, mut next) = (error.to_string(), error.source());
    while let Some(cause) = next {
        text = format!("{text}: {cause}");
        next = cause.source();
    }
    text
}
