//! An HTTP probe: a new connection each time, one GET, the whole body, no redirect followed.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use http::{Request, Uri};
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::rt::TokioIo;
use proto_model::problem::Problems;
use rustls_pki_types::ServerName;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;

use crate::address::AddressRule;
use crate::answer::{Answer, Told};
use crate::connect::connect;
use crate::kind::{Example, Probe};
use crate::url;

/// The largest body that is read: 1 MiB.
const MAX_BODY: usize = 1 << 20;

pub(crate) struct Http;

#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct HttpParams {
    /// http:// or https://, without a user name or a password.
    url: String,
    /// The status that is good; 200 if left out.
    #[serde(default = "ok")]
    #[schemars(range(min = 100, max = 599))]
    status: u16,
    /// A text that the body must contain.
    contains: Option<String>,
}

fn ok() -> u16 {
    200
}

impl Probe for Http {
    const KIND: &'static str = "http";
    const SUMMARY: &'static str = "the status is the expected one and the body, read whole, contains the text; redirects are not followed";
    const SHORTHAND: &'static str = "url";
    type Params = HttpParams;

    fn examples() -> Vec<Example<HttpParams>> {
        let params = |url: &str, status, contains: Option<&str>| HttpParams {
            url: url.to_owned(),
            status,
            contains: contains.map(str::to_owned),
        };
        vec![
            Example {
                says: "the page answers with status 200",
                params: params("http://10.0.0.5:8080/health", 200, None),
            },
            Example {
                says: "the maintenance page is up, with its text",
                params: params("https://web.example/", 503, Some("back soon")),
            },
        ]
    }

    fn validate(params: &HttpParams) -> Result<(), Problems> {
        url::problem("params.url", &params.url).map_or(Ok(()), |problem| Err(Problems::one(problem)))
    }

    fn authority(params: &HttpParams) -> Option<&str> {
        url::authority(&params.url)
    }

    async fn ask(params: &HttpParams, rule: &AddressRule) -> Told {
        (answer(params, rule).await, None)
    }
}

async fn answer(check: &HttpParams, rule: &AddressRule) -> Answer {
    match fetch(&check.url, rule).await {
        Ok((status, _)) if status != check.status => Answer::Bad(format!("status {status}; expected {}", check.status)),
        Ok((_, body)) => match &check.contains {
            Some(text) if !contains(&body, text.as_bytes()) => Answer::Bad(format!("the body does not contain {text:?}")),
            _ => Answer::Good,
        },
        Err(answer) => answer,
    }
}

/// One GET: the status and the whole body.
pub(crate) async fn fetch(url: &str, rule: &AddressRule) -> Result<(u16, Bytes), Answer> {
    let missing = |why: String| Err(Answer::Missing(why));
    let Ok(uri) = url.parse::<Uri>() else {
        return missing(format!("{url:?} is not a URL"));
    };
    let tls = match uri.scheme_str() {
        Some("http") => false,
        Some("https") => true,
        _ => return missing(format!("{url:?} begins with neither http:// nor https://")),
    };
    let Some(host) = uri.host().map(|h| h.trim_matches(['[', ']']).to_owned()) else {
        return missing(format!("{url:?} names no host"));
    };
    let port = uri.port_u16().unwrap_or(if tls { 443 } else { 80 });
    let stream = connect(&host, port, rule).await?;
    if !tls {
        return get(stream, &uri).await.map_err(Answer::Bad);
    }
    let Ok(name) = ServerName::try_from(host.clone()) else {
        return missing(format!("{host:?} is not a name that a certificate can carry"));
    };
    match TlsConnector::from(tls_config()).connect(name, stream).await {
        Ok(stream) => get(stream, &uri).await.map_err(Answer::Bad),
        Err(error) => Err(Answer::Bad(format!("TLS with {host}: {error}"))),
    }
}

async fn get<S>(stream: S, uri: &Uri) -> Result<(u16, Bytes), String>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|e| format!("speak HTTP: {e}"))?;
    // The connection ends with the sender, which lives no longer than this call and its timeout.
    let driver = tokio::spawn(connection);
    let authority = uri.authority().map(|a| a.as_str()).unwrap_or_default();
    let path = uri.path_and_query().map_or("/", |p| p.as_str());
    let request = Request::get(path)
        .header("host", authority)
        .header("user-agent", "fracas-probe")
        .body(Empty::<Bytes>::new())
        .map_err(|e| format!("build the request: {e}"))?;
    let answer = async {
        let response = sender.send_request(request).await.map_err(|e| format!("ask: {e}"))?;
        let status = response.status().as_u16();
        let body = Limited::new(response.into_body(), MAX_BODY)
            .collect()
            .await
            .map_err(|e| format!("read the body (at most 1 MiB): {e}"))?;
        Ok((status, body.to_bytes()))
    };
    let guard = AbortOnDrop(driver);
    let result = answer.await;
    drop(guard);
    result
}

/// A timed-out probe must not leave its connection behind.
struct AbortOnDrop<T>(tokio::task::JoinHandle<T>);

impl<T> Drop for AbortOnDrop<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn contains(body: &[u8], text: &[u8]) -> bool {
    text.is_empty() || body.windows(text.len()).any(|window| window == text)
}

/// The system's own trust store, read once at the first https probe.
fn tls_config() -> Arc<rustls::ClientConfig> {
    static CONFIG: OnceLock<Arc<rustls::ClientConfig>> = OnceLock::new();
    let make = || {
        let mut roots = rustls::RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        Arc::new(rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth())
    };
    CONFIG.get_or_init(make).clone()
}
