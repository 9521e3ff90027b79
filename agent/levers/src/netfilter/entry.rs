//! How packets get from a base chain into an injection's own chains: by the addresses in the packet, or where this host translates
//! those (DNAT) by the other ones of the connection.

use agent_view::net::names::{Base, SetRole};
use proto_model::id::InjectionId;

use super::expressions::Match;
use super::field::{Family, Field};
use crate::traffic::{Fate, TrafficSpec};

/// The sets of the peers' addresses.
pub(super) const PEERS: [(Family, SetRole); 2] = [(Family::V4, SetRole::Peers4), (Family::V6, SetRole::Peers6)];

/// Where the other side of a packet is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Remote {
    /// In the packet, as it is at this hook.
    Header,
    /// What this host dialled.
    Opened,
    /// The peer that answers in its place.
    Answered,
}

impl Remote {
    pub fn address(self, base: Base, family: Family) -> Field {
        match self {
            Self::Header if base.is_out() => Field::Destination(family),
            Self::Header => Field::Source(family),
            Self::Opened => Field::Opened(family),
            Self::Answered => Field::Answered(family),
        }
    }

    pub fn port(self, base: Base) -> Field {
        match self {
            Self::Header if base.is_out() => Field::DestinationPort,
            Self::Header => Field::SourcePort,
            Self::Opened => Field::OpenedPort,
            Self::Answered => Field::AnsweredPort,
        }
    }
}

/// One chain of the injection's own, and what leads there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub base: Base,
    pub chain: String,
    /// By what a packet is one of a peer's here.
    pub remote: Remote,
    /// The other side of the same packet behind or before this host's translation; unknown where connections are not tracked.
    other: Option<Remote>,
    /// A packet that is a peer's by the other one as well belongs to another chain: none is counted or harmed twice.
    is_second: bool,
}

impl Entry {
    /// The chains at this hook. Where connections are tracked, their addresses may be translated between our hooks: what leaves is
    /// translated behind our first chain, what comes in is translated back behind it, and our last ones see the other address.
    pub fn all_of(base: Base, injection: &InjectionId, spec: &TrafficSpec, tracked: bool) -> Vec<Self> {
        let other = match base {
            _ if !tracked => None,
            // What leaves is not tracked yet.
            Base::Out => None,
            Base::OutTranslated | Base::OutSeen | Base::In => Some(Remote::Opened),
            Base::InSeen => Some(Remote::Answered),
        };
        let first = Self {
            base,
            chain: base.chain_of(injection),
            remote: Remote::Header,
            other,
            is_second: false,
        };
        match (base, other) {
            // A copy that a worker sends again would not be taken for a packet of the same connection.
            (Base::OutTranslated, None) => Vec::new(),
            (Base::OutTranslated, _) if matches!(spec.fate, Fate::Queue(_)) => Vec::new(),
            (Base::OutTranslated, _) => vec![Self { is_second: true, ..first }],
            (_, None) => vec![first],
            (_, Some(remote)) => {
                let second = Self {
                    base,
                    chain: base.translated_chain_of(injection),
                    remote,
                    other: Some(Remote::Header),
                    is_second: true,
                };
                vec![first, second]
            }
        }
    }

    /// By what a packet of this chain would be another chain's.
    pub fn unless(&self) -> Option<Remote> {
        self.other.filter(|_| self.is_second)
    }

    /// What leads a packet from the base chain here, for each family.
    pub fn doors(&self, injection: &InjectionId) -> impl Iterator<Item = Vec<Match>> + use<> {
        let (base, remote) = (self.base, self.remote);
        let translated = self.is_second.then(|| own_translation(base));
        let peers = PEERS.map(|(family, role)| (family, role.set_of(injection)));
        peers.into_iter().map(move |(family, set)| {
            let peer = Match::InSet(remote.address(base, family), set);
            in_family(family, translated.clone().into_iter().flatten(), peer)
        })
    }

    /// Where the other side of a packet is known from on this chain.
    pub fn remotes(&self) -> impl Iterator<Item = Remote> + use<> {
        std::iter::once(self.remote).chain(self.other)
    }

    /// Both ports of a packet, and where connections are tracked the port that was dialled and the one that answers. These two are in
    /// the header as well where nothing is translated, so neither the packet's way nor a translation is asked for.
    pub fn ports(&self) -> impl Iterator<Item = Field> + use<> {
        let tracked = self.other.map(|_| [Field::OpenedPort, Field::AnsweredPort]);
        let header = [Field::SourcePort, Field::DestinationPort].into_iter();
        header.chain(tracked.into_iter().flatten())
    }

    /// By what a packet of this family is recognised whose other side is in a set, translated or not. Only exemptions ask this, so it is
    /// wider than the doors: a router's report about an exempted host is exempted as well, and so is what IPVS translates unmarked,
    /// where it lets its connections be tracked (net.ipv4.vs.conntrack).
    pub fn recognised(&self, family: Family, set: &str) -> impl Iterator<Item = Vec<Match>> + use<> {
        let (base, set) = (self.base, set.to_owned());
        self.remotes().map(move |remote| {
            let connection = (remote != Remote::Header).then(|| opened_here(base));
            in_family(family, connection, Match::InSet(remote.address(base, family), set.clone()))
        })
    }
}

/// Connections that this host opened: the destination of their first packet is the other side.
fn opened_here(base: Base) -> Match {
    Match::Tracked { answer: !base.is_out() }
}

/// Those whose destination it translates as well: only there does the other side have two addresses.
fn own_translation(base: Base) -> [Match; 2] {
    [opened_here(base), Match::Translated]
}

fn in_family(family: Family, connection: impl IntoIterator<Item = Match>, condition: Match) -> Vec<Match> {
    std::iter::once(Match::Family(family))
        .chain(connection)
        .chain([condition])
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::traffic::example;

    #[test]
    fn a_second_way_is_for_translated_connections_and_none_is_there_without_tracking() {
        let (injection, spec) = (InjectionId::generate(), example());
        let mut chains = Vec::new();
        for entry in Base::ALL.into_iter().flat_map(|base| Entry::all_of(base, &injection, &spec, true)) {
            for door in entry.doors(&injection) {
                assert_eq!(door.contains(&Match::Translated), entry.unless().is_some(), "{entry:?}: {door:?}");
            }
            chains.push(entry.chain);
        }
        let mut different = chains.clone();
        different.sort();
        different.dedup();
        assert_eq!((chains.len(), different.len()), (8, 8), "{chains:?}");
        let untracked = Base::ALL.into_iter().flat_map(|base| Entry::all_of(base, &injection, &spec, false));
        for entry in untracked {
            assert_eq!((entry.remote, entry.unless()), (Remote::Header, None), "{entry:?}");
        }
    }

    #[test]
    fn an_exemption_asks_for_no_translation() {
        let (injection, spec) = (InjectionId::generate(), example());
        for entry in Base::ALL.into_iter().flat_map(|base| Entry::all_of(base, &injection, &spec, true)) {
            let set = SetRole::Except4.set_of(&injection);
            let exempted: Vec<_> = entry.recognised(Family::V4, &set).collect();
            assert_eq!(exempted.len(), entry.remotes().count(), "{entry:?}");
            for (matches, remote) in exempted.iter().zip(entry.remotes()) {
                let opened_here = matches.contains(&Match::Tracked {
                    answer: !entry.base.is_out(),
                });
                assert_eq!(opened_here, remote != Remote::Header, "{entry:?}: {matches:?}");
                assert!(!matches.contains(&Match::Translated), "{entry:?}: {matches:?}");
            }
        }
    }
}
