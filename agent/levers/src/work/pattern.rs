//! What a worker writes where the content must not matter: every page differs, and none can be packed or merged; it decides no place.

/// The smallest page of every kernel that we run on, in words of eight bytes.
pub(crate) const PAGE_WORDS: usize = 512;
pub(crate) const PAGE: u64 = 4_096;
/// Spreads consecutive page numbers over all bits.
const ODD: u64 = 0x9e37_79b9_7f4a_7c15;

/// One page of noise, varied by number.
pub(crate) struct Pattern([u64; PAGE_WORDS]);

impl Pattern {
    pub(crate) fn new(seed: u64) -> Self {
        let mut state = seed | 1;
        Self([(); PAGE_WORDS].map(|()| {
            state = state.wrapping_add(ODD);
            let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            mixed ^ (mixed >> 31)
        }))
    }

    /// Writes pages from number `first` on.
    pub(crate) fn write(&self, first: u64, words: &mut [u64]) {
        for (number, page) in (first..).zip(words.chunks_mut(PAGE_WORDS)) {
            let vary = number.wrapping_mul(ODD);
            for (word, noise) in page.iter_mut().zip(&self.0) {
                *word = noise ^ vary;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn no_two_pages_and_hardly_two_words_are_the_same() {
        let mut words = vec![0; PAGE_WORDS * 64];
        Pattern::new(7).write(3, &mut words);
        assert_eq!(words.iter().collect::<BTreeSet<_>>().len(), words.len());
        assert_eq!(words.chunks(PAGE_WORDS).collect::<BTreeSet<_>>().len(), 64);
    }
}
