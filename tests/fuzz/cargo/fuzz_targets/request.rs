//! Coverage-guided run of the target `request`; what it checks is in tests/fuzz/src.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let target = tests_fuzz::TARGETS.iter().find(|(name, _)| *name == "request");
    target.expect("a target of this name").1(bytes);
});
