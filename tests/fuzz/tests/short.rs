//! A short run of every fuzz target: each file of its corpus as it is, then files that were changed at random for some seconds.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use agent_link::testing::ReadRequest;
use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::{Config, RngAlgorithm, TestError, TestRng, TestRunner};
use tests_fuzz::{TARGETS, Target};

/// How many seconds each target runs; more by FRACAS_FUZZ_SECONDS.
const SECONDS: u64 = 3;
const LEAST_INPUTS: u64 = 20;
const LEAST_REQUESTS: usize = 9;
const MAX_EDITS: usize = 12;

/// One change of a file.
#[derive(Debug, Clone)]
enum Edit {
    Set(Index, u8),
    Insert(Index, Vec<u8>),
    Remove(Index, u8),
    /// A part of another file of the corpus, and where from and to.
    Splice(Index, Index, Index, u8),
    /// A part of the file itself, again and again.
    Repeat(Index, u8, u8),
}

fn edit() -> impl Strategy<Value = Edit> {
    // What means something to the readers: ends of ranges, separators, markers of YAML, numbers and text out of range.
    let words: [&[u8]; 16] = [
        b"*a",
        b"&a ",
        b"<<: ",
        b"{{",
        b"}}",
        b"\n- ",
        b": ",
        b"!=",
        b" notin (",
        b"18446744073709551616",
        b"-1",
        b"1e999",
        b"\xff\xff\xff\xff",
        b"\x00",
        b"::ffff:1.2.3.4",
        b"\xe2\x80\xae",
    ];
    let word = prop::sample::select(words.to_vec()).prop_map(<[u8]>::to_vec);
    prop_oneof![
        (any::<Index>(), any::<u8>()).prop_map(|(at, byte)| Edit::Set(at, byte)),
        (any::<Index>(), prop_oneof![word, prop::collection::vec(any::<u8>(), 1..8)]).prop_map(|(at, bytes)| Edit::Insert(at, bytes)),
        (any::<Index>(), any::<u8>()).prop_map(|(at, length)| Edit::Remove(at, length)),
        (any::<Index>(), any::<Index>(), any::<Index>(), any::<u8>())
            .prop_map(|(file, from, to, length)| Edit::Splice(file, from, to, length)),
        (any::<Index>(), any::<u8>(), 1..16_u8).prop_map(|(at, length, times)| Edit::Repeat(at, length, times)),
    ]
}

fn change(corpus: &[Vec<u8>], bytes: &mut Vec<u8>, edit: &Edit) {
    let part = |of: &[u8], at: usize, length: u8| of[at..].iter().take(length.into()).copied().collect::<Vec<u8>>();
    let place = |at: &Index, bytes: &[u8]| at.index(bytes.len() + 1);
    match edit {
        Edit::Set(at, byte) if !bytes.is_empty() => {
            let at = at.index(bytes.len());
            bytes[at] = *byte;
        }
        Edit::Set(_, byte) => bytes.push(*byte),
        Edit::Insert(at, more) => {
            let at = place(at, bytes);
            bytes.splice(at..at, more.iter().copied());
        }
        Edit::Remove(at, length) => {
            let at = place(at, bytes);
            bytes.drain(at..bytes.len().min(at + usize::from(*length)));
        }
        Edit::Splice(file, from, to, length) => {
            let other = file.get(corpus);
            let (more, at) = (part(other, place(from, other), *length), place(to, bytes));
            bytes.splice(at..at, more);
        }
        Edit::Repeat(at, length, times) => {
            let at = place(at, bytes);
            let more = part(bytes, at, *length).repeat((*times).into());
            bytes.splice(at..at, more);
        }
    }
}

fn folder(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target)
}

fn corpus(target: &str) -> Vec<(String, Vec<u8>)> {
    let entries = fs::read_dir(folder(target)).expect("every target has a corpus");
    let paths = entries.map(|entry| entry.expect("an entry").path());
    let mut files: Vec<(String, Vec<u8>)> = paths
        .map(|path| (path.display().to_string(), fs::read(&path).expect("read the corpus")))
        .collect();
    files.sort();
    files
}

fn holds(target: Target, bytes: &[u8]) -> Result<(), String> {
    catch_unwind(AssertUnwindSafe(|| target(bytes))).map_err(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()))
            .unwrap_or_default()
    })
}

fn run(name: &str) {
    let target = TARGETS.iter().find(|(known, _)| *known == name).expect("a target").1;
    let files = corpus(name);
    assert!(!files.is_empty(), "the corpus of {name} is empty");
    for (path, bytes) in &files {
        holds(target, bytes).unwrap_or_else(|why| panic!("{path}: {why}"));
    }
    let files: Vec<Vec<u8>> = files.into_iter().map(|(_, bytes)| bytes).collect();
    let seconds = std::env::var("FRACAS_FUZZ_SECONDS")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(SECONDS);
    let (begun, time) = (Instant::now(), Duration::from_secs(seconds));
    // The same inputs every time unless more time is asked for: a failure of the tests is one that can be repeated.
    let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let config = Config {
        cases: u32::MAX,
        failure_persistence: None,
        ..Config::default()
    };
    let mut runner = TestRunner::new_with_rng(config, rng);
    let inputs = (any::<Index>(), prop::collection::vec(edit(), 1..MAX_EDITS)).prop_map(|(file, edits)| {
        let mut bytes = file.get(&files).clone();
        edits.iter().for_each(|edit| change(&files, &mut bytes, edit));
        bytes
    });
    let mut count = 0_u64;
    // At least some, however busy the machine is.
    while begun.elapsed() < time || count < LEAST_INPUTS {
        let input = inputs.new_tree(&mut runner).expect("an input");
        count += 1;
        if let Err(TestError::Fail(why, bytes)) = runner
            .run_one(input, |bytes| holds(target, &bytes).map_err(TestCaseError::fail))
            .map(drop)
        {
            let kept = std::env::temp_dir().join(format!("fracas-fuzz-{name}-{}", std::process::id()));
            fs::write(&kept, &bytes).expect("keep the input");
            panic!(
                "{name}: {why}\nthe input is {}; keep it in {}: {:?}",
                kept.display(),
                folder(name).display(),
                String::from_utf8_lossy(&bytes)
            );
        }
    }
    println!("{name}: {count} inputs in {time:?}");
}

#[test]
fn experiment() {
    run("experiment");
}

#[test]
fn journal() {
    run("journal");
}

#[test]
fn request() {
    run("request");
}

#[test]
fn selector() {
    run("selector");
}

#[test]
fn undo() {
    run("undo");
}

#[test]
fn wire() {
    run("wire");
}

/// Where the requests change, their corpus does as well: a target whose whole corpus is refused checks little.
#[test]
fn the_corpus_of_requests_holds_requests() {
    let files = corpus("request");
    let read = files.iter().filter(|(_, bytes)| ReadRequest::decode(bytes).is_some());
    assert!(read.count() >= LEAST_REQUESTS);
}

#[test]
fn every_target_has_a_test_and_a_harness_for_cargo_fuzz() {
    let own = include_str!("short.rs");
    for (name, _) in TARGETS {
        assert!(own.contains(&format!("run(\"{name}\")")), "{name} has no test");
        let harness = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("cargo/fuzz_targets/{name}.rs"));
        assert!(harness.is_file(), "{} is missing", harness.display());
    }
}
