//! A TCP probe: the connection is made, and that is all.

use std::net::Ipv6Addr;

use proto_model::problem::{Problem, Problems};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::address::AddressRule;
use crate::answer::{Answer, Told};
use crate::connect::connect;
use crate::kind::{Example, Probe};

pub(crate) struct Tcp;

#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct TcpParams {
    /// HOST:PORT, such as 10.0.0.5:6379, db.example:5432 or [fd00::1]:6379.
    address: String,
}

impl Probe for Tcp {
    const KIND: &'static str = "tcp";
    const SUMMARY: &'static str = "a connection is made";
    const SHORTHAND: &'static str = "address";
    type Params = TcpParams;

    fn examples() -> Vec<Example<TcpParams>> {
        let params = TcpParams {
            address: "10.0.0.9:5432".to_owned(),
        };
        vec![Example {
            says: "the database takes connections",
            params,
        }]
    }

    fn validate(params: &TcpParams) -> Result<(), Problems> {
        if split(&params.address).is_some() {
            return Ok(());
        }
        let problem = Problem::new("params.address", format!("{:?} is not an address", params.address));
        Err(Problems::one(problem.allowed("HOST:PORT, such as 10.0.0.5:6379")))
    }

    fn authority(params: &TcpParams) -> Option<&str> {
        Some(&params.address)
    }

    async fn ask(params: &TcpParams, rule: &AddressRule) -> Told {
        let answer = match split(&params.address) {
            Some((host, port)) => connect(host, port, rule).await.map_or_else(|answer| answer, |_| Answer::Good),
            None => Answer::Missing(format!("{:?} is not host:port", params.address)),
        };
        (answer, None)
    }
}

/// `host:port`, `[fd00::1]:port`.
pub(crate) fn split(text: &str) -> Option<(&str, u16)> {
    let (host, port) = text.rsplit_once(':')?;
    let bare = match host.strip_prefix('[') {
        Some(rest) => rest.strip_suffix(']').filter(|inner| inner.parse::<Ipv6Addr>().is_ok()),
        None => Some(host).filter(|host| !host.is_empty() && host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b))),
    };
    let port = port.parse::<u16>().ok().filter(|port| *port > 0)?;
    Some((bare?, port))
}
