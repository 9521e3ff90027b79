//! A DNS probe: a name has addresses, and those that are expected are among them. It asks the system's resolver, or one server.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use hickory_proto::op::{Message, Query, ResponseCode};
use hickory_proto::rr::{Name, RData, RecordType};
use proto_model::problem::{Problem, Problems};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket, lookup_host};

use crate::address::AddressRule;
use crate::answer::{Answer, Told};
use crate::kind::{Example, Probe};

const PORT: u16 = 53;
/// The longest answer that is read of one datagram; longer ones are asked for again over TCP.
const DATAGRAM_BYTES: usize = 4_096;
const MOST_EXPECTED: usize = 32;

pub(crate) struct Dns;

#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct DnsParams {
    /// The name whose addresses (A and AAAA) are looked up.
    name: String,
    /// The server that is asked, IP or IP:PORT; the prober's own resolver if left out.
    server: Option<String>,
    /// Addresses that must be among the answers; any address is good if left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    expect: Vec<String>,
}

impl Probe for Dns {
    const KIND: &'static str = "dns";
    const SUMMARY: &'static str = "the name has an address, and every expected address is among those it has";
    const SHORTHAND: &'static str = "name";
    type Params = DnsParams;

    fn examples() -> Vec<Example<DnsParams>> {
        let params = |server: Option<&str>, expect: &[&str]| DnsParams {
            name: "db.example".to_owned(),
            server: server.map(str::to_owned),
            expect: expect.iter().map(|address| (*address).to_owned()).collect(),
        };
        vec![
            Example {
                says: "the name resolves where the probe runs",
                params: params(None, &[]),
            },
            Example {
                says: "one server answers with the database's address",
                params: params(Some("10.0.0.53"), &["10.0.0.9"]),
            },
        ]
    }

    fn validate(params: &DnsParams) -> Result<(), Problems> {
        let mut problems = Problems::default();
        if let Err(why) = name_of(&params.name) {
            problems.push(Problem::new("params.name", why).allowed("a host name, such as db.example"));
        }
        if let Some(server) = &params.server
            && server_of(server).is_none()
        {
            let problem = Problem::new("params.server", format!("{server:?} is not the address of a server"));
            problems.push(problem.allowed("IP or IP:PORT, such as 10.0.0.53 or [fd00::53]:5353"));
        }
        if params.expect.len() > MOST_EXPECTED {
            let problem = Problem::new("params.expect", format!("has {} addresses", params.expect.len()));
            problems.push(problem.allowed(format!("..{MOST_EXPECTED}")));
        }
        for (i, address) in params.expect.iter().enumerate() {
            if address.parse::<IpAddr>().is_err() {
                let problem = Problem::new(format!("params.expect[{i}]"), format!("{address:?} is not an IP address"));
                problems.push(problem.allowed("such as 10.0.0.9 or fd00::9"));
            }
        }
        problems.into_result()
    }

    fn authority(params: &DnsParams) -> Option<&str> {
        params.server.as_deref()
    }

    async fn ask(params: &DnsParams, rule: &AddressRule) -> Told {
        (answer(params, rule).await, None)
    }
}

/// Absolute: a server has no search list.
fn name_of(text: &str) -> Result<Name, String> {
    let host = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
    if text.is_empty() || !text.bytes().all(host) {
        return Err(format!("{text:?} is not a host name"));
    }
    let mut name = Name::from_ascii(text).map_err(|error| format!("{text:?} is not a host name: {error}"))?;
    name.set_fqdn(true);
    Ok(name)
}

fn server_of(text: &str) -> Option<SocketAddr> {
    let bare = text.parse::<IpAddr>().ok().map(|ip| SocketAddr::new(ip, PORT));
    bare.or_else(|| text.parse().ok())
}

async fn answer(params: &DnsParams, rule: &AddressRule) -> Answer {
    let name = match name_of(&params.name) {
        Ok(name) => name,
        Err(why) => return Answer::Missing(why),
    };
    let found = match &params.server {
        None => resolve(&params.name).await,
        Some(text) => {
            let Some(server) = server_of(text) else {
                return Answer::Missing(format!("{text:?} is not the address of a server"));
            };
            if let Some(why) = rule.refusal(server) {
                return Answer::Missing(why);
            }
            query_both(&name, server).await
        }
    };
    match found {
        Ok(addresses) => judge(params, &addresses),
        Err(why) => Answer::Bad(why),
    }
}

