//! Selectors, peers and quantities as people type them: what is understood means the same when it is written out and read again.

use std::fmt::{Debug, Display};

use proto_model::peer::{Network, Peer};
use proto_model::quantity::{Amount, Bytes, CpuList, Millis, Percent, Pick, PortRange};
use proto_model::selector::Selector;

pub fn check(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    survives(text, |text| Selector::parse(text).ok());
    survives(text, Network::parse);
    survives(text, |text| Peer::parse(text).ok());
    survives(text, |text| Millis::parse(text).ok());
    survives(text, |text| Bytes::parse(text).ok());
    survives(text, |text| Percent::parse(text).ok());
    survives(text, |text| Amount::parse(text).ok());
    survives(text, |text| PortRange::parse(text).ok());
    survives(text, |text| CpuList::parse(text).ok());
    survives(text, |text| Pick::parse(text).ok());
}

fn survives<T: Display + Debug + PartialEq>(text: &str, parse: impl Fn(&str) -> Option<T>) {
    let Some(read) = parse(text) else { return };
    let written = read.to_string();
    let again = parse(&written);
    assert_eq!(again.as_ref(), Some(&read), "{text:?} is written as {written:?}");
}
