//! Choosing among hosts by a seed: the same seed and the same hosts give the same answer, in whatever order they come.
//!
//! Every host gets a score from the seed and its name (FNV-1a over both, finished by SplitMix64's mixer); the lowest
//! scores are chosen. So choosing three includes the choice of two, and a host that joins disturbs nobody else's score.

use std::collections::BTreeMap;

use proto_model::host::Host;

/// Seeds fit in 53 bits, so that every reader of JSON keeps them whole.
const SEED_MASK: u64 = (1 << 53) - 1;

/// A seed of its own for one injection.
pub(crate) fn injection_seed(seed: u64, step: &str, host: &str) -> u64 {
    score(seed, &[step, host]) & SEED_MASK
}

/// `count` of the candidates, in the order of their names; all of them when there are fewer.
pub(crate) fn choose<'a>(candidates: &[&'a Host], count: usize, seed: u64, spread: Option<&str>) -> Vec<&'a Host> {
    let mut ranked = candidates.to_vec();
    ranked.sort_by_cached_key(|host| (score(seed, &[host.name.as_str()]), host.name.clone()));
    if let Some(label) = spread {
        ranked = dealt_out(ranked, label);
    }
    ranked.truncate(count);
    ranked.sort_by(|a, b| a.name.cmp(&b.name));
    ranked
}

/// The first of every group, then the second of every group, and so on; groups in the order of their first.
fn dealt_out<'a>(ranked: Vec<&'a Host>, label: &str) -> Vec<&'a Host> {
    let mut seen: BTreeMap<Option<&str>, usize> = BTreeMap::new();
    let mut rounds: Vec<(usize, &Host)> = Vec::with_capacity(ranked.len());
    for host in ranked {
        let round = seen.entry(host.labels.get(label).map(String::as_str)).or_default();
        rounds.push((*round, host));
        *round += 1;
    }
    rounds.sort_by_key(|(round, _)| *round);
    rounds.into_iter().map(|(_, host)| host).collect()
}

fn score(seed: u64, words: &[&str]) -> u64 {
    const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0000_0100_0000_01b3;
    let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(PRIME);
    let mut hash = seed.to_le_bytes().into_iter().fold(OFFSET, step);
    for word in words {
        hash = step(word.bytes().fold(hash, step), 0);
    }
    mixed(hash)
}

/// The output function of SplitMix64 (Steele, Lea, Flood 2014).
fn mixed(mut z: u64) -> u64 {
    z = z.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mixer_is_splitmix64() {
        assert_eq!(mixed(0), 0xe220_a839_7b1d_cdaf);
    }

    #[test]
    fn words_do_not_run_together() {
        assert_ne!(score(1, &["ab", "c"]), score(1, &["a", "bc"]));
        assert_ne!(injection_seed(1, "steps[0]", "web"), injection_seed(2, "steps[0]", "web"));
        assert!(injection_seed(u64::MAX, "steps[0]", "web") <= SEED_MASK);
    }
}