fn judge(params: &DnsParams, addresses: &[IpAddr]) -> Answer {
    if addresses.is_empty() {
        return Answer::Bad(format!("{} has no address", params.name));
    }
    let has = |expected: &str| expected.parse::<IpAddr>().is_ok_and(|expected| addresses.contains(&expected));
    match params.expect.iter().find(|expected| !has(expected)) {
        Some(expected) => {
            let found: Vec<String> = addresses.iter().map(IpAddr::to_string).collect();
            Answer::Bad(format!("{expected} is not among the addresses: {}", found.join(", ")))
        }
        None => Answer::Good,
    }
}

/// By the system's own resolver.
async fn resolve(name: &str) -> Result<Vec<IpAddr>, String> {
    match lookup_host((name, 0)).await {
        Ok(addresses) => Ok(addresses.map(|address| address.ip()).collect()),
        Err(error) => Err(format!("resolve {name}: {error}")),
    }
}

/// A and AAAA; one that fails counts only where the other found nothing.
async fn query_both(name: &Name, server: SocketAddr) -> Result<Vec<IpAddr>, String> {
    let (four, six) = tokio::join!(query(name, RecordType::A, server), query(name, RecordType::AAAA, server));
    match (four, six) {
        (Ok(mut four), Ok(six)) => {
            four.extend(six);
            Ok(four)
        }
        (Ok(found), Err(why)) | (Err(why), Ok(found)) => Some(found).filter(|found| !found.is_empty()).ok_or(why),
        (Err(why), Err(_)) => Err(why),
    }
}

async fn query(name: &Name, kind: RecordType, server: SocketAddr) -> Result<Vec<IpAddr>, String> {
    let failed = |error: io::Error| format!("ask {server}: {error}");
    let mut asked = Message::query();
    asked.metadata.recursion_desired = true;
    asked.add_query(Query::query(name.clone(), kind));
    let bytes = asked.to_vec().map_err(|error| format!("write the query: {error}"))?;
    let mut answer = over_udp(&asked, &bytes, server).await.map_err(failed)?;
    if answer.metadata.truncation {
        answer = over_tcp(&bytes, server).await.map_err(failed)?;
        if !answers(&answer, &asked) {
            return Err(format!("{server} answers another question over TCP"));
        }
    }
    match answer.metadata.response_code {
        ResponseCode::NoError => Ok(addresses(&answer)),
        code => Err(format!("{server} answers {code}")),
    }
}

fn addresses(answer: &Message) -> Vec<IpAddr> {
    let addresses = answer.answers.iter().filter_map(|record| match &record.data {
        RData::A(address) => Some(IpAddr::V4(address.0)),
        RData::AAAA(address) => Some(IpAddr::V6(address.0)),
        _ => None,
    });
    addresses.collect()
}

/// What is not the answer to this question is left lying: somebody else may have sent it.
async fn over_udp(asked: &Message, bytes: &[u8], server: SocketAddr) -> io::Result<Message> {
    let any = match server {
        SocketAddr::V4(_) => SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 0),
        SocketAddr::V6(_) => SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), 0),
    };
    let socket = UdpSocket::bind(any).await?;
    socket.connect(server).await?;
    socket.send(bytes).await?;
    let mut datagram = [0; DATAGRAM_BYTES];
    loop {
        let length = socket.recv(&mut datagram).await?;
        if let Ok(answer) = Message::from_vec(&datagram[..length])
            && answers(&answer, asked)
        {
            return Ok(answer);
        }
    }
}

fn answers(answer: &Message, asked: &Message) -> bool {
    answer.metadata.id == asked.metadata.id && answer.queries == asked.queries
}

async fn over_tcp(bytes: &[u8], server: SocketAddr) -> io::Result<Message> {
    let mut stream = TcpStream::connect(server).await?;
    let length = u16::try_from(bytes.len()).map_err(io::Error::other)?;
    stream.write_all(&[&length.to_be_bytes()[..], bytes].concat()).await?;
    let mut answer = vec![0; usize::from(stream.read_u16().await?)];
    stream.read_exact(&mut answer).await?;
    Message::from_vec(&answer).map_err(io::Error::other)
}
