//! A connection to a name and port, made only to addresses that may be probed.

use std::net::SocketAddr;

use tokio::net::{TcpStream, lookup_host};

use crate::address::AddressRule;
use crate::answer::Answer;

/// Connects to the first address that answers. A name that does not resolve or may not be probed is `Missing`; a refusal is `Bad`.
pub(crate) async fn connect(host: &str, port: u16, rule: &AddressRule) -> Result<TcpStream, Answer> {
    let addresses: Vec<SocketAddr> = lookup_host((host, port))
        .await
        .map_err(|e| Answer::Missing(format!("resolve {host}: {e}")))?
        .collect();
    let mut last = Answer::Missing(format!("{host} has no address"));
    for address in addresses {
        if let Some(why) = rule.refusal(address) {
            last = Answer::Missing(why);
            continue;
        }
        match TcpStream::connect(address).await {
            Ok(stream) => return Ok(stream),
            Err(error) => last = Answer::Bad(format!("connect to {address}: {error}")),
        }
    }
    Err(last)
}
