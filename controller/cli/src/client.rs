//! The way to a controller: connected when first needed, every call with a deadline; it never retries a deed by itself.

use std::error::Error;
use std::future::Future;
use std::io;
use std::path::Path;
use std::time::Duration;

use proto_model::exit;
use proto_transport::{ClientIdentity, OperatorToken, TransportError, Trust, connect, connect_unix};
use proto_wire::v1::audit_client::AuditClient;
use proto_wire::v1::authority_client::AuthorityClient;
use proto_wire::v1::emergency_client::EmergencyClient;
use proto_wire::v1::evidence_client::EvidenceClient;
use proto_wire::v1::experiments_client::ExperimentsClient;
use proto_wire::v1::faults_client::FaultsClient;
use proto_wire::v1::freezes_client::FreezesClient;
use proto_wire::v1::hosts_client::HostsClient;
use proto_wire::v1::operators_client::OperatorsClient;
use proto_wire::v1::runs_client::RunsClient;
use proto_wire::v1::schedules_client::SchedulesClient;
use proto_wire::v1::tokens_client::TokensClient;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;
use tonic::{Request, Response, Status};

use crate::config::{self, Remote};
use crate::context::{Context, Place};
use crate::failure::{Failure, MAYBE_DONE};
use crate::globals::Globals;

/// How long a call may take that only asks the controller.
pub const ASK: Duration = Duration::from_secs(30);
/// How long a call may take for which hosts are asked or undo faults: less than the 80 s of the controller, so that the word of
/// it is ours.
pub const DEED: Duration = Duration::from_secs(75);
/// The longest history or report that is read.
const MESSAGE_BYTES: usize = 64 << 20;

type Wire = InterceptedService<Channel, Bearer>;

/// A connection to one controller.
pub struct Client {
    pub context: Context,
    wire: Wire,
}

/// Adds the operator's token to each call.
#[derive(Clone)]
pub struct Bearer(Option<MetadataValue<Ascii>>);

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(token) = &self.0 {
            request.metadata_mut().insert("authorization", token.clone());
        }
        Ok(request)
    }
}

macro_rules! services {
    ($($name:ident: $client:ident),*) => {
        $(pub fn $name(&self) -> $client<Wire> {
            $client::new(self.wire.clone()).max_decoding_message_size(MESSAGE_BYTES).max_encoding_message_size(MESSAGE_BYTES)
        })*
    };
}

impl Client {
    pub async fn connect(globals: &Globals) -> Result<Self, Failure> {
        let context = Context::resolve(globals)?;
        let (channel, bearer) = match &context.place {
            Place::Socket(path) => (connect_unix(path).await.map_err(|error| no_socket(path, &error))?, None),
            Place::Remote(remote) => {
                let bearer = bearer(remote)?;
                (by_tls(remote).await?, bearer)
            }
        };
        Ok(Self {
            context,
            wire: InterceptedService::new(channel, Bearer(bearer)),
        })
    }

    services!(experiments: ExperimentsClient, runs: RunsClient, hosts: HostsClient, faults: FaultsClient,
        tokens: TokensClient, operators: OperatorsClient, audit: AuditClient, authority: AuthorityClient, schedules: SchedulesClient,
        freezes: FreezesClient, emergency: EmergencyClient, evidence: EvidenceClient);

    /// Waits for a call's answer, at most `limit`; `deed` completes "cannot ...".
    pub async fn call<T>(
        &self,
        deed: &str,
        limit: Duration,
        call: impl Future<Output = Result<Response<T>, Status>>,
    ) -> Result<T, Failure> {
        match tokio::time::timeout(limit, call).await {
            Ok(answer) => answer.map(Response::into_inner).map_err(|status| Failure::of_call(deed, &status)),
            Err(_) => {
                let place = self.context.address();
                let message = format!(
                    "cannot {deed}: the controller at {place} did not answer within {} s",
                    limit.as_secs()
                );
                Err(Failure::unreachable(message).hint(MAYBE_DONE))
            }
        }
    }
}

