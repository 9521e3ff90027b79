//! The names of what we make in nf_tables: one table, its base chains, and per injection chains and sets that end in its id.

use std::ffi::CStr;

use proto_model::id::InjectionId;

/// Our only table, in family inet.
pub const TABLE: &CStr = c"fracas";

/// The lasting chains, one per hook and purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Base {
    Out,
    /// Behind the translation of addresses that are dialled.
    OutTranslated,
    In,
    OutSeen,
    InSeen,
}

impl Base {
    pub const ALL: [Self; 5] = [Self::Out, Self::OutTranslated, Self::In, Self::OutSeen, Self::InSeen];

    pub fn name(self) -> &'static str {
        match self {
            Self::Out => "out",
            Self::OutTranslated => "out_translated",
            Self::In => "in",
            Self::OutSeen => "out_seen",
            Self::InSeen => "in_seen",
        }
    }

    /// Netfilter's number of the hook: LOCAL_IN is 1, LOCAL_OUT is 3 (include/uapi/linux/netfilter.h).
    pub fn hook(self) -> u32 {
        match self {
            Self::In | Self::InSeen => 1,
            Self::Out | Self::OutTranslated | Self::OutSeen => 3,
        }
    }

    /// Before raw (-300) and conntrack (-200) to act, and behind destination NAT (-100, firewalld -90) and before filters (0) on what
    /// was translated; after all filters to count what came through.
    pub fn priority(self) -> i32 {
        match self {
            Self::Out | Self::In => -310,
            Self::OutTranslated => -50,
            Self::OutSeen | Self::InSeen => i32::MAX - 16,
        }
    }

    pub fn is_out(self) -> bool {
        matches!(self, Self::Out | Self::OutTranslated | Self::OutSeen)
    }

    pub fn counts_what_passed(self) -> bool {
        matches!(self, Self::OutSeen | Self::InSeen)
    }

    /// The injection's own chain that this one jumps to.
    pub fn chain_of(self, injection: &InjectionId) -> String {
        format!("{}_{injection}", self.name())
    }

    /// The one for packets that are a peer's by their connection's addresses before or after translation, and not by their own.
    pub fn translated_chain_of(self, injection: &InjectionId) -> String {
        format!("translated_{}_{injection}", self.name())
    }
}

/// The sets of one injection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SetRole {
    Peers4,
    Peers6,
    Except4,
    Except6,
    Spared4,
    Spared6,
    RemotePorts,
    LocalPorts,
    SparedPorts,
    /// Numbers of the groups whose sockets are meant.
    Groups,
    /// The group of a worker of ours whose questions are meant as well.
    Prober,
    /// Addresses and ports of the controller.
    Controllers4,
    Controllers6,
    Gate,
}

impl SetRole {
    pub fn set_of(self, injection: &InjectionId) -> String {
        let role = match self {
            Self::Peers4 => "peers4",
            Self::Peers6 => "peers6",
            Self::Except4 => "except4",
            Self::Except6 => "except6",
            Self::Spared4 => "spared4",
            Self::Spared6 => "spared6",
            Self::RemotePorts => "ports",
            Self::LocalPorts => "local_ports",
            Self::SparedPorts => "spared_ports",
            Self::Groups => "groups",
            Self::Prober => "prober",
            Self::Controllers4 => "controllers4",
            Self::Controllers6 => "controllers6",
            Self::Gate => "gate",
        };
        format!("{role}_{injection}")
    }
}

/// Whose chain or set this is.
pub fn injection_of(name: &str) -> Option<InjectionId> {
    let (_, id) = name.rsplit_once('_')?;
    InjectionId::parse(id).ok()
}

/// The last word of a comment on a rule that only counts what a fault may act on.
pub const MET: &str = "met";

const COMMENT: u8 = 0;

/// A rule's user data as the nft tool writes and shows a comment.
pub fn comment_data(text: &str) -> Vec<u8> {
    let text = &text.as_bytes()[..text.len().min(127)];
    let length = u8::try_from(text.len() + 1).unwrap_or(u8::MAX);
    [&[COMMENT, length], text, &[0]].concat()
}

/// The comment in a rule's user data, when there is one.
pub fn comment_of(data: &[u8]) -> Option<String> {
    let mut rest = data;
    while let [kind, length, tail @ ..] = rest {
        let value = tail.get(..usize::from(*length))?;
        if *kind == COMMENT {
            let text = value.strip_suffix(&[0]).unwrap_or(value);
            return String::from_utf8(text.to_vec()).ok();
        }
        rest = &tail[usize::from(*length)..];
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_tells_its_injection_and_lasting_ones_tell_none() {
        let id = InjectionId::generate();
        for base in Base::ALL {
            assert_eq!(injection_of(&base.chain_of(&id)), Some(id.clone()));
            assert_eq!(injection_of(&base.translated_chain_of(&id)), Some(id.clone()));
            assert_eq!(injection_of(base.name()), None);
        }
        for role in [SetRole::Peers4, SetRole::LocalPorts, SetRole::Groups, SetRole::Gate] {
            assert_eq!(injection_of(&role.set_of(&id)), Some(id.clone()));
        }
        assert_eq!(injection_of("in_somebody"), None);
    }

    #[test]
    fn comments_are_read_back_and_nonsense_is_none() {
        assert_eq!(comment_of(&comment_data("fracas x")), Some("fracas x".to_owned()));
        assert_eq!(comment_of(&[]), None);
        assert_eq!(comment_of(&[0, 200, 1]), None);
        assert_eq!(comment_of(&[7, 1, 9, 0, 2, b'a', 0]), Some("a".to_owned()));
    }
}
