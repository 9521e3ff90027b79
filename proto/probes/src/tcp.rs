//! A TCP probe: the connection is made, and that is all.

use proto_model::probe::TcpCheck;

use crate::address::AddressRule;
use crate::check::{Answer, connect};

pub(crate) async fn ask(check: &TcpCheck, rule: &AddressRule) -> Answer {
    let parsed = check
        .address
        .rsplit_once(':')
        .and_then(|(host, port)| Some((host.trim_matches(['[', ']']), port.parse::<u16>().ok()?)));
    let Some((host, port)) = parsed else {
        return Answer::Missing(format!("{:?} is not host:port", check.address));
    };
    match connect(host, port, rule).await {
        Ok(_) => Answer::Good,
        Err(answer) => answer,
    }
}