/// Names the socket, what is wrong with it, and what to do.
fn no_socket(path: &Path, error: &TransportError) -> Failure {
    let cause = io_cause(error);
    let why = cause.map_or_else(|| error.to_string(), ToString::to_string);
    let hint = match cause.map(io::Error::kind) {
        Some(io::ErrorKind::PermissionDenied) => "run it as root, or as a member of the group fracas-admin",
        Some(io::ErrorKind::ConnectionRefused) => "nobody listens there any more: start it again with `systemctl start fracas-controller`",
        _ => {
            "is fracas-controller running on this machine? start it with `systemctl start fracas-controller`, or choose another controller with --context (see `fracas contexts`)"
        }
    };
    Failure::unreachable(format!("cannot reach the controller at {}: {why}", path.display())).hint(hint)
}

fn io_cause<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a io::Error> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(found) = error.downcast_ref::<io::Error>() {
            return Some(found);
        }
        cause = error.source();
    }
    None
}

async fn by_tls(remote: &Remote) -> Result<Channel, Failure> {
    let (trust, identity) = (trust(remote)?, identity(remote)?);
    connect(&remote.server, trust, identity.as_ref()).await.map_err(|error| {
        if let TransportError::Address(_) = error {
            return Failure::usage(format!(
                "context {:?}: {} is no server: expected HOST:PORT",
                remote.name, remote.server
            ));
        }
        let why = innermost(&error);
        let hint = format!("check the server and ca_file of context {:?} (`fracas contexts`)", remote.name);
        Failure::unreachable(format!("cannot reach the controller at {}: {why}", remote.server)).hint(hint)
    })
}

fn trust(remote: &Remote) -> Result<Trust, Failure> {
    let ca_file = remote.ca_file.as_deref().ok_or_else(|| {
        Failure::local(format!(
            "context {:?} names no ca_file, so its controller cannot be known",
            remote.name
        ))
    })?;
    let unreadable = |why: String| Failure::local(format!("cannot read {}: {why}", ca_file.display()));
    let found = CertificateDer::pem_file_iter(ca_file).map_err(|error| unreadable(error.to_string()))?;
    let authorities: Vec<_> = found.collect::<Result<_, _>>().map_err(|error| unreadable(error.to_string()))?;
    match authorities.is_empty() {
        true => Err(unreadable("it holds no certificate".to_owned())),
        false => Ok(Trust::Named(authorities)),
    }
}

fn identity(remote: &Remote) -> Result<Option<ClientIdentity>, Failure> {
    let (Some(path), Some(key)) = (&remote.certificate_file, &remote.key_file) else {
        return Ok(None);
    };
    let certificate = CertificateDer::from_pem_file(path);
    let certificate = certificate.map_err(|error| Failure::local(format!("cannot read {}: {error}", path.display())))?;
    let key_pem = config::secret(key)?;
    Ok(Some(ClientIdentity { certificate, key_pem }))
}

fn bearer(remote: &Remote) -> Result<Option<MetadataValue<Ascii>>, Failure> {
    let Some(path) = &remote.token_file else { return Ok(None) };
    let token = config::secret(path)?;
    let no_token = |error: &dyn std::fmt::Display| {
        let message = format!("cannot use {}: {error}", path.display());
        let hint = "an administrator makes one with `fracas operators create NAME --role ROLE --token-file FILE`";
        Failure::new(exit::NOT_AUTHENTICATED, "not_authenticated", message).hint(hint)
    };
    let token = OperatorToken::parse(token.trim()).map_err(|error| no_token(&error))?;
    let mut value: MetadataValue<Ascii> = format!("Bearer {token}").parse().map_err(|_| no_token(&"it is no text"))?;
    value.set_sensitive(true);
    Ok(Some(value))
}

fn innermost(error: &(dyn Error + 'static)) -> String {
    let mut last = error;
    while let Some(cause) = last.source() {
        last = cause;
    }
    last.to_string()
}
