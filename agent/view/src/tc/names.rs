//! The names of what we make for shaped paths: a link, filters and a mark per interface; every one tells whose it is.

use proto_model::id::InjectionId;

/// What every link of ours begins with; eight characters of the injection's id follow, which fills the kernel's fifteen.
const LINK_PREFIX: &str = "fracas";
const LINK_ID: usize = 8;
/// What the filters of an injection are called, before its id.
const FILTER_PREFIX: &str = "fracas ";
/// The filter that says that we made a clsact. It lies in a chain of its own that nothing leads to, so no packet meets it.
pub const MARK: &str = "fracas scaffold";
pub const MARK_CHAIN: u32 = 0xf_aca5;

/// The ifb of an injection, and its maps.
pub fn link_of(injection: &InjectionId) -> String {
    format!("{LINK_PREFIX}{}", &injection.as_str()[..LINK_ID])
}

/// Whether a link has a name of ours, whoever's injection it is.
pub fn is_link(name: &str) -> bool {
    let id = name.strip_prefix(LINK_PREFIX);
    id.is_some_and(|id| id.len() == LINK_ID && id.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit()))
}

pub fn filter_of(injection: &InjectionId) -> String {
    format!("{FILTER_PREFIX}{injection}")
}

/// Whose filter this is.
pub fn injection_of(filter: &str) -> Option<InjectionId> {
    InjectionId::parse(filter.strip_prefix(FILTER_PREFIX)?).ok()
}

/// The number of an injection's filters, from its id alone: never zero, for the kernel would choose one then.
pub fn handle_of(injection: &InjectionId) -> u32 {
    // FNV-1a, which stays the same in every version.
    let hash = |seed: u32, byte: u8| (seed ^ u32::from(byte)).wrapping_mul(0x0100_0193);
    injection.as_str().bytes().fold(0x811c_9dc5, hash).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit_the_kernel_and_tell_their_injection() {
        let id = InjectionId::generate();
        assert!(link_of(&id).len() < 16 && is_link(&link_of(&id)));
        assert_eq!(injection_of(&filter_of(&id)), Some(id.clone()));
        assert_eq!(injection_of(MARK), None);
        assert!(handle_of(&id) > 0 && handle_of(&id) == handle_of(&id.clone()));
        for other in ["fracas", "fracas0", "eth0", "fracas-1234567", "ifb0", "fracasABCDEFGH"] {
            assert!(!is_link(other), "{other}");
        }
    }
}
