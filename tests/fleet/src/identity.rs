//! Enrolment of many hosts through the controller's own call, each with a key and an address of its own.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use proto_transport::{ClientIdentity, JoinToken, Trust, csr};
use proto_wire::v1::EnrolRequest;
use proto_wire::v1::enrolment_client::EnrolmentClient;
use rustls_pki_types::CertificateDer;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tonic::Code;

use crate::connection::Connection;

/// The longest one answer may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);
/// How often a host that was sent away for now asks again, and how long it goes on.
const AGAIN_EVERY: Duration = Duration::from_millis(250);
const TRIES: u32 = 4_000;
/// The first simulated host's address is the one after this; 127.0.0.0/8 is all of this machine.
const FIRST_ADDRESS: Ipv4Addr = Ipv4Addr::new(127, 16, 0, 0);

/// An enrolled host: its name, and what it shows to whom.
pub struct Member {
    pub name: String,
    pub address: IpAddr,
    pub number: u32,
    pub(crate) identity: ClientIdentity,
    pub(crate) authority: CertificateDer<'static>,
}

/// How hosts are enrolled.
#[derive(Debug, Clone)]
pub struct Enrolment {
    pub controller: SocketAddr,
    pub token: String,
    /// Hosts are called `PREFIX-NUMBER`.
    pub prefix: String,
    /// The first host's number; numbers give addresses.
    pub first: u32,
    pub hosts: u32,
    /// How many enrol at the same time.
    pub at_once: usize,
}

/// Why a host could not be enrolled.
#[derive(Debug, thiserror::Error)]
pub enum EnrolError {
    #[error("the join token cannot be read")]
    Token,
    #[error("enrol {host}: {why}")]
    Host { host: String, why: String },
}

/// Enrols all of them; the first that cannot be is the error.
pub async fn enrol(enrolment: &Enrolment) -> Result<Vec<Member>, EnrolError> {
    let token = Arc::new(JoinToken::parse(&enrolment.token).map_err(|_| EnrolError::Token)?);
    let turns = Arc::new(Semaphore::new(enrolment.at_once));
    let mut tasks = JoinSet::new();
    for number in enrolment.first..enrolment.first + enrolment.hosts {
        let (token, turns) = (token.clone(), turns.clone());
        let (name, controller) = (format!("{}-{number}", enrolment.prefix), enrolment.controller);
        tasks.spawn(async move {
            let _turn = turns.acquire().await;
            let failed = |why| EnrolError::Host { host: name.clone(), why };
            one(controller, &token, &name, number).await.map_err(failed)
        });
    }
    let mut members = Vec::with_capacity(enrolment.hosts as usize);
    while let Some(joined) = tasks.join_next().await {
        let failed = |error: tokio::task::JoinError| EnrolError::Host {
            host: enrolment.prefix.clone(),
            why: error.to_string(),
        };
        members.push(joined.map_err(failed)??);
    }
    members.sort_by_key(|member| member.number);
    Ok(members)
}

pub(crate) fn address_of(number: u32) -> IpAddr {
    Ipv4Addr::from_bits(FIRST_ADDRESS.to_bits() + 1 + number).into()
}

async fn one(controller: SocketAddr, token: &JoinToken, name: &str, number: u32) -> Result<Member, String> {
    let (key_pem, csr_der) = csr().map_err(|error| error.to_string())?;
    let request = EnrolRequest {
        token: token.to_string(),
        csr_der,
        hostname: name.to_owned(),
        machine_id: format!("{number:032x}"),
        agent_version: env!("CARGO_PKG_VERSION").to_owned(),
    };
    let address = address_of(number);
    let mut last = String::new();
    for _ in 0..TRIES {
        match ask(controller, token, address, &request).await {
            Ok(reply) => {
                let identity = ClientIdentity {
                    certificate: reply.certificate_der.into(),
                    key_pem,
                };
                return Ok(Member {
                    name: reply.host,
                    address,
                    number,
                    identity,
                    authority: reply.authority_der.into(),
                });
            }
            Err((false, why)) => return Err(why),
            Err((true, why)) => last = why,
        }
        sleep(AGAIN_EVERY.mul_f64(0.5 + rand::random::<f64>())).await;
    }
    Err(last)
}

/// True with the reason when asking again may help.
async fn ask(
    controller: SocketAddr,
    token: &JoinToken,
    from: IpAddr,
    request: &EnrolRequest,
) -> Result<proto_wire::v1::EnrolReply, (bool, String)> {
    let trust = Trust::Fingerprint(token.fingerprint.clone());
    let connection = Connection::open(from, controller, trust, None)
        .await
        .map_err(|error| (true, error.to_string()))?;
    let mut client = EnrolmentClient::with_origin(connection, Connection::origin());
    match timeout(ANSWER_WITHIN, client.enrol(request.clone())).await {
        Ok(Ok(reply)) => Ok(reply.into_inner()),
        Ok(Err(status)) => {
            let again = matches!(
                status.code(),
                Code::ResourceExhausted | Code::Unavailable | Code::Unknown | Code::Cancelled
            );
            Err((again, format!("{}: {}", status.code(), status.message())))
        }
        Err(_) => Err((true, "no answer within 30 s".to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_host_has_an_address_of_its_own_on_the_loopback() {
        assert_eq!(address_of(0).to_string(), "127.16.0.1");
        assert_eq!(address_of(99_999).to_string(), "127.17.134.160");
        assert!(address_of(99_999).is_loopback());
    }
}
