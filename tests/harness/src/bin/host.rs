//! The program behind every host of a fleet: its keeper, its first process and its errands; only the harness starts it.

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    tests_harness::inside::main(&arguments)
}
